"""Whose address counts: the last one that a trusted proxy did not write itself."""

from __future__ import annotations

from typing import Any

import pytest

from connections.clients import past_proxies, share_of

pytestmark = pytest.mark.smoke

CLIENT, PROXY, INNER = "198.51.100.7", "10.0.0.1", "10.0.0.2"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ([], CLIENT, "", CLIENT),
        ([], CLIENT, "203.0.113.1", CLIENT),  # nobody is trusted
        ([], PROXY, CLIENT, PROXY),
        (["10.0.0.0/8"], PROXY, CLIENT, CLIENT),
        (["10.0.0.0/8"], PROXY, f"203.0.113.1, {CLIENT}", CLIENT),  # the client wrote the first one
        (["10.0.0.0/8"], PROXY, f"203.0.113.1, {CLIENT}, {INNER}", CLIENT),
        (["10.0.0.0/8"], CLIENT, "203.0.113.1", CLIENT),  # past the proxy
        (["10.0.0.0/8"], PROXY, "", PROXY),
        (["10.0.0.0/8"], PROXY, "no address", PROXY),
        (["10.0.0.0/8"], PROXY, f"{CLIENT}, no address", PROXY),
        (["10.0.0.0/8"], PROXY, f"{CLIENT}:4711", CLIENT),
        (["10.0.0.0/8"], PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (["10.0.0.0/8"], f"::ffff:{PROXY}", CLIENT, CLIENT),
        (["10.0.0.0/8"], "", CLIENT, CLIENT),  # a proxy behind a unix socket
        ([], "", CLIENT, ""),
    ],
)
def test_the_address_of_a_client(settings: Any, trusted: list[str], peer: str, forwarded: str, address: str) -> None:
    settings.TRUSTED_PROXIES = trusted
    assert past_proxies(peer, forwarded) == address


@pytest.mark.parametrize(
    ("address", "share"),
    [
        (CLIENT, CLIENT),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        (f"::ffff:{CLIENT}", CLIENT),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_shares_a_limit(address: str, share: str) -> None:
    assert share_of(address) == share
