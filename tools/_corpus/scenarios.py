"""What the corpus records: each function is one life of a task, its name the journal's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from _corpus.lab import Lab


def clean(lab: Lab) -> None:
    """Nothing happens to it."""
    lab.start().ends(0)


def two_reclaims(lab: Lab) -> None:
    """Reclaimed twice, on three nodes."""
    lab.task(steps=24)
    for reached in ("step 3\n", "step 12\n"):
        run = lab.start()
        run.said(reached)
        lab.reclaim(run)
    lab.start().ends(0)


def failed_and_begun_anew(lab: Lab) -> None:
    """It fails by itself, and the scheduler tries again."""
    lab.task(steps=3, end=3)
    lab.start().ends(3)
    lab.start().ends(3)


def older_snapshot_after_a_flipped_byte(lab: Lab) -> None:
    """The newest snapshot is damaged in the store: the one before it is restored."""
    lab.task(steps=40, mib=4)
    run = lab.start("--interval", "0.8")
    lab.until_snapshots(2)
    before = lab.packs()
    run.said("step 25\n")
    lab.reclaim(run)
    pack = max(lab.packs() - before, key=lambda path: path.stat().st_mtime)
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.write_bytes(data)
    lab.start().ends(0)


def notice_taken_back_after_the_commit(lab: Lab) -> None:
    """A false notice: the committed tree goes on where it stands."""
    lab.task(steps=20)
    lab.flags = ["--after-commit", "hold"]
    run = lab.start()
    run.said("step 3\n")
    lab.notice()
    run.said("holds until the host goes")
    time.sleep(0.5)
    lab.take_back()
    run.ends(0)


def notice_taken_back_during_the_dump(lab: Lab) -> None:
    """The dump is given up, the task runs on."""
    lab.task(steps=20, mib=400)
    run = lab.start()
    run.said("step 3\n")
    lab.notice()
    run.said("dumping:")
    lab.take_back()
    run.ends(0)


def periodic_checkpoints(lab: Lab) -> None:
    """No notice, checkpoints all the time."""
    lab.task(steps=40)
    lab.start("--interval", "0.2").ends(0)


def restore_given_up(lab: Lab) -> None:
    """An input is not on the second node: two tries, then 176; with the input back it begins again."""
    lab.task(steps=12)
    lab.inputs = {"reads.txt": "ACGT\n"}
    run = lab.start()
    run.said("step 3\n")
    lab.reclaim(run)
    lab.inputs = {}
    lab.start().ends(176)
    lab.inputs = {"reads.txt": "ACGT\n"}
    lab.start().ends(0)


def restore_failed_and_restarted(lab: Lab) -> None:
    """The same, where the user wants a start from nothing."""
    lab.task(steps=12)
    lab.flags += ["--on-restore-failure", "restart"]
    lab.inputs = {"reads.txt": "ACGT\n"}
    run = lab.start()
    run.said("step 3\n")
    lab.reclaim(run)
    lab.inputs = {}
    lab.start().ends(0)


def window_too_short(lab: Lab) -> None:
    """What was measured does not fit: no dump, the last checkpoint is the best there is."""
    lab.task(steps=40, mib=120)
    run = lab.start("--interval", "1.5")
    lab.until_snapshots(1)
    run.said("running: ")
    time.sleep(0.7)
    lab.notice(0.6)
    run.ends(175)
    lab.take_back()
    lab.start().ends(0)


def dump_cut_off_at_the_deadline(lab: Lab) -> None:
    """Nothing was measured, so a dump is tried; it is not done when the window ends."""
    lab.task(steps=10, mib=300)
    run = lab.start()
    run.said("step 3\n")
    lab.notice(0.7)
    run.ends(175)
    lab.take_back()
    lab.start().ends(0)


def lost_nodes(lab: Lab) -> None:
    """Two nodes vanish: a lease runs out, then the scheduler starts a later attempt."""
    lab.task(steps=40)
    lab.flags += ["--interval", "0.5", "--lease", "2"]
    run = lab.start()
    lab.until_snapshots(1)
    run.said("step 9\n")
    run.vanish()
    run = lab.start("--wait", "30", "--attempt", "1")
    run.said("step 20\n")
    run.vanish()
    lab.start("--attempt", "2").ends(0)


def lost_before_the_record(lab: Lab) -> None:
    """A node vanishes before it could record what it had stored; the next one finds it whole."""
    lab.task(steps=20)
    lab.flags += ["--lease", "2"]
    run = lab.start("--attempt", "1", "--interval", "0.5")
    lab.until_snapshots(1)
    run.vanish()
    lab.start("--attempt", "2").ends(0)


def lost_before_any_snapshot(lab: Lab) -> None:
    """A node vanishes with all there was, and the task begins again."""
    lab.task(steps=8)
    run = lab.start("--attempt", "1", "--lease", "1")
    run.said("step 3\n")
    run.vanish()
    lab.start("--attempt", "2").ends(0)


def reclaimed_while_restoring(lab: Lab) -> None:
    """The next node goes before it could release the tree; the earlier snapshot stands."""
    lab.task(steps=30)
    lab.flags += ["--lease", "4"]
    run = lab.start("--attempt", "1", "--interval", "0.5")
    lab.until_snapshots(2)
    run.vanish()
    run = lab.start("--attempt", "2")
    run.said("restoring:")
    lab.reclaim(run)
    lab.start("--attempt", "3").ends(0)


def cancelled_by_the_user(lab: Lab) -> None:
    """SIGINT goes to the task."""
    lab.task(steps=200)
    run = lab.start()
    run.said("step 3\n")
    run.signal(signal.SIGINT)
    run.ends(130)


def sigterm_is_a_notice(lab: Lab) -> None:
    """As most schedulers say it."""
    lab.task(steps=20)
    run = lab.start()
    run.said("step 3\n")
    run.signal(signal.SIGTERM)
    run.ends(177)
    lab.start().ends(0)


def can_not_be_saved(lab: Lab) -> None:
    """No dump of this tree is possible: it runs on, and ends before the deadline."""
    lab.task(steps=25, script="namespace.py")
    run = lab.start()
    run.said("can't be checkpointed")
    lab.notice(30.0)
    run.ends(0)


def notice_before_the_start(lab: Lab) -> None:
    """The node goes before anything was started; the next one does it all."""
    lab.task(steps=5)
    lab.notice()
    lab.start().ends(177)
    lab.take_back()
    lab.start().ends(0)


def two_notices(lab: Lab) -> None:
    """A second notice, of SIGTERM, comes while the first one's dump is held."""
    lab.task(steps=20)
    lab.flags = ["--after-commit", "hold", "--term-window", "5"]
    run = lab.start()
    run.said("step 3\n")
    lab.notice()
    run.said("holds until the host goes")
    run.signal(signal.SIGTERM)
    run.said("one more notice")
    run.vanish()
    lab.take_back()
    lab.start().ends(0)


SCENARIOS: dict[str, Callable[[Lab], None]] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        clean,
        two_reclaims,
        failed_and_begun_anew,
        older_snapshot_after_a_flipped_byte,
        notice_taken_back_after_the_commit,
        notice_taken_back_during_the_dump,
        periodic_checkpoints,
        restore_given_up,
        restore_failed_and_restarted,
        window_too_short,
        dump_cut_off_at_the_deadline,
        lost_nodes,
        lost_before_the_record,
        lost_before_any_snapshot,
        reclaimed_while_restoring,
        cancelled_by_the_user,
        sigterm_is_a_notice,
        can_not_be_saved,
        notice_before_the_start,
        two_notices,
    )
}
