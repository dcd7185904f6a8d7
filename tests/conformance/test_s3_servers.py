"""S3 as it is: what real servers refuse, a server that ignores the condition, and a network that fails."""

from __future__ import annotations

import itertools
import random
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import google_crc32c
import pytest

from fsnap.errors import ObjectExists, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import Store
from fsnap.stores.probe import probe_conditional_create
from fsnap.stores.retrying import Patience, RetryingStore
from fsnap.stores.urls import open_store
from tests.conformance.support import keys_of, own_prefix
from tests.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.servers import S3Server, free_ports, has_nanio, nanio

pytestmark = pytest.mark.server

EVERY_FAULT = {
    Fault.DELAYED: 0.02,
    Fault.BUSY: 0.06,
    Fault.REFUSED: 0.06,
    Fault.LATE: 0.06,
    Fault.FAILED: 0.06,
    Fault.DEAF: 0.08,
    Fault.CUT: 0.06,
    Fault.FLIPPED_IN: 0.06,
}


@pytest.fixture(params=["seaweedfs", "ministack"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_server")
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    return found


def everything(store: Store) -> dict[str, Callable[[], object]]:
    return {
        "put": lambda: store.put("key", b"x"),
        "create": lambda: store.create("key", b"x"),
        "get": lambda: store.get("key"),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("key"),
        "probe": lambda: probe_conditional_create(store),
    }


class TestRefusals:
    @pytest.mark.parametrize("call", ["put", "create", "get", "list", "probe"])
    def test_no_such_bucket(self, server: S3Server, call: str) -> None:
        store = open_store("s3://no-such-bucket/prefix")
        with pytest.raises(StoreError, match=r"s3 bucket no-such-bucket: .*NoSuchBucket") as failure:
            everything(store)[call]()
        assert type(failure.value) is StoreError
        assert "fsnap makes no buckets" in failure.value.hint
        assert "\n" not in str(failure.value)
        names = [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]]
        assert names == [server.bucket]

    @pytest.mark.parametrize("call", ["put", "create", "get", "list", "delete", "probe"])
    @pytest.mark.parametrize(
        ("variable", "code"),
        [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
    )
    def test_wrong_credentials(
        self, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch, call: str, variable: str, code: str
    ) -> None:
        for name, value in (seaweedfs_server.environment() | {variable: "wrong"}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError, match=f"s3 bucket {seaweedfs_server.bucket}: .*{code}") as failure:
            everything(open_store(seaweedfs_server.url("x")))[call]()
        assert type(failure.value) is StoreError
        assert "AWS_PROFILE" in failure.value.hint

    def test_no_credentials(self, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(StoreError, match="Unable to locate credentials") as failure:
            open_store(server.url()).put("key", b"x")
        assert not failure.value.retryable
        assert "AWS_PROFILE" in failure.value.hint

    def test_nobody_listens(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
        with pytest.raises(StoreUnavailable, match="Could not connect") as failure:
            open_store(server.url()).put("key", b"x")
        assert "AWS_ENDPOINT_URL" in failure.value.hint

    @pytest.mark.parametrize("endpoint", ["127.0.0.1:80", "http://", "http://127.0.0.1:not-a-port"])
    def test_an_endpoint_that_is_none(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match=f"s3 bucket {server.bucket}: ") as failure:
            open_store(server.url()).put("key", b"x")
        assert "\n" not in str(failure.value)

    def test_a_region_named_either_way_is_used(
        self, server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store(server.url(str(uuid4())))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "not a region")
        store.put("key", b"x")
        assert store.get("key") == b"x"


def test_objects_carry_their_checksum(server: S3Server) -> None:
    prefix = str(uuid4())
    open_store(server.url(prefix)).put("key", b"some bytes")
    head = server.client().head_object(Bucket=server.bucket, Key=f"{prefix}/key", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32C"] == b64encode(google_crc32c.Checksum(b"some bytes").digest()).decode()


def test_a_prefix_holds_a_store_apart(server: S3Server) -> None:
    whole, part = open_store(server.url()), open_store(server.url("part"))
    part.put("apart", b"x")
    assert keys_of(part) == ["apart"]
    assert keys_of(whole, "part/") == ["part/apart"]
    with pytest.raises(StoreError):
        whole.get("apart")


def test_a_store_that_ignores_the_condition_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_nanio():
        pytest.skip("nanio is not installed; tools/setup installs what the tests need")
    with nanio(tmp_path) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = open_store(server.url("prefix"))
        store.put("key", b"it does store objects")
        assert store.get("key") == b"it does store objects"
        with pytest.raises(StoreUnfit, match="ignores the create-only condition") as failure:
            probe_conditional_create(store)
        assert failure.value.exit_code == 174
        assert keys_of(store) == ["key"]


class TestBadNetwork:
    """Retries over a proxy that fails in every way it knows, in half of all requests."""

    @pytest.fixture
    def proxy(self, request: pytest.FixtureRequest, server: S3Server) -> Iterator[FaultyProxy]:
        with faulty_proxy(server.endpoint, EVERY_FAULT, seed=getattr(request, "param", 1)) as running:
            yield running

    @pytest.fixture
    def direct(self, server: S3Server, request: pytest.FixtureRequest) -> Store:
        """The store, by the server's own address."""
        store = open_store(server.url(own_prefix(request)))
        list(store.list())  # the client is made now, before the proxy's address is set
        return store

    @pytest.fixture
    def through(self, direct: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> RetryingStore:
        """The same store through the proxy."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        patience = Patience(attempts=60, base_s=0.001, cap_s=0.02)
        return RetryingStore(open_store(direct.url), patience=patience)

    @pytest.mark.parametrize("proxy", [1, 2], indirect=True, ids=lambda seed: f"seed{seed}")
    def test_no_create_is_lost_or_doubled(
        self, server: S3Server, direct: Store, through: RetryingStore, proxy: FaultyProxy
    ) -> None:
        creators, keys = (3, 4) if server.name == "seaweedfs" else (6, 25)

        def create(creator: int, key: str) -> tuple[str, int] | None:
            try:
                through.create(key, f"{creator} ".encode() * 500)
            except ObjectExists:
                return None
            return key, creator

        asked = list(itertools.product(range(creators), (f"journal/{number}" for number in range(keys))))
        random.Random(0).shuffle(asked)
        with ThreadPoolExecutor(creators) as pool:
            won = [outcome for outcome in pool.map(lambda pair: create(*pair), asked) if outcome is not None]
        proxy.settle()
        assert sorted(key for key, _ in won) == sorted(f"journal/{number}" for number in range(keys))
        assert {key: direct.get(key) for key, _ in won} == {
            key: f"{creator} ".encode() * 500 for key, creator in won
        }
        assert proxy.done["clean"] < proxy.done.total()

    def test_every_put_verifies(self, direct: Store, through: RetryingStore, proxy: FaultyProxy) -> None:
        rng = random.Random(5)
        objects = {f"packs/{number}": rng.randbytes(rng.randrange(200_000)) for number in range(40)}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: through.put(key, objects[key]), objects))
            proxy.settle()
            assert {key: direct.get(key) for key in objects} == objects
            assert dict(zip(objects, pool.map(through.get, objects), strict=True)) == objects
        assert all(
            through.get(key, start=1, length=10) == data[1:11] for key, data in objects.items() if data[10:]
        )
        assert keys_of(through) == sorted(objects)
        assert set(proxy.done) == {fault.name for fault in EVERY_FAULT} | {"clean"}

    def test_a_listing_of_several_pages_is_whole(self, direct: Store, through: RetryingStore) -> None:
        keys = [f"tasks/{number:04d}" for number in range(1050)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: direct.put(key, b""), keys))
        for _ in range(6):
            assert keys_of(through, "tasks/") == keys

    def test_the_probe_passes_and_leaves_nothing(
        self, direct: Store, through: RetryingStore, proxy: FaultyProxy
    ) -> None:
        for _ in range(5):
            probe_conditional_create(through)
        proxy.settle()
        assert [key for key in keys_of(direct) if not key.startswith("probe/")] == []


def test_bytes_that_change_on_the_way_out_are_noticed(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server tells the checksum of the object; for a part of it none does."""
    url = server.url(str(uuid4()))
    open_store(url).put("key", b"some bytes" * 100)
    with faulty_proxy(server.endpoint, {Fault.FLIPPED_OUT: 1.0}, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(StoreUnavailable, match="checksum"):
            open_store(url).get("key")


def test_a_silent_server_is_given_up(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_proxy(server.endpoint, {Fault.DELAYED: 1.0}, seed=1) as proxy:
        proxy.delay_s = 3.0
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = RetryingStore(open_store(server.url(str(uuid4()))))
        with pytest.raises(StoreUnavailable, match="Read timeout"):
            store.within(0.2).put("heartbeat", b"x")
