from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections import egress
from connections.egress import addresses
from tests.connections.ssrf import PRIVATE_ANSWERS


def spellings(address: IPv4Address) -> list[str]:
    octets = address.packed
    number = int(address)
    return [
        str(address),
        f"{address}.",
        str(number),
        f"0x{number:x}",
        f"0X{number:08X}",
        f"0{number:o}",
        ".".join(f"0x{octet:02x}" for octet in octets),
        ".".join(f"0{octet:o}" for octet in octets),
        f"{octets[0]}.{number & 0xFFFFFF}",
        f"{octets[0]}.{octets[1]}.{number & 0xFFFF}",
        str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
        str(address).replace(".", "\u3002"),
        f"[::ffff:{address}]",
        f"[64:ff9b::{address}]",
        f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]",
        f"[2001:0:{number >> 16:x}:{number & 0xFFFF:x}::1]",
        f"[::{address}]",
    ]


private = st.sampled_from(addresses.BLOCKED_V4).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
)
labels = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)


@given(private)
def test_every_spelling_of_a_private_address_is_refused(address: IPv4Address) -> None:
    for host in spellings(address):
        with pytest.raises(egress.Refused) as refusal:
            egress.check_url(f"https://{host}/mcp")
        assert refusal.value.code == "private_address", host


@pytest.mark.parametrize("host", ["8.8.8.256", "8.8.65536", "8.16777216", "4294967296", "8.256.8.8", "8.8.8.8.8"])
def test_what_no_parser_takes_for_an_address_is_none(host: str) -> None:
    """Read further it would be another one than was written: 8.8.9.0 for the first."""
    with pytest.raises(ValueError, match=re.escape(host)):
        addresses.parse_loose(host)


@given(st.lists(labels, min_size=1, max_size=3), st.sampled_from(["com", "dev", "ai", "example"]))
def test_ordinary_host_names_pass_unchanged(names: list[str], last: str) -> None:
    url = f"https://{'.'.join(names)}.{last}/mcp"
    assert egress.check_url(url) == url


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_ipv4_address_is_public_or_blocked_and_so_is_its_mapped_form(address: IPv4Address) -> None:
    assert addresses.is_public(address) != any(address in network for network in addresses.BLOCKED_V4)
    assert addresses.is_public(IPv6Address(f"::ffff:{address}")) == addresses.is_public(address)
    assert address.is_global or not addresses.is_public(address)


@given(st.text(max_size=80))
def test_any_text_is_either_normalized_for_good_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://mcp.example.com/{text}"):
        try:
            checked = egress.check_url(url)
        except egress.Refused:
            continue
        assert egress.check_url(checked) == checked
        assert checked.isascii()


@pytest.mark.parametrize("text", PRIVATE_ANSWERS)
def test_private_and_reserved_addresses_are_not_public(text: str) -> None:
    assert not addresses.is_public(addresses.parse(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
)
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert addresses.is_public(ip_address(text))


def test_an_opened_network_holds_its_mapped_addresses_too() -> None:
    opened = [IPv4Network("10.0.0.0/8")]
    assert addresses.is_within(ip_address("::ffff:10.1.1.1"), opened)
    assert not addresses.is_within(ip_address("11.0.0.1"), opened)
