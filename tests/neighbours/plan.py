"""The words of an attack: what rival sets up before it, what rival's server does, and what rival and strangers send.

Four processes read the same attack: one that makes the rows, rival's server, the attackers, and the one that measures.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import orjson

from tests.neighbours.hostile import Behaviour
from tests.neighbours.visitor import Visitor

PAUSE = 0.1  # seconds between two requests of an attacker: what a request does is the attack, not how many come
PASSWORD = "correct horse battery staple"
RIVAL_ADMIN = "admin@rival.example"


@dataclass(frozen=True)
class Wanted:
    """A connection of rival's: its slug, which behaviour is behind it, and how often it is checked beforehand."""

    slug: str
    behaviour: str
    checks: int = 1
    host: str = "127.0.0.1"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attack:
    """One way to disturb the neighbours; `number` is that of the list that it was first described in."""

    name: str
    number: int
    sentence: str
    run: Callable[[Ground], Awaitable[None]]
    wanted: tuple[Wanted, ...] = ()
    behaviours: dict[str, Callable[[], Behaviour]] = field(default_factory=dict)
    by_name: bool = False  # servers are reached by names, which a name server of the row's own answers


@dataclass(frozen=True)
class Keys:
    """What callers need: tokens, and the ids of connections by slug."""

    acme_token: str
    acme_admin: str
    acme_connections: dict[str, str]
    rival_token: str
    rival_admin: str
    rival_connections: dict[str, str]

    def written(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(**orjson.loads(text))


@dataclass
class Ground:
    """Where an attack takes place, and the count of what was answered to it."""

    port: int
    keys: Keys
    server_port: int  # of rival's server
    name_server: str  # its address, where the row has one
    answers: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def visitor(self, what: str, token: str = "") -> AsyncIterator[Visitor]:
        """Have one who sends requests, with what is answered counted under a name."""
        async with Visitor(self.port, token, lambda status: self.answers.update([f"{what} {status}"])) as visitor:
            yield visitor

    async def all_of(self, *work: Awaitable[None]) -> None:
        """Do several things at once until the attack is over; one that fails ends the attack with its error."""
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(_as_coroutine(one))


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
