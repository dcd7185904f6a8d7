"""``fsnap replay`` as a user meets it: exit codes, one line per mistake, and the JSON that is promised."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fsnap.cli.main import main
from fsnap.cli.replayhtml import to_html
from fsnap.core.records import canonical, record_to_plain, seal
from fsnap.journal.local import Journal
from tests.unit.replay.story import Story, fsnap_replay, replayed_json, two_reclaims

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return two_reclaims().export(tmp_path / "export.jsonl")


def same_as(name: str, text: str) -> None:
    """``GOLDEN=write`` in the environment writes the files anew."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def divergent(tmp_path: Path) -> Path:
    """Whose third record, sealed again, killed nothing."""
    records = list(two_reclaims().records)
    records[2] = seal(replace(records[2], effects=()))
    folded = records[3].folded
    assert folded is not None
    prev = records[2].digest
    records[3] = seal(replace(records[3], prev=prev, folded=replace(folded, digest=prev)))
    path = tmp_path / "divergent.jsonl"
    path.write_bytes(b"".join(canonical(record_to_plain(one)) + b"\n" for one in records[:4]))
    return path


def test_the_text(export: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export.parent)
    code, text = fsnap_replay(capsys, export.name, "--what-if", "window_s=60")
    assert code == 0
    same_as("replay.txt", text)


def test_the_json(export: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export.parent)
    code, text = fsnap_replay(capsys, export.name, "--task", "T", "--json", "--what-if", "window_s=60")
    assert code == 0
    same_as("replay.json", text)


def test_what_is_promised_of_the_json(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, one = replayed_json(capsys, export, "--task", "T")
    assert (one["schema"], one["task"], one["records"], one["divergence"]) == (1, "T", 14, None)
    for reclaim in one["reclaims"]:
        assert reclaim.keys() >= {"seq", "provider", "window_s", "stages", "committed_s", "margin_s", "saved"}
        assert all(stage.keys() >= {"name", "start_s", "end_s"} for stage in reclaim["stages"])
    first, second = one["reclaims"]
    assert (first["seq"], first["provider"], first["window_s"]) == (2, "aws", 120)
    assert (first["committed_s"], first["margin_s"], first["saved"]) == (9.04, 110.96, True)
    assert (second["committed_s"], second["margin_s"], second["saved"]) == (None, None, False)
    _, every = replayed_json(capsys, export)
    assert every["schema"] == 1
    source = one.pop("source")
    assert every["tasks"] == [{key: value for key, value in one.items() if key != "schema"}]
    assert every["source"] == source == str(export)


def test_several_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal.open(path)) as journal:
        for story in (two_reclaims(), Story("other").claims()):
            for record in story.records:
                journal.append(record)
    code, text = fsnap_replay(capsys, path)
    assert code == 0
    assert text.endswith("2 tasks, 15 records re-decided, no divergence\n")
    _, document = replayed_json(capsys, path)
    assert [task["task"] for task in document["tasks"]] == ["T", "other"]


def test_a_divergence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = divergent(tmp_path)
    code, text = fsnap_replay(capsys, path)
    assert code == 3
    assert "DIVERGED at record 3" in text
    assert "Exit(exit_code=177" in text
    code, document = replayed_json(capsys, path, "--task", "T")
    assert code == 3
    assert document["divergence"]["seq"] == 3
    assert document["divergence"]["expected"] == {"trigger": "commit", "dest": "uploaded", "effects": []}
    assert document["divergence"]["got"]["effects"][1]["exit_code"] == 177
    assert document["diverged"] == 1


def test_a_divergence_and_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = divergent(tmp_path)
    path.write_bytes(path.read_bytes() + b"cut")
    assert fsnap_replay(capsys, path)[0] == 3


def test_damage(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(lines[:5] + lines[6:]))
    code, text = fsnap_replay(capsys, export)
    assert code == 1
    assert "! record 6: missing\n" in text
    assert "but that is not the whole journal" in text
    code, document = replayed_json(capsys, export)
    assert code == 1
    assert document["tasks"][0]["missing"] == [{"first_seq": 6, "last_seq": 6, "why": "missing"}]


