"""A limit on the bytes of large responses that a process holds at a time, in all and for each organization.

A response of more than 128 KB is read only after its size was taken from the budget. Until then its server waits too,
and the call's absolute timeout goes on. What a call has taken is given back when its outcome is stored.

    with budget.account():  # around one run of a call
        ...
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

TOTAL: Final = 32_000_000  # bytes; what a response is turned into takes several times as much memory
SHARE: Final = TOTAL // 2  # of one organization; above the largest answer that a connection may allow


class Budget:
    """A number of bytes that organizations take in turn, none more than its share."""

    def __init__(self, total: int = TOTAL, share: int = SHARE) -> None:
        """Take the bytes of all, and of one organization."""
        self._total, self._share = total, share
        self._lock = threading.Lock()
        self._taken: defaultdict[str, int] = defaultdict(int)
        self._waiting: OrderedDict[str, deque[tuple[int, Future[None]]]] = OrderedDict()

    async def take(self, tenant: str, size: int) -> None:
        """Wait until so many bytes are free, and take them; a size above the share counts as the share."""
        turn: Future[None] = Future()
        with self._lock:
            self._waiting.setdefault(tenant, deque()).append((min(size, self._share), turn))
            chosen = self._next()
        _grant(chosen)
        if turn.done():
            return
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            self._withdraw(tenant, size, turn)
            raise

    def give(self, tenant: str, size: int) -> None:
        """Give bytes back that were taken."""
        with self._lock:
            self._taken[tenant] -= min(size, self._share)
            if not self._taken[tenant]:
                del self._taken[tenant]
            chosen = self._next()
        _grant(chosen)

    @property
    def taken(self) -> int:
        """How many bytes are taken."""
        with self._lock:
            return sum(self._taken.values())

    def _withdraw(self, tenant: str, size: int, turn: Future[None]) -> None:
        with self._lock:
            waiting = self._waiting.get(tenant, deque())
            mine = next((entry for entry in waiting if entry[1] is turn), None)
            if mine is not None:
                waiting.remove(mine)
                if not waiting:
                    del self._waiting[tenant]
        if mine is None:  # it was granted meanwhile
            self.give(tenant, size)

    def _next(self) -> list[Future[None]]:
        chosen: list[Future[None]] = []
        for tenant in list(self._waiting):
            waiting = self._waiting[tenant]
            taken = self._taken.get(tenant, 0)
            while waiting and taken + waiting[0][0] <= self._share:
                size, turn = waiting[0]
                if sum(self._taken.values()) + size > self._total:
                    return chosen  # or small responses would overtake a large one for ever
                waiting.popleft()
                taken = self._taken[tenant] = taken + size
                chosen.append(turn)
            if not waiting:
                del self._waiting[tenant]
        return chosen


@dataclass(slots=True)
class Account:
    """What one run of a call has taken: enough for the largest of its answers, which come one after the other."""

    budget: Budget
    tenant: str = ""
    size: int = 0
    closed: bool = False

    async def hold(self, tenant: str, size: int) -> None:
        """Wait until at least so many bytes are taken; they are held until the account is closed."""
        if size <= self.size:
            return
        self._give()  # who waits must not hold what others wait for
        await self.budget.take(tenant, size)
        self.tenant, self.size = tenant, size
        if self.closed:
            self._give()

    def close(self) -> None:
        """Give everything back."""
        self.closed = True
        self._give()

    def _give(self) -> None:
        if self.size:
            self.budget.give(self.tenant, self.size)
            self.size = 0


def _grant(turns: list[Future[None]]) -> None:
    for turn in turns:
        if turn.set_running_or_notify_cancel():
            turn.set_result(None)


@contextmanager
def account() -> Iterator[Account]:
    """Count the responses that are read inside, until the end; inside another account, use that one."""
    outer = _account.get()
    if outer is not None and not outer.closed:
        yield outer
        return
    mine = Account(answers)
    token = _account.set(mine)
    try:
        yield mine
    finally:
        _account.reset(token)
        mine.close()


answers = Budget()
_account: ContextVar[Account | None] = ContextVar("account", default=None)
