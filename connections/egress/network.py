"""Names to addresses to sockets: resolve once, refuse unless every address is public, connect to exactly those.

The URL is never rewritten to the address, so TLS checks the certificate against the host name of the URL, and a
pooled connection is reused for that host only. A name that is rebound after the check changes nothing, because the
checked addresses are the ones connected to; cached answers of the resolver are checked like new ones.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpcore2
from django.conf import settings

from connections.egress import addresses, handshakes, loop, urls
from connections.egress.names import system_resolver
from connections.egress.record import note
from connections.egress.wire import Wire
from connections.errors import Refused, Unreachable

Resolver = Callable[[str, int], Awaitable[list[str]]]
DNS_TIMEOUT = 5.0  # seconds
MOST_ADDRESSES = 16  # of a host that are tried; every one that it has is checked
CONNECT_TIMEOUT = 10.0  # seconds for DNS and TCP, and again for TLS, where the request names none
NOT_FOUND = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


# --- names ----------------------------------------------------------------------------------------------------------


def resolve(host: str, port: int = 443, *, https: bool = True) -> list[str]:
    """Return the host's addresses, all of which may be reached; raises Refused, or Unreachable if DNS fails now."""
    return loop.run(resolve_async(host, port, https=https, resolver=system_resolver, timeout=DNS_TIMEOUT))


async def resolve_async(host: str, port: int, *, https: bool, resolver: Resolver, timeout: float) -> list[str]:  # noqa: ASYNC109 - becomes part of one deadline
    """Do what `resolve` does, in a coroutine and with any resolver."""
    with _dns_errors(host):
        async with asyncio.timeout(min(timeout, DNS_TIMEOUT)):
            found = await resolver(host, port)
    return _permitted(found, port, https=https)[:MOST_ADDRESSES]


@contextmanager
def _dns_errors(host: str) -> Iterator[None]:
    try:
        yield
    except socket.gaierror as error:
        if error.errno in NOT_FOUND:
            sentence = f"The name {host} does not exist. Check the spelling of the URL."
            raise Refused(sentence, code="host_not_found") from error
        sentence = f"The name {host} cannot be looked up right now."
        raise Unreachable(sentence, code="dns_failed") from error
    except TimeoutError as error:
        sentence = f"The name server did not answer in time for {host}."
        raise Unreachable(sentence, code="dns_failed") from error
    except (OSError, UnicodeError) as error:
        sentence = f"The name {host} cannot be looked up."
        raise Unreachable(sentence, code="dns_failed") from error


def _permitted(found: list[str], port: int, *, https: bool) -> list[str]:
    """Return the addresses if every one may be reached on this port; raises Refused if a single one may not."""
    opened = addresses.networks(settings.EGRESS_ALLOWED_NETWORKS)
    parsed = [addresses.parse(text) for text in found]
    if not parsed:
        raise Unreachable("The server's name has no address.", code="dns_failed")
    if all(addresses.is_within(address, opened) for address in parsed):
        return found
    if not all(addresses.is_public(address) or addresses.is_within(address, opened) for address in parsed):
        raise urls.refused("private_address")
    if not https:
        raise urls.refused("https_required")
    if port not in settings.EGRESS_ALLOWED_PORTS:
        raise urls.port_refused(port)
    return found


# --- sockets --------------------------------------------------------------------------------------------------------


