"""No journal, however mangled, stops a replay; and nothing that was changed goes unnoticed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsnap.charts import task_chart
from fsnap.cli.replayhtml import to_html
from fsnap.cli.replaysource import CannotRead, read_source
from fsnap.cli.replaytext import to_text
from fsnap.cli.replayview import View, to_json, view_of
from fsnap.core.records import canonical, digest_of
from fsnap.core.whatif import Assumed, assumed

GOOD = sorted((Path(__file__).resolve().parents[1] / "journals" / "good").glob("*.jsonl"))
LINES = {path.stem: path.read_bytes().splitlines(keepends=True) for path in GOOD}
NAMES = st.sampled_from(sorted(LINES))
OFTEN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def replayed(path: Path, what: Assumed) -> View:
    view = view_of(task_chart(), read_source(str(path), None), what)
    assert to_text(view, with_records=True)
    assert json.loads(to_json(view, alone=False))
    assert to_html(view)
    return view


@OFTEN
@given(name=NAMES, data=st.data())
def test_changed_bytes_are_noticed_and_do_not_stop_it(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(b"".join(LINES[name]))
    place = data.draw(st.integers(0, len(content) - 2))
    length = data.draw(st.integers(1, 40))
    content[place : place + length] = data.draw(st.binary(max_size=40))
    path = tmp_path / "f"
    path.write_bytes(content)
    try:
        view = replayed(path, Assumed())
    except CannotRead:
        return
    if [json.loads(line) for line in LINES[name]] != _records(bytes(content)):
        assert not view.whole or len(view.tasks) > 1


def _records(content: bytes) -> list[Any] | None:
    try:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError:
        return None


PLACES = ["trigger", "source", "dest", "event", "facts", "effects", "config", "folded", "epoch", "node", "at"]


@OFTEN
@given(name=NAMES, other=NAMES, data=st.data())
def test_records_put_together_at_will_do_not_stop_it(
    name: str, other: str, data: st.DataObject, tmp_path: Path
) -> None:
    records = [json.loads(line) for line in LINES[name]]
    donors = [json.loads(line) for line in LINES[other]]
    for _ in range(data.draw(st.integers(1, 3))):
        target, donor = data.draw(st.sampled_from(records)), data.draw(st.sampled_from(donors))
        part = data.draw(st.sampled_from(PLACES))
        target[part] = copy.deepcopy(donor[part])
    path = tmp_path / "f"
    path.write_bytes(b"".join(_sealed(records)))
    what = assumed(["window_s=1", "commit_bps=1000"])
    assert sum(len(task.replay.steps) for task in replayed(path, what).tasks) == len(records)


def _sealed(records: list[dict[str, Any]]) -> list[bytes]:
    lines, prev = [], ""
    for record in records:
        record["prev"] = prev
        prev = record["digest"] = digest_of(record)
        lines.append(canonical(record) + b"\n")
    return lines


@pytest.mark.parametrize("name", sorted(LINES))
def test_every_beginning_and_every_end_of_a_journal(name: str, tmp_path: Path) -> None:
    lines = LINES[name]
    path = tmp_path / "f"
    for cut in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:cut]))
        view = replayed(path, Assumed())
        assert view.whole
        assert not view.diverged
        path.write_bytes(b"".join(lines[cut:]))
        view = replayed(path, Assumed())
        assert not view.whole
        assert not view.diverged
