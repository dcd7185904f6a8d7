"""Google's and Azure's stores: what servers refuse, one that ignores the condition, a network that fails."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from fsnap.errors import ObjectExists, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import Store
from fsnap.stores.probe import probe_conditional_create
from fsnap.stores.retrying import Patience, RetryingStore
from fsnap.stores.urls import open_store
from tests.clouds import AzServer, gcp_emulator
from tests.conformance.support import keys_of, own_prefix
from tests.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.servers import BucketServer, free_ports

pytestmark = pytest.mark.server

EVERY_FAULT = {
    Fault.DELAYED: 0.02,
    Fault.BUSY: 0.08,
    Fault.REFUSED: 0.08,
    Fault.LATE: 0.06,
    Fault.FAILED: 0.06,
    Fault.DEAF: 0.08,
    Fault.CUT: 0.08,
}
KNOWN_WRONG = "gcp-storage-emulator ignores the create-only condition"
"""So it is no server that the conformance suite passes on; the probe refuses it."""


@pytest.fixture(params=["fake_gcs", "azurite"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BucketServer:
    found: BucketServer = request.getfixturevalue(f"{request.param}_server")
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    return found


def everything(store: Store) -> dict[str, Callable[[], object]]:
    return {
        "put": lambda: store.put("key", b"x"),
        "create": lambda: store.create("key", b"x"),
        "get": lambda: store.get("key"),
        "part": lambda: store.get("key", start=1, length=2),
        "size": lambda: store.get("key", start=0, length=0),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("key"),
        "probe": lambda: probe_conditional_create(store),
    }


class TestRefusals:
    @pytest.mark.parametrize("call", ["put", "create", "get", "part", "size", "list", "delete", "probe"])
    def test_no_such_bucket(self, server: BucketServer, call: str) -> None:
        store = open_store(f"{server.scheme}://no-such-bucket/prefix")
        with pytest.raises(StoreError, match="no-such-bucket: cannot ") as failure:
            everything(store)[call]()
        assert type(failure.value) is StoreError
        assert "fsnap makes no" in failure.value.hint
        assert failure.value.exit_code == 174
        assert "\n" not in str(failure.value)

    def test_nobody_listens(self, server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
        nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
        for name, value in server.environment(endpoint=nobody).items():
            monkeypatch.setenv(name, value)
        for call in everything(open_store(server.url("x"))).values():
            with pytest.raises(StoreUnavailable) as failure:
                call()
            assert "network" in failure.value.hint
            assert "\n" not in str(failure.value)

    def test_a_silent_server_is_given_up(self, server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
        with faulty_proxy(server.endpoint, {Fault.DELAYED: 1.0}, seed=1) as proxy:
            proxy.delay_s = 3.0
            for name, value in server.environment(endpoint=proxy.endpoint).items():
                monkeypatch.setenv(name, value)
            store = RetryingStore(open_store(server.url(str(uuid4()))))
            with pytest.raises(StoreUnavailable, match=r"[Rr]ead timed? ?out"):
                store.within(0.2).put("heartbeat", b"x")


@pytest.mark.parametrize("call", ["put", "create", "get", "list", "delete", "probe"])
def test_a_wrong_key_of_an_azure_account(
    azurite_server: AzServer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    right = azurite_server.environment()["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", right.replace("AccountKey=Eby8", "AccountKey=AAAA"))
    with pytest.raises(StoreError, match="HTTP 403") as failure:
        everything(open_store(azurite_server.url("x")))[call]()
    assert type(failure.value) is StoreError
    assert "AZURE_STORAGE_ACCOUNT" in failure.value.hint


@pytest.mark.parametrize("connection", [None, "nonsense", "AccountName=a;AccountKey=not-base64"])
def test_no_credentials_for_azure(monkeypatch: pytest.MonkeyPatch, connection: str | None) -> None:
    if connection is not None:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    with pytest.raises(StoreError) as failure:
        open_store("az://container").put("key", b"x")
    assert (failure.value.exit_code, failure.value.retryable) == (174, False)
    assert "AZURE_STORAGE_CONNECTION_STRING" in failure.value.hint
    assert "\n" not in str(failure.value)


def test_no_credentials_for_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(StoreError, match="credentials were not found") as failure:
        open_store("gs://bucket").put("key", b"x")
    assert (failure.value.exit_code, failure.value.retryable) == (174, False)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in failure.value.hint


def test_a_store_that_ignores_the_condition_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gcp_emulator(tmp_path) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = open_store(server.url("prefix"))
        store.put("key", b"it does store objects")
        assert store.get("key") == b"it does store objects"
        with pytest.raises(StoreUnfit, match="ignores the create-only condition") as failure:
            probe_conditional_create(store)
        assert failure.value.exit_code == 174, KNOWN_WRONG
        assert keys_of(store) == ["key"]


class TestBadNetwork:
    """Retries over a proxy that fails in nearly half of all requests."""

    @pytest.fixture
    def proxy(self, server: BucketServer) -> Iterator[FaultyProxy]:
        with faulty_proxy(server.endpoint, EVERY_FAULT, seed=1) as running:
            yield running

    @pytest.fixture
    def direct(self, server: BucketServer, request: pytest.FixtureRequest) -> Store:
        """The store, by the server's own address."""
        store = open_store(server.url(own_prefix(request)))
        list(store.list())  # the client is made now, before the proxy's address is set
        return store

    @pytest.fixture
    def through(
        self, server: BucketServer, direct: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ) -> RetryingStore:
        """The same store through the proxy."""
        for name, value in server.environment(endpoint=proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        patience = Patience(attempts=60, base_s=0.001, cap_s=0.02)
        return RetryingStore(open_store(direct.url), patience=patience)

    def test_no_create_is_lost_or_doubled(
        self, direct: Store, through: RetryingStore, proxy: FaultyProxy
    ) -> None:
        creators, keys = 4, 12

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
        objects = {f"packs/{number}": rng.randbytes(rng.randrange(200_000)) for number in range(30)}
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


@pytest.mark.parametrize("fault", [Fault.FLIPPED_OUT, Fault.FLIPPED_IN])
def test_bytes_that_change_on_the_way_are_noticed(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    url = server.url(str(uuid4()))
    open_store(url).put("key", b"some bytes" * 1000)
    with faulty_proxy(server.endpoint, {fault: 1.0}, seed=1) as proxy:
        for name, value in server.environment(endpoint=proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        store = open_store(url)
        with pytest.raises(StoreUnavailable):
            if fault is Fault.FLIPPED_OUT:
                store.get("key")
            else:
                store.put("other", b"some bytes" * 1000)


def test_every_request_is_made_once(server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry hides in the SDK: of a server that is always busy, or breaks off, each call hears once."""
    url = server.url(str(uuid4()))
    open_store(url).put("key", b"some bytes" * 1000)
    for fault in (Fault.BUSY, Fault.REFUSED, Fault.CUT):
        with faulty_proxy(server.endpoint, {fault: 1.0}, seed=1) as proxy:
            for name, value in server.environment(endpoint=proxy.endpoint).items():
                monkeypatch.setenv(name, value)
            store = open_store(url)
            calls = [call for name, call in everything(store).items() if name in ("put", "get", "part")]
            for number, call in enumerate(calls if fault is not Fault.CUT else calls[1:], 1):
                with pytest.raises(StoreUnavailable):
                    call()
                assert proxy.done.total() == number
