"""How much the platform has, and what a page of it may cost."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_MS, PAGE_KB = 150, 100  # of an admin page or a page of the API
BATCH_MS = 500  # for which a purge holds the rows that it deletes
TASK_MS = 30  # of what beat sends every few seconds
CONNECTIONS_OF_ALL, TENANTS_OF_ALL, CALLS_OF_ALL = 10_000, 1_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """So many rows; the first organization has a twentieth of the connections and two fifths of the calls."""

    calls: int
    connections: int = CONNECTIONS_OF_ALL
    tenants: int = TENANTS_OF_ALL
    tools_each: int = 5  # of a connection
    days: int = 30  # in which the calls were made

    @property
    def probes_each(self) -> int:
        """How many checks of each connection are kept: 20 at the full size."""
        return max(2, 20 * self.calls // CALLS_OF_ALL)

    @property
    def events(self) -> int:
        """How many audit events there are."""
        return self.calls // 5

    @property
    def of_the_first(self) -> int:
        """How many connections the first organization has."""
        return self.connections // 20
