"""Task ids: what may be one, and what becomes of it in a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsnap.errors import EXIT_USAGE, UsageError
from fsnap.ids import check_task_id, command_digest, full_task_id, task_from_key, task_key
from fsnap.stores.keys import is_key


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("plain-1.2_x", "plain-1.2_x"),
        ("job/step", "job=2Fstep"),
        ("a=b", "a=3Db"),
        ("é", "=C3=A9"),
        (".", "=2E"),
        ("..", "=2E."),
        (".nfs0123456789abcdef", "=2Enfs0123456789abcdef"),
        ("a..", "a.."),
    ],
)
def test_key_of_a_task(task: str, key: str) -> None:
    assert task_key(task) == key
    assert task_from_key(key) == task


def test_no_task_has_an_empty_id() -> None:
    with pytest.raises(ValueError, match="not empty"):
        task_key("")


@given(st.text(min_size=1, max_size=20))
def test_any_text_comes_back_from_a_legal_key(task: str) -> None:
    try:
        task.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # no argument or variable of a process can hold it
    key = task_key(task)
    assert is_key(key) and "/" not in key and not key.startswith(".")
    assert task_from_key(key) == task


@given(st.text(alphabet="=0123456789ABCDEFabcdef./-x", max_size=12))
def test_a_key_is_refused_or_is_that_of_its_task(key: str) -> None:
    try:
        task = task_from_key(key)
    except ValueError:
        return
    assert task_key(task) == key


@pytest.mark.parametrize("key", ["", ".", "..", "=4", "=zz", "=41", "=2e", "a/b", "a b", "a\n"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="not a task's key"):
        task_from_key(key)


@pytest.mark.parametrize("text", ["7", "a" * 128, "array:3@queue+x", "A.b_c-d"])
def test_ids(text: str) -> None:
    assert check_task_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../../etc",
        "a/b",
        ".hidden",
        "-x",
        "a b",
        "a\n",
        "a\0",
        "\x1b[31m",
        "é",
        "a" * 129,
        "a" + ":" * 100,
    ],
)
def test_no_ids(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check_task_id(text, "FSNAP_TASK")
    message = f"{refusal.value}. {refusal.value.hint}"
    assert refusal.value.exit_code == EXIT_USAGE
    assert message.startswith("FSNAP_TASK: ")
    assert message.isprintable() and len(message) < 250


def test_a_step_is_part_of_the_id() -> None:
    assert full_task_id("job", None) == "job"
    assert full_task_id("job", "align") == "job/align"
    with pytest.raises(UsageError, match="--name"):
        full_task_id("job", "a/b")
    with pytest.raises(UsageError, match="--task:"):
        full_task_id("", "align")


def test_the_longest_id_is_a_part_of_a_key() -> None:
    assert len(task_key(full_task_id("a" * 128, "b" * 69))) == 200
    with pytest.raises(UsageError, match="--task and --name together"):
        full_task_id("a" * 128, "b" * 70)


def test_a_command_is_its_arguments() -> None:
    commands = [["a b"], ["a", "b"], ["a", "b", ""], [], [""], ["é"], ["\udce9"], ['a","b']]
    digests = [command_digest(command) for command in commands]
    assert len(set(digests)) == len(commands)
    assert command_digest(("a", "b")) == command_digest(["a", "b"])
    assert {len(digest) for digest in digests} == {64}
