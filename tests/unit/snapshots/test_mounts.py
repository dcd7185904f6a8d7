"""Trees with other mounts in them, and a real overlay whose upper directory travels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes mounts in a namespace of its own"),
]

PRELUDE = """
import os, sys
from pathlib import Path
from tests.unit.snapshots.lab import Lab, contents, fill, look, tree

def sh(command):
    assert os.system(command) == 0, command

top = Path(sys.argv[1])
os.chdir(top)
"""

MOUNTS = """
fill(top, {"src/keep/f": b"1", "src/other/hidden": b"2", "src/same/g": b"3", "elsewhere/h": b"4"})
sh("mount -t tmpfs none src/other && mount --bind elsewhere src/same && touch src/other/x")
os.mkdir("src/plain")
lab = Lab()
lab.capture("s1", tree(top / "src"))
(stats,) = lab.stats
assert stats.skipped == ("other", "same"), stats
os.mkdir("dst")
lab.open("s1").restore_tree("state-0", top / "dst")
assert look(top / "dst").keys() == {"", "keep", "keep/f", "plain"}, look(top / "dst").keys()

# A root that is a mount itself is entered, whatever lies around it.
lab.capture("s2", tree(top / "src/same", name="tmp"))
os.mkdir("dst2")
lab.open("s2").restore_tree("tmp", top / "dst2")
assert contents(top / "dst2") == {"h": b"4"}
"""

OVERLAY = """
# Upper and work directory on a tmpfs, since the disk below may be an overlay itself.
sh("mount -t tmpfs none .")
os.chdir(top)
fill(top / "lower", {"keep": b"1", "gone": b"2", "changed": b"3", "dir/a": b"4", "dir/b": b"5"})
fill(top / "lower", {"renewed/old": b"6"})
for name in ("upper1", "work1", "upper2", "work2", "merged"):
    os.mkdir(name)

def mount(number):
    options = f"lowerdir=lower,upperdir=upper{number},workdir=work{number},redirect_dir=off,metacopy=off"
    sh(f"mount -t overlay overlay -o {options} merged")

mount(1)
merged = top / "merged"
fill(merged, {"new/x": b"7", "changed": b"changed"})
(merged / "gone").unlink()
(merged / "dir/a").unlink()
sh("rm -r merged/renewed")
fill(merged, {"renewed/new": b"8"})
os.link(merged / "new/x", merged / "new/y")
os.chmod(merged / "keep", 0o600)
before = look(merged)
sh("umount merged")

lab = Lab()
lab.capture("s1", tree(top / "upper1", name="tmp", kind="overlay-upper"))
lab.open("s1").restore_tree("tmp", top / "upper2")
mount(2)
after = look(merged)
for name in before:
    assert before[name] == after.get(name), (name, before[name], after.get(name))
assert before.keys() == after.keys()
"""


@pytest.mark.parametrize("script", [MOUNTS, OVERLAY], ids=["mounts", "overlay"])
def test_in_a_mount_namespace(tmp_path: Path, checkout: Path, script: str) -> None:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", PRELUDE + script]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    run = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
