"""A journal in a bucket replays as it does from a directory, and no request there writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.cli.main import main
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror, journal_object
from fsnap.stores.urls import open_store
from tests.journals.replaying import assert_replays
from tests.servers import S3Server, ministack
from tests.unit.replay.story import two_reclaims

pytestmark = pytest.mark.server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with ministack(tmp_path / "server") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def listed(server: S3Server) -> list[tuple[str, str]]:
    found = server.client().list_objects_v2(Bucket=server.bucket)["Contents"]
    return [(row["Key"], str(row["LastModified"])) for row in found]


def test_in_a_bucket(server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.url("a/prefix")
    store = open_store(url)
    journal = Journal.open(tmp_path / "journal.db")
    mirror = Mirror(journal=journal, store=store, task="T", nonce=lambda: "nonce")
    for record in two_reclaims().records:
        journal.append(record)
        mirror.flush()
    journal.close()
    before = listed(server)
    assert len(assert_replays(url, "T").replay.steps) == 14
    assert main(["replay", url, "--json"]) == 0
    assert [task["task"] for task in json.loads(capsys.readouterr().out)["tasks"]] == ["T"]
    store.put(journal_object("T", 4), b"?")
    assert main(["replay", url, "--task", "T"]) == 1
    assert "! record 4: the object is damaged: not JSON" in capsys.readouterr().out
    assert [key for key, _ in listed(server)] == [key for key, _ in before]
    assert main(["replay", url, "--task", "U"]) == 1
    assert main(["replay", f"s3://no-such-{server.bucket}"]) == 1
    assert capsys.readouterr().err.count("\n") == 2
