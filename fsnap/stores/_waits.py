"""How long a store's SDK may wait for the network in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWaits:
    """The part of a store's options that all SDKs share."""

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    """Longest silence of the server, not the length of a transfer."""

    max_connections: int = 32
    """Requests at once; more threads than that wait for each other."""

    def within(self, wait_s: float) -> Self:
        """The same, with no wait longer than *wait_s* seconds."""
        return replace(
            self,
            connect_timeout_s=min(wait_s, self.connect_timeout_s),
            read_timeout_s=min(wait_s, self.read_timeout_s),
        )
