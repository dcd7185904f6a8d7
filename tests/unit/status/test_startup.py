"""``fsnap status`` answers at once: it loads nothing that only ``run`` needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.status.lab import Node

pytestmark = pytest.mark.process

HEAVY = (
    "blake3",
    "boto3",
    "botocore",
    "google",
    "loguru",
    "numpy",
    "sqlite_utils",
    "ssl",
    "transitions",
    "watchdog",
    "yaml",
    "zstandard",
)

PROGRAM = """
import sys
from fsnap.cli.main import main
code = main(["status", *sys.argv[1:]])
sys.stderr.write(" ".join(name for name in sys.modules if "." not in name))
sys.exit(code)
"""


def loaded(home: Path, *words: str) -> set[str]:
    """The top-level modules that a look leaves loaded."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "FSNAP_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "align" in run.stdout
    return set(run.stderr.split())


@pytest.mark.parametrize("words", [(), ("align",), ("--json",)])
@pytest.mark.parametrize("where", ["journal", "store"])
def test_nothing_heavy_is_loaded(tmp_path: Path, where: str, words: tuple[str, ...]) -> None:
    node = Node(tmp_path)
    ledger = node.starts("align")
    node.checkpoints(ledger)
    from_store = ("--store", node.store.url) if where == "store" else ()
    names = loaded(node.home, *words, *from_store)
    assert "sqlite3" in names, "the list is of the right process"
    assert names.isdisjoint(HEAVY)
