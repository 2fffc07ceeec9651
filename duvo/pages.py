"""Pages, and what else goes through Django: so many at a time, and so many for each organization.

A page needs a thread and a database connection, and how dear it is follows from what tenants and servers put into it.
At most half of the process' connections are in pages at any moment, so that calls, which have the other half, never
wait for pages; and an organization has its share of those, so that pages of one do not keep those of another waiting.
A page that waits for another server holds neither a connection nor, as long as not too many do, a slot.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator, Mapping
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from cachetools import TTLCache
from django.conf import settings
from django.db import Error as DatabaseFailed
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from rest_framework.permissions import SAFE_METHODS

from connections import outages
from connections.clients import address_of, share_of
from connections.context import WHOSE, acting_for
from connections.egress.loop import release_database, while_waiting
from connections.errors import TooManyTries
from connections.models import Role
from duvo import database_failures
from duvo.addresses import OPERATIONS  # they are answered also when the process is busy
from tools.api import problems
from tools.callers import recognize, token_digest
from tools.calls import limits
from tools.errors import LimitReached

PATIENCE = 15.0  # seconds that a page waits for a slot: a person prefers a slow page to a refusal
MOST_WAITING = 1_000  # pages
MOST_WAITING_ALIKE = 100  # pages, of one organization's people or programs, or of one address
_COUNTED = frozenset({"admin", "admin's program"})
HELP = "/help/"  # its pages are drawn already, and ask no database
_KNOWN_FOR = 600  # seconds
_PART = 1  # of ten slots, for one organization: they share one interpreter with calls
_PART_OF_AN_ADDRESS = 4  # of ten slots, for requests from one address of whose sender nothing is known yet
_LENT = 4  # times as many pages may wait for other servers

Bounds = Mapping[Hashable, int]


class Busy(Exception):
    """There is no free slot, and there was none for a while."""


class Slots:
    """Slots that count against several names at once, each with its own limit; whoever waits longest is next."""

    def __init__(self) -> None:
        """Begin with every slot free."""
        self._taken: Counter[Hashable] = Counter()
        self.lent: Counter[Hashable] = Counter()  # slots of pages that wait for other servers
        self._waiting: deque[tuple[Bounds, asyncio.Future[None]]] = deque()

    async def acquire(self, bounds: Bounds, *, patience: float) -> None:
        """Take a slot as soon as no limit is reached; raises Busy after `patience` seconds."""
        if self._has_room(bounds):
            self._taken.update(dict.fromkeys(bounds, 1))
            return
        alike = sum(other.keys() == bounds.keys() for other, _ in self._waiting)
        if alike >= MOST_WAITING_ALIKE or len(self._waiting) >= MOST_WAITING:
            raise Busy
        turn = (bounds, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn[1]
        except TimeoutError as error:
            if turn[1].done() and not turn[1].cancelled():  # it was given at this very moment
                return
            raise Busy from error
        except asyncio.CancelledError:
            if turn[1].done() and not turn[1].cancelled():  # it was given a moment ago
                self.release(bounds)
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def lend(self, bounds: Bounds) -> bool:
        """Release a slot that will be acquired again; False if too many pages wait for other servers already."""
        if any(self.lent[name] >= bound * _LENT for name, bound in bounds.items()):
            return False
        self.lent.update(bounds.keys())
        self.release(bounds)
        return True

    def release(self, bounds: Bounds) -> None:
        """Release a slot to those who wait."""
        self._taken.subtract(dict.fromkeys(bounds, 1))
        self._taken += Counter()  # drops names without a slot
        for turn in list(self._waiting):
            if not turn[1].done() and self._has_room(turn[0]):
                self._taken.update(dict.fromkeys(turn[0], 1))
                self._waiting.remove(turn)
                turn[1].set_result(None)

    def _has_room(self, bounds: Bounds) -> bool:
        return all(self._taken[name] < bound for name, bound in bounds.items())


class HeldSlot:
    """The slot of one page, which others may use while the page waits for another server."""

    def __init__(self, slots: Slots, bounds: Bounds) -> None:
        """Take a slot that was acquired in the running loop."""
        self._slots, self._bounds, self._loop = slots, bounds, asyncio.get_running_loop()
        self._taken, self._lent, self._over = True, False, False

    @contextmanager
    def lent_out(self) -> Iterator[None]:
        """Lend the slot to others inside, from the page's thread; if none is free in time, the page goes on without."""
        self._in_loop(self._lend())
        try:
            yield
        finally:
            self._in_loop(self._acquire_again())

    def _in_loop(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run_coroutine_threadsafe(step, self._loop).result(2 * PATIENCE)
        except (RuntimeError, NotInTime):  # the process ends, and with it all slots
            step.close()

    async def _lend(self) -> None:
        if self._taken and self._slots.lend(self._bounds):
            self._taken, self._lent = False, True

    async def _acquire_again(self) -> None:
        if not self._lent:
            return
        self._lent = False
        self._slots.lent -= Counter(self._bounds.keys())
        with suppress(Busy):
            await self._slots.acquire(self._bounds, patience=PATIENCE)
            self._taken = True
            if self._over:  # nobody waits for the page any more
                self.release()

    def release(self) -> None:
        """Release the slot for good."""
        self._over = True
        if self._taken:
            self._taken = False
            self._slots.release(self._bounds)


class PagesMiddleware:
    """Lets a page run when there is a slot for it, and releases its database connection while it needs none."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Keep the next layer; behave async if it is."""
        self.get_response = get_response
        self._whose: TTLCache[str, Hashable] = TTLCache(maxsize=10_000, ttl=_KNOWN_FOR)
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, Slots] = WeakKeyDictionary()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request, or say that it is to be tried again."""
        if iscoroutinefunction(self.get_response):
            return self._answer(request)
        response: HttpResponseBase = self.get_response(request)
        return response

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        """Release the database connection before a page is rendered: most of what it shows has been read."""
        release_database()
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if request.path in OPERATIONS or request.path.startswith(HELP):
            response: HttpResponseBase = await self.get_response(request)
            return response
        slots = self._slots.setdefault(asyncio.get_running_loop(), Slots())
        try:
            whose = await self._whose_token(request) or self._whose.get(_browser(request))
        except DatabaseFailed as failure:
            if outages.is_away(failure):  # the page would wait for it once more
                return database_failures.away(request)
            whose = None
        bounds = self._bounds(request, whose)
        try:
            await slots.acquire(bounds, patience=PATIENCE)
        except Busy:
            return busy(request)
        work: asyncio.Future[HttpResponseBase] | None = None
        held = HeldSlot(slots, bounds)
        while_waiting.set(held.lent_out)
        try:
            if request.method not in SAFE_METHODS:
                await _count_change(bounds)
            with acting_for(_share(request, whose)):
                work = asyncio.ensure_future(self._work(request))
            return await asyncio.shield(work)
        except LimitReached as full:
            return refused(request, full)
        except asyncio.CancelledError:
            if work is not None:
                await asyncio.wait({work})  # the client has gone, and the thread works on: its slot is still taken
            raise
        finally:
            self._learn(request)
            held.release()

    async def _work(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        # No database connection is held while the answer is sent: the client may read slowly.
        await sync_to_async(release_database)()
        return response

    @staticmethod
    def _bounds(request: HttpRequest, whose: Hashable | None) -> Bounds:
        """Return the names that the request's slot counts against, with their limits."""
        every = max(1, settings.DATABASE_POOL_SIZE // 2)
        part = max(1, every * _PART // 10)
        if whose is not None:
            vars(request).get("scope", {})[WHOSE] = whose
            return {"all": every, whose: part}
        address = ("stranger", share_of(address_of(request)))
        return {"all": every, "strangers": max(1, every // 2), address: max(1, every * _PART_OF_AN_ADDRESS // 10)}

    @staticmethod
    async def _whose_token(request: HttpRequest) -> Hashable | None:
        digest = token_digest(request.headers.get("Authorization"))
        try:
            principal = await recognize(digest, request) if digest else None
        except TooManyTries:
            return None
        if principal is None:
            return None
        # Programs have slots beside those of people, and what only admins may do is not counted for others.
        return ("admin's program" if principal.role == Role.ADMIN else "program", frozenset({principal.tenant_id}))

    def _learn(self, request: HttpRequest) -> None:
        """Remember whose browser it was, if the page has read the person's roles anyway."""
        user: Any = getattr(request, "_cached_user", None)
        if request.COOKIES.get(settings.SESSION_COOKIE_NAME) and user is not None and "roles" in vars(user):
            admin_of = frozenset(tenant for tenant, role in user.roles.items() if role == Role.ADMIN)
            whose = ("admin", admin_of) if admin_of else ("person", frozenset(user.roles))
            self._whose[_browser(request)] = whose


def busy(request: HttpRequest) -> HttpResponse:
    """Return the answer that there is no free slot."""
    body = problems.problem(503, "busy", "Too much is asked at this moment. Try again in a moment.")
    return _answer_with(request, body, {"Retry-After": "2"})


def refused(request: HttpRequest, full: LimitReached) -> HttpResponse:
    """Return the answer to a change that exceeds the organization's limit of changes."""
    return _answer_with(request, *problems.of(full))


async def _count_change(bounds: Bounds) -> None:
    """Count a change for each organization that the person or program is an admin of; raises LimitReached."""
    for name in bounds:
        if isinstance(name, tuple) and name[0] in _COUNTED:
            for tenant_id in name[1]:
                await limits.change(tenant_id)


def _answer_with(request: HttpRequest, body: dict[str, Any], headers: dict[str, str]) -> HttpResponse:
    response: HttpResponse
    if request.path.startswith("/v1/"):
        response = JsonResponse(body, status=body["status"], content_type=problems.CONTENT_TYPE, headers=headers)
    else:
        context = {"heading": "Too much is asked at this moment", "sentence": body["detail"]}
        response = render(request, "wait.html", context, status=body["status"])
        for name, value in headers.items():
            response[name] = value
    response["Cache-Control"] = "no-store"
    return response


def _share(request: HttpRequest, whose: Hashable | None) -> str:
    """Return for whom a page looks names up: its organization, as checks do, or else all of one's, or the address."""
    if not isinstance(whose, tuple):
        return f"stranger {share_of(address_of(request))}"
    ids = sorted(map(str, whose[1]))
    return ids[0] if len(ids) == 1 else f"{whose[0]} {' '.join(ids)}"


def _browser(request: HttpRequest) -> str:
    return sha256(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "").encode()).hexdigest()
