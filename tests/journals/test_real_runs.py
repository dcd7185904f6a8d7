"""What was recorded just now, by real runs, replays from every place in which it lies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journals.replaying import assert_nothing_diverged, assert_replays

pytestmark = pytest.mark.criu


@pytest.fixture
def lab(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(checkout / "tools"))
    from _corpus.lab import Lab

    made = Lab(tmp_path / "lab")
    yield made
    made.close()


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below *root*, with the time of its last change."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def told(checkout: Path) -> Callable[..., tuple[int, dict[str, object]]]:
    def run(*words: object) -> tuple[int, dict[str, object]]:
        line = [checkout / "tools/replay.py", *words, "--task", "task", "--json"]
        done = subprocess.run([str(word) for word in line], capture_output=True, check=False)
        assert done.stderr == b""
        return done.returncode, json.loads(done.stdout)

    return run


def test_from_the_store_the_node_and_an_export(lab: object, checkout: Path, tmp_path: Path) -> None:
    from _corpus.lab import Lab
    from _corpus.scenarios import two_reclaims

    assert isinstance(lab, Lab)
    two_reclaims(lab)
    assert_replays(lab.store, "task")
    export = tmp_path / "export.jsonl"
    with export.open("wb") as file:
        line = [sys.executable, str(checkout / "tools/record_journal"), lab.store]
        subprocess.run(line, stdout=file, check=True)
    before = contents(tmp_path)
    sources = [lab.store, lab.root / "node-c" / "journal.db", lab.root / "node-c", export]
    documents = []
    for source in sources:
        code, document = told(checkout)(source)
        assert code == 0
        documents.append({key: value for key, value in document.items() if key != "source"})
    assert all(document == documents[0] for document in documents)
    reclaims = documents[0]["reclaims"]
    assert isinstance(reclaims, list)
    assert [reclaim["saved"] for reclaim in reclaims] == [True, True]
    assert all(reclaim["committed_s"] > 0 for reclaim in reclaims)
    # What each of three nodes has seen, and the store.
    assert assert_nothing_diverged(tmp_path) == 3 + 7 + 11 + 11
    assert contents(tmp_path) == before, "a replay wrote into its source"


def test_a_node_that_was_left_knows_its_own_part(lab: object, checkout: Path) -> None:
    from _corpus.lab import Lab

    assert isinstance(lab, Lab)
    run = lab.start()
    run.said("step 3\n")
    lab.reclaim(run)
    code, document = told(checkout)(lab.root / "node-a" / "journal.db")
    assert code == 0
    assert document["state"] == "uploaded"
    (reclaim,) = document["reclaims"]  # type: ignore[misc]
    assert reclaim["stages"][-1]["end_s"] is None
