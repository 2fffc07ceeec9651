"""Pages, and what else goes through Django: so many at a time, and so many for each organization.

A page needs a thread and a database connection, and how dear it is follows from what tenants and servers put into it.
At most half of the process' connections are in pages at any moment, so that calls, which have the other half, never
wait for pages; and an organization has its share of those, so that pages of one do not keep those of another waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
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

from connections.egress.loop import release_database
from connections.errors import TooManyTries
from tools import limits, problems
from tools.authentication import recognize, token_digest
from tools.errors import LimitReached

PATIENCE = 5.0  # seconds that a page waits for a place
MOST_WAITING = 100  # pages
OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})  # they say how the process is, also when it is busy
_KNOWN_FOR = 600  # seconds
_PART = 4  # of ten places, for one organization

Bounds = Mapping[Hashable, int]


class Busy(Exception):
    """There is no place now, and there was none for a while."""


class Places:
    """Places that are taken under several names at once, each with its own bound; whoever waits longest is next."""

    def __init__(self) -> None:
        """Begin with every place free."""
        self._taken: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[Bounds, asyncio.Future[None]]] = deque()

    async def take(self, bounds: Bounds, *, patience: float) -> None:
        """Take a place as soon as no bound is reached, at the latest in `patience` seconds; raises Busy."""
        if self._has_room(bounds):
            self._taken.update(dict.fromkeys(bounds, 1))
            return
        if len(self._waiting) >= MOST_WAITING:
            raise Busy
        turn = (bounds, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn[1]
        except TimeoutError as error:
            raise Busy from error
        except asyncio.CancelledError:
            if turn[1].done() and not turn[1].cancelled():  # it was given a moment ago
                self.give_back(bounds)
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def give_back(self, bounds: Bounds) -> None:
        """Give a place back to those who wait."""
        self._taken.subtract(dict.fromkeys(bounds, 1))
        self._taken += Counter()  # forgets names without a place
        for turn in list(self._waiting):
            if not turn[1].done() and self._has_room(turn[0]):
                self._taken.update(dict.fromkeys(turn[0], 1))
                self._waiting.remove(turn)
                turn[1].set_result(None)

    def _has_room(self, bounds: Bounds) -> bool:
        return all(self._taken[name] < bound for name, bound in bounds.items())


class PagesMiddleware:
    """Let a page in when there is a place for it, and see to it that it holds no database connection for nothing."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Keep the next layer; behave async if it is."""
        self.get_response = get_response
        self._whose: TTLCache[str, Hashable] = TTLCache(maxsize=10_000, ttl=_KNOWN_FOR)
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = WeakKeyDictionary()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request, or say that it is to be tried again."""
        if iscoroutinefunction(self.get_response):
            return self._answer(request)
        response: HttpResponseBase = self.get_response(request)
        return response

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        """Give the connection back before a page is rendered: what it shows has been read, mostly."""
        release_database()
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if request.path in OPERATIONS:
            response: HttpResponseBase = await self.get_response(request)
            return response
        places = self._places.setdefault(asyncio.get_running_loop(), Places())
        bounds = await self._bounds(request)
        try:
            await places.take(bounds, patience=PATIENCE)
        except Busy:
            return busy(request)
        work: asyncio.Future[HttpResponseBase] | None = None
        try:
            if request.method not in SAFE_METHODS:
                await _count_change(bounds)
            work = asyncio.ensure_future(self._work(request))
            return await asyncio.shield(work)
        except LimitReached as full:
            return refused(request, full)
        except asyncio.CancelledError:
            if work is not None:
                await asyncio.wait({work})  # the client has gone, and the thread works on: its place is still taken
            raise
        finally:
            self._learn(request)
            places.give_back(bounds)

    async def _work(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        # Whoever reads slowly holds no connection while the answer is sent.
        await sync_to_async(release_database)()
        return response

    async def _bounds(self, request: HttpRequest) -> Bounds:
        """Return the names under which the request takes a place."""
        every = max(1, settings.DATABASE_POOL_SIZE // 2)
        part = max(1, every * _PART // 10)
        whose = await self._whose_token(request) or self._whose.get(_browser(request))
        if whose is not None:
            return {"all": every, whose: part}
        address = ("stranger", request.META.get("REMOTE_ADDR"))
        return {"all": every, "strangers": max(1, every // 2), address: part}

    @staticmethod
    async def _whose_token(request: HttpRequest) -> Hashable | None:
        digest = token_digest(request.headers.get("Authorization"))
        try:
            principal = await recognize(digest, request) if digest else None
        except (DatabaseFailed, TooManyTries):
            return None
        return frozenset({principal.tenant_id}) if principal else None

    def _learn(self, request: HttpRequest) -> None:
        """Remember whose browser it was: where it is looked up, a query has been made anyway."""
        user: Any = getattr(request, "_cached_user", None)
        if request.COOKIES.get(settings.SESSION_COOKIE_NAME) and user is not None and "roles" in vars(user):
            self._whose[_browser(request)] = frozenset(user.roles)


def busy(request: HttpRequest) -> HttpResponse:
    """Return the answer that there is no place now."""
    body = problems.problem(503, "busy", "Too much is asked at this moment. Try again in a moment.")
    return _told(request, body, {"Retry-After": "2"})


def refused(request: HttpRequest, full: LimitReached) -> HttpResponse:
    """Return the answer that so much was changed that nothing more may be for a moment."""
    return _told(request, *problems.of(full))


async def _count_change(bounds: Bounds) -> None:
    """Take a token of each organization whose the request is; raises LimitReached."""
    for tenants in (name for name in bounds if isinstance(name, frozenset)):
        for tenant_id in tenants:
            await limits.change(tenant_id)


def _told(request: HttpRequest, body: dict[str, Any], headers: dict[str, str]) -> HttpResponse:
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


def _browser(request: HttpRequest) -> str:
    return sha256(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "").encode()).hexdigest()
