"""Sealed tasks: nothing leaves the node in plain, and they go on with their key alone."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsnap.keys import read_key_file
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import FSNAP, WORKLOADS, Scenario, assert_same, printed

pytestmark = pytest.mark.criu

STEM = "Xyzzy-Quux"
ENV_NAME = "PLUGH_VARIABLE"
USAGE = 2


def make_key(path: Path, *key_ids: str) -> Path:
    """The line of ``docs/sealing.rst``, for each id."""
    lines = "".join(f"{key_id} {base64.b64encode(os.urandom(32)).decode()}\n" for key_id in key_ids)
    path.touch(0o600)
    path.write_text(lines + (path.read_text() if path.exists() else ""))
    return path


def seen_words(store: Path) -> set[str]:
    """Which of the words anything in the store shows: names and bytes, as they are or as base64."""
    words = [STEM, ENV_NAME, "words.py"]
    found = set()
    for path in store.rglob("*"):
        name = str(path.relative_to(store))
        texts = [name.encode(), path.read_bytes() if path.is_file() else b""]
        text = name.partition("heads/T/")[2][11:].replace("/", "").rstrip("=")
        if text:
            texts.append(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        for word in words:
            forms = [word.encode(), *_in_base64(word.encode())]
            if any(form in text for form in forms for text in texts):
                found.add(word)
    return found


def _in_base64(word: bytes) -> list[bytes]:
    """What *word* is within a longer text in base64, wherever it begins there."""
    forms = []
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + word + bytes(3))
        forms.append(text[-(-8 * shift // 6) : 8 * (shift + len(word)) // 6])
    return forms


def status(task: Scenario, *flags: str) -> tuple[int, dict[str, object]]:
    line = [str(FSNAP), "status", "T", "--store", f"file://{task.store}", "--json", *flags]
    run = subprocess.run(line, capture_output=True, timeout=60, check=False)
    return run.returncode, json.loads(run.stdout or "{}")


@pytest.fixture
def task(scenario: MakeScenario, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    monkeypatch.setenv(ENV_NAME, "1")
    return scenario([sys.executable, WORKLOADS / "words.py", STEM])


def test_without_a_key_the_words_are_seen(task: Scenario) -> None:
    """Else the next test could not fail."""
    task.reclaim(printed("step 3 "))
    assert seen_words(task.store) == {STEM, ENV_NAME, "words.py"}
    task.env["FSNAP_KEY_FILE"] = str(make_key(task.root / "keys", "k1"))
    refused = task.start()
    refused.finish(USAGE)
    assert "is not sealed, and there is a key file" in refused.log
    assert refused.stdout.data == b""
    del task.env["FSNAP_KEY_FILE"]
    task.finish()


def test_nothing_leaves_the_node_in_plain(task: Scenario) -> None:
    expected = task.baseline()
    keys = make_key(task.root / "keys", "k1")
    task.env["FSNAP_KEY_FILE"] = str(keys)
    task.reclaim(printed("step 3 "))
    assert seen_words(task.store) == set()

    code, document = status(task)
    (row,) = document["tasks"]  # type: ignore[misc]
    assert (code, row["state"], row["command"]) == (0, "uploaded", None)
    assert "sealed with the key 'k1'" in document["notes"][0]  # type: ignore[index]
    code, document = status(task, "--key-file", str(keys))
    assert (code, document["tasks"][0]["command"]) == (0, " ".join(task.command))  # type: ignore[index]

    del task.env["FSNAP_KEY_FILE"]
    shut = task.start()
    shut.finish(USAGE)
    assert "is sealed with the key 'k1', and there is no key file" in shut.log
    task.env["FSNAP_KEY_FILE"] = str(make_key(task.root / "others", "k2"))
    other = task.start()
    other.finish(USAGE)
    assert "is sealed with the key 'k1', which is not in the key file (it has k2)" in other.log
    assert shut.stdout.data == other.stdout.data == b""

    make_key(keys, "k2")
    assert read_key_file(keys).first.id == "k2"
    task.env["FSNAP_KEY_FILE"] = str(keys)
    task.reclaim(printed("step 7 "))
    task.finish()
    assert seen_words(task.store) == set()
    assert_same(task.result(), expected)
