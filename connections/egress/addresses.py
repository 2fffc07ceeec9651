"""Which IP addresses are public. No I/O.

`ipaddress.is_global` alone is not enough on Python 3.11: it accepts NAT64, 6to4, multicast and 192.0.0.0/24.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

BLOCKED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier NAT; also a cloud's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent behind a public address
        "169.254.0.0/16",  # link-local; cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relay
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
GLOBAL_V6 = IPv6Network("2000::/3")  # the only range that is handed out; everything else is local or reserved
BLOCKED_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: a tunnel to whatever IPv4 address is inside
        "3ffe::/16",  # the old 6bone
        "3fff::/20",  # documentation
    )
]
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: upper half of the interface id, an IPv4 address in the lower


def parse(text: str) -> Address:
    """Return the address that a resolver or a URL wrote, without its zone; raises ValueError."""
    return ip_address(text.partition("%")[0])


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address inside a mapped (RFC 4291), NAT64 (RFC 6052) or ISATAP address, else the address."""
    if isinstance(address, IPv4Address):
        return address
    embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in NAT64:
        return embedded
    return embedded if (int(address) >> 32) & 0xFFFFFFFF in ISATAP else address


def is_public(address: Address) -> bool:
    """Say whether the address is somebody's on the public internet, whatever tunnel it is written in."""
    inner = unwrapped(address)
    if isinstance(inner, IPv4Address):
        return not any(inner in network for network in BLOCKED_V4)
    return inner in GLOBAL_V6 and not any(inner in network for network in BLOCKED_V6)


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Say whether the address, or the IPv4 address inside it, lies in one of the networks."""
    inner = unwrapped(address)
    return any(candidate in network for network in networks for candidate in (address, inner))


def networks(ranges: Iterable[str]) -> list[Network]:
    """Parse CIDR ranges such as `10.0.0.0/8`; raises ValueError."""
    return [ip_network(cidr) for cidr in ranges]


def ends_in_a_number(host: str) -> bool:
    """Say whether a URL parser takes the host for an IPv4 address (WHATWG URL, section 3.5)."""
    return re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", host.rstrip(".").rpartition(".")[2]) is not None


def parse_loose(host: str) -> IPv4Address:
    """Return the address behind the decimal, hex, octal and short forms that resolvers accept; raises ValueError."""
    parts = [_number(part) for part in host.removesuffix(".").split(".")]
    if not 1 <= len(parts) <= 4 or any(part > 0xFF for part in parts[:-1]):  # noqa: PLR2004 - four octets
        raise ValueError(host)
    if parts[-1] >= 256 ** (5 - len(parts)):
        raise ValueError(host)
    return IPv4Address(sum(part << (24 - 8 * place) for place, part in enumerate(parts[:-1])) + parts[-1])


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    if not text.isascii() or not text.isdecimal():
        raise ValueError(text)
    return int(text, 8) if text.startswith("0") and text != "0" else int(text)
