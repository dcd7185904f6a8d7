"""One node's next steps: its agent's threads, its capsule, and what may befall it.

Every step has at most one deed that others can see (a read or a write of the store, a change of the tree), so
that no interleaving is lost by its size.  Threads wait as long as they like: a stopped agent, a slow disk and
a cut network are steps that are not taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from _explore.rules import Rules
from _explore.shell import Shell
from _explore.world import Job, Step
from fsnap.core.effects import Dump, Effect, Predump, Restore, SaveFiles, Start

TICK_MS = 1000
Steps = Iterator[Step]


class Machine:
    """What the parts of a node's model share: the rules, the duties, and the scenario's numbers."""

    def __init__(self, rules: Rules, shell: Shell, *, proves: bool) -> None:
        self.rules = rules
        self.shell = shell
        self.proves = proves
        """The scheduler starts a later attempt only when the earlier one's host or container is gone."""
        self.lease = -(-rules.config.lease_ms // TICK_MS)
        """Ticks of a lease; 0: none."""

    @staticmethod
    def job(effect: Effect) -> Job | None:
        """The long job that *effect* begins."""
        if isinstance(effect, Start):
            return Job("start", hold_ms=effect.hold_ms)
        if isinstance(effect, Restore):
            return Job("restore", effect.snapshot_id, effect.hold_ms)
        if isinstance(effect, Predump):
            return Job("predump", effect.snapshot_id)
        if isinstance(effect, Dump):
            return Job("dump", effect.snapshot_id)
        if isinstance(effect, SaveFiles):
            return Job("files", effect.snapshot_id)
        return None
