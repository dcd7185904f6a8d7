"""What the shell owes the rules, in one place: the model's half that is not ``fsnap.core``.

The rules say what may follow what; that nothing is done before its record is where it must be, and that a
tree without lease stands still, is the agent's and the init's duty.  Each duty is a switch here, named for
what is done when it is kept, with the functions that keep it.  The exploration runs with all of them on; a
mutation turns one off.  Whoever changes one of those functions changes the duty here too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """The duties."""

    effects_wait_for_their_record: bool = True
    """Start, release, kill and exit code follow the create of their record: ``TaskLoop.handle``."""

    conditional_create: bool = True
    """A journal object is created only if it is not there: ``Mirror._put``, ``Store.create``."""

    packs_before_manifest: bool = True
    """A capture is reported when every pack is stored and verified and the manifest after them:
    ``snapshots.capture.Capture.publish``, ``Capturer._publish``."""

    init_stops_without_lease: bool = True
    """The init stops the tree when its lease is over, whatever the agent does: ``Init._check_lease``."""

    nothing_runs_without_lease: bool = True
    """The init starts, thaws and lets go of no tree whose lease is over: ``Init.op_start``, ``op_thaw``,
    ``op_lease``, ``op_gate``."""

    lease_end_is_absolute: bool = True
    """The init is told when the lease ends, not how long it lasts from when the word arrives:
    ``Lease._arm``, ``Init.op_lease``."""

    lease_counts_from_its_beginning: bool = True
    """A renewal is good from when it began, not from when the store answered: ``Lease.renew``."""

    renewal_looks_for_the_fence: bool = True
    """A renewal looks for newer records after its heartbeat, before the lease is longer: ``Lease.renew``."""

    own_clock: bool = True
    """A heartbeat's age is the time for which the claimant's own clock saw it unchanged:
    ``Claimant.wait``."""

    wait_sees_the_end: bool = True
    """Who waits for a claim and finds the task ended answers as if it had just come: ``Claimant.wait``."""

    hold_counts_from_the_record: bool = True
    """The wait for an older copy counts from when the claim's record is there: ``Executor.carry_out``."""

    writes_only_as_holder: bool = True
    """A node without the claim records a notice only when nobody holds the task: ``Service._is_news``."""

    adoption_goes_with_the_claim: bool = True
    """A claimant's record of a snapshot that it found is in the claim's own object: it fences nobody before
    the claim does: ``Service._adopt_unrecorded``."""

    stopped_before_giving_up: bool = True
    """A tree is stopped, and one about to start or to be restored is called off, before the record that gives
    its claim back: ``TaskLoop.handle``."""

    tail_is_mirrored_before_a_stray_ends: bool = True
    """A capsule that is not the live copy only by a record that the store does not have is left until it has
    it: ``recovery.take_over``."""

    gate_loss_outlasts_renewals: bool = True
    """A tree that was stopped because CRIU died at its gate is not thawed by a renewal: ``Init.op_lease``."""

    end_is_mirrored_before_its_code: bool = True
    """A recorded exit code is given back only when its record is the world's: ``Service._settle``."""

    strays_end_with_the_task: bool = True
    """An older capsule of a task that has ended is ended too: ``Service._already_completed``."""

    recovery_lets_resumed_trees_go: bool = True
    """An agent that finds a restored tree at its gate, its ``resumed`` recorded, releases it:
    ``recovery._go_on``."""

    recovery_outlasts_the_store: bool = True
    """A store that fails while a living capsule is taken over ends nothing: ``recovery.take_over``."""

    first_beat_may_fail: bool = True
    """A store that fails at the first renewal ends nothing: ``Lease.start``, ``Service._settle``."""
