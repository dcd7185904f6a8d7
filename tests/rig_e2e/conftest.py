"""A cloud for each test, and the two kinds of store that its nodes can share."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faulty_proxy import Fault, FaultyProxy
from tests.rig_e2e.beats import Beats
from tests.rig_e2e.cloud import Cloud, Reference, refer
from tests.rig_e2e.roads import s3_cloud, serving
from tests.servers import S3Server, ministack
from tools.rig import Rig


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket."""
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all nodes see at its own path; not below /tmp, of which each node has its own."""
    path = Path(tempfile.mkdtemp(prefix="fsnap-rig-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def beats(shared: Path) -> Beats:
    """What the task's copies say of their progress."""
    return Beats(shared)


@pytest.fixture
def rig(checkout: Path, shared: Path) -> Iterator[Rig]:
    """A rig whose nodes share the checkout and ``shared``."""
    with Rig(binds=[checkout, shared]) as rig:
        yield rig


@pytest.fixture(scope="session")
def reference(checkout: Path) -> Callable[..., Reference]:
    """The task's output and files without fsnap, by the environment that makes a difference to them."""

    @functools.cache
    def run(**env: str) -> Reference:
        with Rig(binds=[checkout], network=False) as rig:
            return refer(rig, env)

    return run


@pytest.fixture
def cloud(rig: Rig, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Nodes that share a bucket."""
    return s3_cloud(rig, s3, monkeypatch)


@pytest.fixture
def file_cloud(rig: Rig, shared: Path) -> Cloud:
    """Nodes that share a directory."""
    return Cloud(rig, f"file://{shared}/store", {}, {})


@pytest.fixture
def brake(s3: S3Server) -> FaultyProxy:
    """What stands before the bucket of ``braked``: set ``delay_s``, and each request takes so much longer."""
    return FaultyProxy(s3.endpoint, {Fault.DELAYED: 1.0}, seed=0, delay_s=0.0)


@pytest.fixture
def braked(rig: Rig, s3: S3Server, brake: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Nodes whose way to the bucket can be made slow."""
    with serving(brake) as port:
        yield s3_cloud(rig, s3, monkeypatch, port=port)
