"""AWS Batch: the container must be there when its host dies, so ``run`` stays after the commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fsnap.core.effects import Restore
from fsnap.core.events import ClaimAsked
from fsnap.core.records import Record
from tests.rig_e2e.bucket import audit, triggers
from tests.rig_e2e.cloud import FENCED, JOB, Attempt, Cloud, Machine, Reference, assert_same, batch

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]


@pytest.fixture
def queue(cloud: Cloud) -> Cloud:
    """Nodes whose attempts are named by the scheduler."""
    cloud.task = JOB
    return cloud


def wait_held(attempt: Attempt) -> None:
    """Until it has committed, and stays."""
    attempt.wait_stderr("holds until the host goes")


def claims(records: list[Record]) -> list[tuple[str, int, int]]:
    """Basis, the lease in milliseconds, and the wait before the release, of each claim."""
    found = []
    for record in records:
        if isinstance(record.event, ClaimAsked):
            holds = [effect.hold_ms for effect in record.effects if isinstance(effect, Restore)]
            found.append((record.event.basis.value, record.event.config.lease_ms, sum(holds)))
    return found


def test_run_stays_until_its_host_is_gone(queue: Cloud, reference: MakeReference) -> None:
    for number in (1, 2):
        machine = queue.machine()
        attempt = machine.run(env=batch(number))
        attempt.wait_steps(4)
        machine.give_notice(5)
        wait_held(attempt)
        assert queue.status()["state"] == "uploaded"
        machine.wait_gone()
        assert attempt.process.poll() not in (None, 0, 177)
        attempt.finish()
    machine = queue.machine()
    machine.run(env=batch(3)).finish(0)
    machine.assert_idle()
    assert_same(queue, machine, reference())
    assert queue.status()["reclaims_survived"] == 2
    assert claims(audit(queue)) == [("new", 0, 0), ("uploaded", 0, 0), ("uploaded", 0, 0)]


def test_a_host_that_died_without_a_word_is_not_waited_for(queue: Cloud, reference: MakeReference) -> None:
    """That the attempt is a later one is proof."""
    out = ["--interval", "1", "--stdout", "/srv/out.txt", "--stderr", "/srv/err.txt"]
    machine = queue.machine()
    attempt = machine.run(*out, env=batch(1))
    attempt.wait_trace(20)
    machine.node.destroy()
    machine = queue.machine()
    machine.run(*out, env=batch(2)).finish(0)
    expected = reference()
    assert machine.path("/srv/out.txt").read_bytes() == expected.stdout
    assert machine.path("/srv/err.txt").read_bytes() == expected.stderr
    records = audit(queue)
    assert claims(records) == [("new", 0, 0), ("later-attempt", 0, 0)]
    assert "restored" in triggers(records)


def test_the_children_of_an_array_are_tasks_of_their_own(queue: Cloud) -> None:
    """On one node, under one FSNAP_HOME, and with one notice."""

    def start(machine: Machine, number: int) -> list[Attempt]:
        found = []
        for child in (0, 1):
            folder = machine.path(f"/srv/child-{child}")
            folder.mkdir(exist_ok=True)
            env = batch(number, AWS_BATCH_JOB_ARRAY_INDEX=str(child), CHILD=str(child))
            found.append(machine.run(env=env, cwd=f"/srv/child-{child}", command=["sh", "-c", COUNT]))
        return found

    machine = queue.machine()
    attempts = start(machine, 1)
    for attempt in attempts:
        attempt.wait_stdout(" 10\n")
    machine.give_notice(8)
    for attempt in attempts:
        wait_held(attempt)
    machine.wait_gone()
    for child, attempt in enumerate(start(queue.machine(), 2)):
        attempt.finish(0)
        text = bytes(attempts[child].stdout.data + attempt.stdout.data).decode()
        assert text == "".join(f"child {child}: {number}\n" for number in range(40))
        state = queue.status(f"{JOB}:{child}")
        assert (state["state"], state["reclaims_survived"]) == ("completed", 1)


COUNT = 'n=0; while [ $n -lt 40 ]; do echo "child $CHILD: $n"; n=$((n + 1)); sleep 0.1; done'


def test_a_committed_copy_never_runs_again_once_it_was_claimed(queue: Cloud) -> None:
    """Its node lives on and the notice is taken back, but the task is at work elsewhere."""
    old = queue.machine()
    first = old.run(env=batch(1))
    first.wait_steps(4)
    old.give_notice(60, deadly=False)
    wait_held(first)
    printed = bytes(first.stdout.data)
    new = queue.machine()
    second = new.run(env=batch(2))
    second.wait_steps(4)
    old.service.tell("cancel")
    first.finish(FENCED)
    old.assert_idle()
    assert bytes(first.stdout.data) == printed
    second.finish(0)


def test_an_earlier_attempt_that_comes_late_starts_nothing(queue: Cloud) -> None:
    new = queue.machine()
    second = new.run(env=batch(2))
    second.wait_steps(4)
    late = queue.machine()
    first = late.run(env=batch(1))
    first.finish(FENCED)
    assert "attempt 2 has it" in first.log
    assert not first.stdout.data
    second.finish(0)