def test_another_planner_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story().claims()
    story.records[0] = seal(replace(story.records[0], planner=99, effects=()))
    code, document = replayed_json(capsys, story.export(tmp_path / "f"), "--task", "T")
    assert (code, document["divergence"], document["redecided"], document["records"]) == (0, None, 0, 1)
    assert "planner 99" in document["not_comparable"][0]["why"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["EXPORT", "--task", "U"], 1, "no task 'U'"),
        (["nothing.jsonl"], 1, "nothing.jsonl: No such file"),
        (["file:///no/such/store"], 1, "/no/such/store"),
        (["."], 2, "without a journal.db"),
        (["EXPORT", "--what-if", "speed=3"], 2, "KEY is one of window_s"),
        (["EXPORT", "--html", "EXPORT"], 2, "that is SOURCE"),
        (["EXPORT", "--html", "no/such/directory/page.html"], 2, "no/such/directory/page.html"),
        ([], 2, "SOURCE"),
    ],
)
def test_mistakes(
    words: list[str],
    code: int,
    message: str,
    export: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(export.parent)
    before = export.read_bytes()
    line = ["replay", *(str(export) if word == "EXPORT" else word for word in words)]
    try:
        found = main(line)
    except SystemExit as end:
        found = int(str(end.code))
    captured = capsys.readouterr()
    assert found == code
    assert captured.out == ""
    assert captured.err.startswith("fsnap: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert export.read_bytes() == before


def test_the_page_is_kept_out_of_a_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "tasks").mkdir(parents=True)
    assert main(["replay", f"file://{store}", "--html", str(store / "tasks" / "page.html")]) == 2
    assert list((store / "tasks").iterdir()) == []


class Page(HTMLParser):
    """Tags that are open, and all that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.fetched += [name for name, _ in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = two_reclaims()
    page = tmp_path / "page.html"
    code, text = fsnap_replay(
        capsys, story.export(tmp_path / "f"), "--html", page, "--what-if", "window_s=60"
    )
    assert code == 0
    read = Page()
    read.feed(page.read_text())
    assert read.open == read.fetched == []
    assert text.splitlines()[-1] == "14 records re-decided, no divergence"
    for words in ("14 records re-decided, no divergence", "Reclaim 2: NOT SAVED", "What if window_s=60"):
        assert words in read.text


def test_what_a_task_says_is_not_markup(tmp_path: Path) -> None:
    from fsnap.charts import task_chart
    from fsnap.cli.replaysource import read_source
    from fsnap.cli.replayview import view_of
    from fsnap.core.whatif import Assumed

    story = Story("<script>alert(1)</script>").claims("<b>").after(5).notice(provider="<i>&").after(5)
    story.saved()
    source = story.export(tmp_path / "f")
    page = to_html(view_of(task_chart(), read_source(str(source), None), Assumed()))
    for raw in ("<script>", "<b>", "<i>&", "& "):
        assert raw not in page


def test_no_terminal_codes_in_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("t\x1b[2J\u2028x").claims("n\x1b]0;x\x07").after(5).notice(provider="p\x1b[31m\nx")
    _, text = fsnap_replay(capsys, story.after(5).saved().export(tmp_path / "f"))
    assert not [sign for sign in text if not sign.isprintable() and sign != "\n"]


def test_long_rows_of_checkpoints_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story().claims()
    for _ in range(200):
        story.after(1_000).checkpoint()
    _, text = fsnap_replay(capsys, story.export(tmp_path / "f"))
    assert len(text.splitlines()) < 30
    assert "392 more records of periodic checkpoints" in text


def test_the_json_is_json_for_any_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = Story().claims().after(1_000).notice().after(500)
    _, document = replayed_json(capsys, story.export(tmp_path / "f"), "--task", "T")
    reclaim: dict[str, Any] = document["reclaims"][0]
    assert (reclaim["outcome"], reclaim["saved"], reclaim["stages"][-1]["end_s"]) == ("open", False, None)
    json.dumps(document, allow_nan=False)