class PinnedBackend:
    """Connects only to addresses that were checked right before; raises Refused or Unreachable, nothing sent."""

    def __init__(self, *, https: bool, resolver: Resolver = system_resolver) -> None:
        """Take whether TLS follows (without it only opened networks are reached) and who resolves names."""
        self._https = https
        self._resolver = resolver

    async def connect(self, host: str, port: int, seconds: float | None = None) -> Wire:
        """Resolve the host once, check every address, connect to the first that answers, and speak TLS with it.

        So many seconds may pass for names and TCP, and again for TLS.
        """
        seconds = CONNECT_TIMEOUT if seconds is None else seconds
        deadline = time.monotonic() + seconds
        host = host.strip("[]")
        found = await self._resolve(host, port, deadline)
        started = time.monotonic()
        try:
            wire, address = await _connect_to_any(found, port, deadline)
        except Unreachable as error:
            note("tcp", error.sentence, started=started, code=error.code, addresses=tuple(found))
            raise
        note("tcp", f"Connected to {address} port {port}.", started=started, addresses=(address,))
        if self._https:
            await _secure(wire, host, seconds)
        return wire

    async def _resolve(self, host: str, port: int, deadline: float) -> list[str]:
        started = time.monotonic()
        try:
            found = await resolve_async(
                host, port, https=self._https, resolver=self._resolver, timeout=deadline - started
            )
        except (Refused, Unreachable) as error:
            note("dns", error.sentence, started=started, code=error.code)
            raise
        note("dns", f"{host} is {', '.join(found)}.", started=started, addresses=tuple(found))
        return found

    async def connect_unix_socket(self, *_: object, **__: object) -> Wire:
        """Refuse: no URL leads to a socket file."""
        raise urls.refused("scheme_forbidden")


async def _connect_to_any(found: list[str], port: int, deadline: float) -> tuple[Wire, str]:
    """Try the addresses in their order, each with its share of the time left."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for position, address in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - position)
        try:
            async with asyncio.timeout(share):
                _, wire = await loop.create_connection(Wire, address, port)
                return wire, address
        except OSError as error:  # TimeoutError is one
            failure = error
    if isinstance(failure, TimeoutError):
        sentence = f"The server did not answer on port {port} in time."
        raise Unreachable(sentence, code="connect_timeout") from failure
    sentence = f"The server does not accept connections on port {port}."
    raise Unreachable(sentence) from failure


# --- TLS ------------------------------------------------------------------------------------------------------------


def tls_context() -> ssl.SSLContext:
    """Return the process's one TLS context: the system's authorities, and those of EGRESS_CA_FILE."""
    return _tls_context(settings.EGRESS_CA_FILE)


@cache
def _tls_context(ca_file: Path | str | None) -> ssl.SSLContext:
    context = httpcore2.default_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


async def _secure(wire: Wire, host: str, seconds: float) -> None:
    """Secure a connection and check the certificate against the host name; raises Unreachable, nothing sent."""
    started = time.monotonic()
    address = wire.transport.get_extra_info("peername")
    try:
        transport = await asyncio.get_running_loop().start_tls(
            wire.transport, wire, tls_context(), server_hostname=host, ssl_handshake_timeout=seconds
        )
        # The peer disconnected, or bytes came before the handshake's end: anybody on the way can have sent those,
        # and they would be taken for the answer to the first request.
        if transport is None or wire.ended or wire.unasked:
            raise ConnectionResetError
    except OSError as error:  # SSLError is one
        wire.close()
        # What came before the handshake was kept by the wire: no TLS server speaks first.
        failure = handshakes.of_greeting(wire.unasked) or handshakes.judge(error)
        failure = await handshakes.look_again(failure, error, address, host)
        note("tls", failure.sentence, started=started, code=failure.code)
        raise Unreachable(failure.sentence, code=failure.code) from error
    wire.transport = transport
    version = transport.get_extra_info("ssl_object").version() or ""
    note("tls", f"The certificate is valid for {host} ({version}).", started=started, tls_version=version)


async def reach(url: str, *, resolver: Resolver = system_resolver) -> None:
    """Do DNS, TCP and TLS of a URL and disconnect; raises Refused or Unreachable. `observe()` collects the stages."""
    origin = httpcore2.URL(urls.check_hop(url)).origin
    wire = await PinnedBackend(https=origin.scheme == b"https", resolver=resolver).connect(
        origin.host.decode(), origin.port
    )
    wire.close()
