"""The key file: what is one, and that no message shows a secret."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from fsnap.errors import KeyFileError, WrongKey
from fsnap.keys import Key, KeyRing, read_key_file

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_seals_and_all_open(tmp_path: Path) -> None:
    text = f"# ours\n\nnew-1 {SECRET}\n  old.2\t{OTHER}  \n"
    ring = read_key_file(key_file(tmp_path, text))
    assert (ring.first.id, ring.first.secret) == ("new-1", bytes(range(32)))
    assert ring.find("old.2", "x").secret == bytes(range(1, 33))
    with pytest.raises(WrongKey, match=r"x is sealed with the key 'gone'.*it has new-1, old.2"):
        ring.find("gone", "x")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, f"k {SECRET}\n", mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}") as caught:
        read_key_file(path)
    assert caught.value.exit_code == 2
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key in it"),
        ("# only\n", "no key in it"),
        (SECRET, "line 1"),
        (f"k {SECRET} more", "line 1"),
        (f"a {SECRET}\nb {SECRET[:-4]}", "line 2"),
        (f"k {SECRET[:-1]}", "line 1"),
        (f"k !{SECRET}", "line 1"),
        (f"seventeen-letters {SECRET}", "line 1"),
        (f"-k {SECRET}", "line 1"),
        (f"k\u00e9 {SECRET}", "line 1"),
        (f"k {SECRET}\nk {OTHER}", "line 2 has the id k"),
    ],
)
def test_what_is_no_key_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(KeyFileError, match=words) as caught:
        read_key_file(key_file(tmp_path, text))
    assert SECRET[:8] not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_key_file(tmp_path / "missing")
    with pytest.raises(KeyFileError, match="not a file"):
        read_key_file(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        read_key_file(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="too many"):
        read_key_file(key_file(tmp_path, "#" * 70_000))


def test_a_secret_is_not_in_what_is_printed() -> None:
    key = Key(id="k", secret=bytes(range(32)))
    assert "secret" not in repr(key)
    assert repr(KeyRing([key])) == "KeyRing(k)"
