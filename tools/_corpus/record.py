"""Records the corpus: real runs, in parallel, then what is made of their journals."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _corpus.lab import Lab
from _corpus.scenarios import SCENARIOS
from _corpus.tamper import rechained, tampered
from fsnap.core.records import canonical, record_to_plain
from fsnap.journal.mirror import read_records
from fsnap.stores.urls import open_store

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "journals"
AT_ONCE = 2

Plain = dict[str, Any]


def record(names: Sequence[str]) -> int:
    """Record *names*, or all; 1 when a run did not go as it should, 2 for an unknown name."""
    unknown = sorted(set(names) - SCENARIOS.keys())
    if unknown:
        sys.stderr.write(f"record_journal: no {unknown[0]}; there are {', '.join(SCENARIOS)}\n")
        return 2
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(_record_one, names or list(SCENARIOS)))
    write_derived()
    return 0 if all(done) else 1


def _record_one(name: str) -> bool:
    root = Path(tempfile.mkdtemp(prefix="fsnap-journal-"))
    lab = Lab(root)
    began = time.monotonic()
    try:
        SCENARIOS[name](lab)
    except RuntimeError as problem:
        sys.stderr.write(f"{name}: {problem}\n")
        return False
    finally:
        lab.close()
        records = _read(lab)
        shutil.rmtree(root, ignore_errors=True)
    write(FOLDER / "good" / f"{name}.jsonl", rechained(_scrubbed(records, str(root))))
    sys.stderr.write(f"{name}: {len(records)} records in {time.monotonic() - began:.1f} s\n")
    return True


def _read(lab: Lab) -> list[Plain]:
    return [record_to_plain(one) for one in read_records(open_store(lab.store), "task")]


def _scrubbed(records: Sequence[Plain], root: str) -> list[Plain]:
    """Without the directory in which it was recorded; names and boot ids of the nodes were made up anyway."""
    found: list[Plain] = json.loads(json.dumps(records).replace(root, "/recorded"))
    return found


def write(path: Path, records: Sequence[Plain]) -> None:
    """One record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(canonical(plain) + b"\n" for plain in records))


def load(name: str) -> list[Plain]:
    """The good journal *name*."""
    lines = (FOLDER / "good" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_derived() -> None:
    """The divergent and the damaged journals, and what is to be found in each."""
    for folder in ("divergent", "damaged"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
        (FOLDER / folder).mkdir(parents=True)
    expected: dict[str, Plain] = {}
    for one in tampered(load):
        (FOLDER / one.folder / f"{one.name}.jsonl").write_bytes(one.content)
        expected[f"{one.folder}/{one.name}"] = one.expected
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
