"""The stated bound on memory holds while a tree many times as large goes through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
import random, resource, sys
from pathlib import Path
from fsnap.core.manifest import SnapshotAbout
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.trees import TreeSource
from fsnap.stores.file import FileStore

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

top, mib = Path(sys.argv[1]), 1 << 20
(top / "source").mkdir()
(top / "dest").mkdir()
with open(top / "source/noise", "wb") as file:
    for seed in range(400):
        file.write(random.Random(seed).randbytes(mib))
about = SnapshotAbout(
    snapshot_id="s1", task="t", epoch=1, seq=1, final=True, created_at="", command=(), cwd="/"
)
store = FileStore(top / "store")
before = peak_bytes()
with Capture(store=store, prefix="tasks/t", snapshot_id="s1", known=KnownChunks()) as capture:
    capture.add_tree(TreeSource(name="state-0", root=top / "source"))
    sealed = capture.seal_index()
    digest = capture.publish(about).manifest_digest
print((peak_bytes() - before) // mib)
snapshot = Snapshot.open(store=store, prefix="tasks/t", snapshot_id="s1", manifest_digest=digest)
assert snapshot.verify().ok
snapshot.restore_tree("state-0", top / "dest")
print((peak_bytes() - before) // mib)
"""


def test_400_mib_go_through_in_less_than_130(tmp_path: Path, checkout: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    captured, restored = map(int, run.stdout.split())
    assert captured < 130
    assert restored < 200
