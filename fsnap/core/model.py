"""The words of the protocol as frozen values: states, holders, snapshots, facts.

All numbers are integers with their unit in the name (ms, bytes, bytes/s), so that a
replay compares exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SCHEMA = 1
"""Version of the records; a journal of a newer one is refused with the version needed."""

PLANNER = 1
"""Version of the decision rules; a replay compares only records of its own."""


class State(StrEnum):
    """A task's state; ``statecharts/task.yaml`` says what may follow what."""

    NEW = "new"
    RUNNING = "running"
    PREDUMPING = "predumping"
    DUMPING = "dumping"
    UPLOADED = "uploaded"
    RESTORING = "restoring"
    RESUMED = "resumed"
    COMPLETED = "completed"
    FAILED = "failed"


RESTORE_TRIES = 2
"""Failures after which a snapshot is quarantined (:mod:`fsnap.core.poison`)."""

TERMINAL = frozenset({State.COMPLETED, State.FAILED})
LIVE = frozenset(set(State) - TERMINAL - {State.NEW, State.UPLOADED})
"""States in which some node may have a copy that makes progress."""


class Basis(StrEnum):
    """Why a claim may be taken (DESIGN: claim)."""

    NEW = "new"
    UPLOADED = "uploaded"
    GAVE_UP = "gave-up"
    LATER_ATTEMPT = "later-attempt"
    LEASE_EXPIRED = "lease-expired"
    HOLDER_GONE = "holder-gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has the task's one live copy; exact enough to tell a dead init from a living one."""

    node: str
    instance: str
    boot_id: str
    pid_ns: str
    init_pid: int
    init_start: int
    """``starttime`` of the capsule's init in clock ticks since boot (proc(5), stat field 22)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The scheduler's count of starts of one job."""

    scheduler: str
    job: str
    number: int

    @property
    def proves_end(self) -> bool:
        """True where a later attempt starts only after the earlier host or container is gone."""
        return self.scheduler in ("aws-batch", "google-batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRef:
    """One committed snapshot, as the journal knows it."""

    id: str
    manifest: str
    """Digest of the manifest's bytes; a restore uses no other."""
    epoch: int
    kind: str
    """``final`` (the tree stopped for good), ``periodic``, or ``files`` (no tree)."""
    bytes: int
    new_bytes: int
    stored_bytes: int
    committed_at: str
    run_ms: int
    """Run time of the task up to the freeze."""
    stdout_bytes: int
    stderr_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A notice that was not taken back."""

    notice_id: str
    provider: str
    window_ms: int
    seen_at: str
    deadline_mono_ms: int
    """On the monotonic clock of the node that saw it."""
    deadline_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The flags of ``run`` that decisions depend on; recorded with each claim."""

    lease_ms: int = 120_000
    after_commit: str = "exit"
    interval_ms: int | None = None
    """Time between periodic checkpoints; ``None``: the planner's."""
    max_overhead_permille: int = 20
    shared_state: bool = False
    on_restore_failure: str = "fail"
    provider: str = "none"
    state_dirs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All the numbers that a decision may use, frozen."""

    mono_ms: int = 0
    at: str = ""
    left_ms: int | None = None
    """Until the pending notice's deadline; ``None`` without one."""
    notice_age_ms: int = 0
    """Since the notice that is decided on was seen."""
    run_ms: int = 0
    """Run time of the task so far, over all attempts that count."""
    since_snapshot_ms: int = 0
    """Since the last capture began in this attempt, or since its start."""
    tree_bytes: int = 0
    """Resident private memory of the tree."""
    files_bytes: int = 0
    """Bytes in the state dirs that would have to be read."""
    commit_bps: int | None = None
    """Slow-side (p95) measured rate from freeze to commit; ``None`` when nothing was measured."""
    fixed_ms: int = 1_000
    """What a commit costs at any size: freeze, index, manifest, journal."""
    warm_bytes: int = 0
    """Of the tree and its files, what warm passes have put and, going by the last two, is as it was."""
    warm_bps: int | None = None
    """Rate at which the last warm pass read and hashed; ``None`` without one."""
    last_freeze_ms: int = 0
    failed_dumps: int = 0
    """Dumps that failed since the pending notice came."""
    started: bool = True
    """The tree has been started or restored in this attempt."""
    unsupported: str = ""
    """Why this tree can't be checkpointed; empty when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """What the journal says of a task: the fold of its records."""

    task: str
    state: State = State.NEW
    seq: int = 0
    epoch: int = 0
    digest: str = ""
    since: str = ""
    held: bool = False
    """False before the first claim, and after the holder's own record that it gave up."""
    holder: Holder | None = None
    attempt: Attempt | None = None
    config: Config = field(default_factory=Config)
    command: tuple[str, ...] = ()
    command_digest: str = ""
    cwd: str = ""
    snapshots: tuple[SnapshotRef, ...] = ()
    quarantined: tuple[str, ...] = ()
    restore_failures: dict[str, int] = field(default_factory=dict)
    lost_epochs: dict[str, int] = field(default_factory=dict)
    """By snapshot: epochs that restored it, saved nothing, and were lost without a word."""
    restoring_from: str | None = None
    restored: bool = False
    """This attempt's tree came from a snapshot, or goes on after one: its live state is ``resumed``."""
    finishing: bool = False
    """The root has exited; its files are being saved."""
    standing: tuple[Pending, ...] = ()
    """Notices that were not taken back."""
    notices: tuple[str, ...] = ()
    """Ids of the notices seen, newest last, bounded."""
    cancelled: bool = False
    exit_code: int | None = None
    outcome: str | None = None
    collected: bool = False
    """The task has ended and ``gc`` deleted its snapshots: a retry begins anew."""
    reclaims_survived: int = 0
    work_saved_ms: int = 0
    hold_ms: int = 0
    """Nothing of the present claim is released before this much time after it; 0 once its tree has run."""
    run_base_ms: int = 0
    """Run time that this attempt started from."""
    note: str = ""
    """The last reason given for a decision that a user should read."""

    @property
    def pending(self) -> Pending | None:
        """The standing notice with the earliest deadline."""
        return min(self.standing, key=lambda notice: notice.deadline_mono_ms, default=None)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Snapshots quarantined before their tries were used up, which only damage does."""
        return tuple(ref for ref in self.quarantined if self.restore_failures.get(ref, 0) < RESTORE_TRIES)

    @property
    def all_quarantined(self) -> bool:
        """There are committed snapshots of a tree, and none that is not quarantined."""
        trees = [ref.id for ref in self.snapshots if ref.kind != "files"]
        return bool(trees) and all(ref in self.quarantined for ref in trees)

    @property
    def usable(self) -> tuple[SnapshotRef, ...]:
        """Committed snapshots of a tree that may be restored, newest first.

        Where the holder gave the task back because all are quarantined, the next one may try those again
        that are not damaged.
        """
        out = self.damaged if self.all_quarantined and not self.held else self.quarantined
        return tuple(ref for ref in reversed(self.snapshots) if ref.kind != "files" and ref.id not in out)
