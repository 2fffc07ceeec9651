"""Where a request comes from: the address of the client, past the proxies that are trusted.

TRUSTED_PROXIES names them. Without it `X-Forwarded-For` is ignored, and the address is that of the TCP connection.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

_LONGEST = 2_000  # characters of X-Forwarded-For that are read


def header_of(request: HttpRequest, name: str) -> str | None:
    """Return one header, by its name in capitals with underscores, where time counts: `request.headers` copies all."""
    value: str | None = request.META.get(f"HTTP_{name}")
    return value


def address_of(request: HttpRequest) -> str:
    """Return the address of a request's client; "" where it is not known, as behind a unix socket."""
    return past_proxies(request.META.get("REMOTE_ADDR", ""), request.headers.get("x-forwarded-for", ""))


def past_proxies(peer: str, forwarded: str) -> str:
    """Return the last address before the trusted proxies, which each add to `X-Forwarded-For` on its right."""
    trusted = _networks(tuple(settings.TRUSTED_PROXIES))
    client = _parsed(peer)
    if client is None:  # a unix socket has no address: whoever may open it is a proxy
        if not trusted:
            return ""
    elif not any(client in network for network in trusted):
        return str(client)
    for part in reversed(forwarded[-_LONGEST:].split(",")):
        parsed = _parsed(part.strip())
        if parsed is None:
            break
        client = parsed
        if not any(client in network for network in trusted):
            break
    return "" if client is None else str(client)


def share_of(address: str) -> str:
    """Return what an address is limited as: itself, or in IPv6 its network of 64 bits."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return "" if parsed is None else str(parsed)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # an IPv4 address with a port
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8)
def _networks(named: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(name) for name in named]
