"""Names to addresses, asked of the machine's name servers by c-ares: no thread waits, and a tenant has only its share.

A name is taken as it is written: no search list is applied to what a tenant entered. /etc/hosts and /etc/resolv.conf
count. What is found is cached for its TTL, a minute at most, and is checked each time that it is used (network.py).
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from weakref import WeakValueDictionary

import aiodns
import pycares
from cachetools import TLRUCache

from connections.context import tenant
from connections.egress import addresses
from connections.egress.loop import close_with_the_loop

MOST_OF_ONE = 8  # look-ups of one tenant under way in one event loop
MOST = 128  # of all together
LONGEST_KEPT = 60.0  # seconds, whatever the TTL says
MISSING_KEPT = 5.0  # seconds that a name counts as missing
_KEPT = 2_000  # names
_FIRST_TRY = 1.0  # seconds; twice as long for the second
_TRIES = 2  # of each name server
_IN_TURN = 5.0  # seconds that a look-up waits for its tenant's turn
_RENEWED_AFTER = 5.0  # seconds; c-ares caches answers, missing names for an hour, and reads its files only once
_FLAGS = pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES | pycares.ARES_FLAG_EDNS
_NOT_FOUND = {
    aiodns.error.ARES_ENODATA,
    aiodns.error.ARES_ENOTFOUND,
    aiodns.error.ARES_ENONAME,
    aiodns.error.ARES_EBADNAME,
}


class _Found(NamedTuple):
    """The result of a look-up: addresses, or why there are none; it is cached `until` then (monotonic clock)."""

    addresses: tuple[str, ...]
    error: OSError | None
    until: float


class Names:
    """The look-ups of one event loop."""

    def __init__(self, servers: Sequence[str] | None = None) -> None:
        """Take name servers (`address:port`) instead of the machine's."""
        self._servers = servers
        self._kept: TLRUCache[str, _Found] = TLRUCache(_KEPT, lambda _, found, __: found.until, time.monotonic)
        self._under_way: dict[tuple[str, str], asyncio.Task[_Found]] = {}
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._all = asyncio.Semaphore(MOST)
        self._resolver: aiodns.DNSResolver | None = None
        self._made = -math.inf

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host; raises TimeoutError, and gaierror as the system's resolver does."""
        host = host.removesuffix(".").lower()
        if (literal := _literal(host)) is not None:
            return [literal]
        found = self._kept.get(host)
        if found is None:
            found = await asyncio.shield(self._look_up(tenant.get() or _domain(host), host))
        if found.error is not None:
            raise found.error.with_traceback(None)
        return list(found.addresses)

    async def aclose(self) -> None:
        """Cancel the look-ups under way."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    def _look_up(self, whose: str, host: str) -> asyncio.Task[_Found]:
        """Return the tenant's one task that looks this name up; it goes on when nobody waits for it any more."""
        key = (whose, host)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._ask(whose, host))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    async def _ask(self, whose: str, host: str) -> _Found:
        share = self._shares.setdefault(whose, asyncio.Semaphore(MOST_OF_ONE))
        try:
            async with asyncio.timeout(_IN_TURN):
                await share.acquire()
        except TimeoutError as error:
            return _Found((), error, 0)
        try:
            async with self._all:
                found = await self._answer(host)
        finally:
            share.release()
        if found.until > time.monotonic():
            self._kept[host] = found
        return found

    async def _answer(self, host: str) -> _Found:
        now = time.monotonic()
        try:
            answer = await self._asked().getaddrinfo(host, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            return _failed(error.args[0], now)
        except (pycares.AresError, OSError, UnicodeError):  # c-ares cannot even begin
            return _Found((), socket.gaierror(socket.EAI_FAIL, "no resolver"), 0)
        found = dict.fromkeys(str(ip_address(_text(node.addr[0]))) for node in answer.nodes)
        ttl = min([node.ttl for node in answer.nodes] + [alias.ttl for alias in answer.cnames], default=0)
        return _Found(tuple(found), None, now + min(max(ttl, 0), LONGEST_KEPT))

    def _asked(self) -> aiodns.DNSResolver:
        now = time.monotonic()
        if self._resolver is None or now - self._made > _RENEWED_AFTER:
            # The previous one stays until its look-ups are done.
            self._resolver = aiodns.DNSResolver(self._servers, flags=_FLAGS, timeout=_FIRST_TRY, tries=_TRIES)
            self._made = now
        return self._resolver


def _failed(code: int, now: float) -> _Found:
    if code in _NOT_FOUND:
        return _Found((), socket.gaierror(socket.EAI_NONAME, "no such host"), now + MISSING_KEPT)
    if code == aiodns.error.ARES_ETIMEOUT:
        return _Found((), TimeoutError(), 0)
    return _Found((), socket.gaierror(socket.EAI_AGAIN, "the name server failed"), 0)


def _literal(host: str) -> str | None:
    """Return the address that is written in a host itself, in whatever form the system's resolver would take it."""
    try:
        return str(addresses.parse(host))
    except ValueError:
        pass
    try:
        return str(addresses.parse_loose(host))
    except ValueError:
        return None


def _domain(host: str) -> str:
    """Return the domain whose share is used where no tenant is known: slow name servers use up only their domain's."""
    return ".".join(host.split(".")[-2:])


def _text(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address


_names: dict[asyncio.AbstractEventLoop, tuple[Names, object]] = {}


async def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses of a host by the machine's name servers; raises as `Names.resolve` does."""
    loop = asyncio.get_running_loop()
    if loop not in _names:
        for finished in [known for known in _names if known.is_closed()]:
            del _names[finished]
        made = Names()
        _names[loop] = made, close_with_the_loop(made.aclose)
    return await _names[loop][0].resolve(host, port)
