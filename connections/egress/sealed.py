"""The sealed part of an address: `{secret}` in a query's value or in the path, filled in at the moment of sending.

    https://mcp.example.com/mcp?key={secret}     what rows, pages, logs and calls know
    ("{secret}", "abc")                          what stands for it, among the headers of a request

No header can have that name, so nothing but `addressed` gets such a request past the HTTP library. The secret is kept
as it stands in the address: with what needs it escaped. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from connections.egress.urls import PLACE, is_secret_member, is_secret_step

__all__ = [
    "PLACE",
    "Split",
    "addressed",
    "bare",
    "escaped",
    "filled",
    "has_place",
    "is_well_placed",
    "looks_random",
    "may_be_secret",
    "split",
    "with_place",
    "without",
]
Headers = list[tuple[bytes, bytes]]
_PLACES = (b"{secret}", b"%7Bsecret%7D")  # as written, and as `check_hop` escapes it
_ESCAPED_PLACE = re.compile(r"%7Bsecret%7D", re.IGNORECASE)
_HIDDEN = "…"  # in the place of a part of a path that may be a credential
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ALONE = re.compile(r"https?://[^\s\"'`<>\\]+", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AS_IT_STANDS = "!$'()*,:@+=~"  # that a value of a query and a part of a path may both hold
_SHORTEST_RANDOM = 20  # characters
_FEWEST_DIGITS = 3
# How often the kind of character changes in random text (lower case, upper case, digit), of 1: words and dates less.
_RANDOM, _RANDOM_WITHOUT_DIGITS = 0.25, 0.45


@dataclass(frozen=True, slots=True)
class Split:
    """An address with a place in it, and the secret that was there."""

    address: str
    secret: str
    where: str


@dataclass(frozen=True, slots=True)
class _Part:
    kind: Literal["query", "path"]
    number: int
    name: str
    text: str


def has_place(url: str) -> bool:
    """Whether the address has a place for a secret."""
    return PLACE in url


def with_place(url: str) -> str:
    """Return a checked address with its place as it is written, not escaped."""
    return _ESCAPED_PLACE.sub(PLACE, url)


def is_well_placed(url: str) -> bool:
    """Whether there is exactly one place, in the value of a query's member or in the path."""
    parts = urlsplit(url)
    names = "&".join(member.partition("=")[0] for member in parts.query.split("&"))
    return url.count(PLACE) == 1 and PLACE not in parts.netloc and PLACE not in names


def escaped(secret: str) -> str:
    """Return a secret that a person entered as it stands in an address; escapes in it stay."""
    return quote(secret, safe="" if _BAD_ESCAPE.search(secret) else "%")


def filled(url: str, secret: str) -> str:
    """Return the address with the secret in its place."""
    return url.replace(PLACE, secret)


def addressed(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Return target and headers of a request with the secret among them in its place; others as they are."""
    place = next((place for place in _PLACES if place in target), None)
    secret = next((value for name, value in headers if name == _PLACES[0]), None) if place is not None else None
    if place is None or secret is None:
        return target, headers
    return target.replace(place, secret), [pair for pair in headers if pair[0] != _PLACES[0]]


def split(url: str, *, random: bool) -> Split | None:
    """Return an address apart from the one secret that it seems to hold; None for none, or for more than one.

    `random`: what has no name of a secret counts, too, if it looks like one.
    """
    if not _ALONE.fullmatch(url) or PLACE in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    found = list(_secrets(parts)) or (list(_random(parts)) if random else [])
    if len(found) != 1:
        return None
    part = found[0]
    if part.kind == "path":
        steps = parts.path.split("/")
        steps[part.number] = PLACE
        address = parts._replace(path="/".join(steps)).geturl()
        where = "a part of the path"
    else:
        members = parts.query.split("&")
        members[part.number] = f"{members[part.number].partition('=')[0]}={PLACE}"
        address = parts._replace(query="&".join(members)).geturl()
        where = f"“{part.name[:40]}” after the question mark"
    secret = quote(part.text, safe=_AS_IT_STANDS + ("" if _BAD_ESCAPE.search(part.text) else "%"))
    return Split(address, secret, where)


def without(url: str) -> str:
    """Return the address by which a server is named to others: without members that are secret, or hold the place.

    With the place in its path, what comes before: a resource may be named by a path above it (RFC 9728, section 3.3).
    """
    parts = urlsplit(url)
    if PLACE in parts.path:
        path = parts.path.partition(PLACE)[0].rpartition("/")[0]
        return parts._replace(path=path, query="").geturl()
    members = parts.query.split("&")
    kept = [one for one in members if PLACE not in one and not is_secret_member(*_read(one))]
    return parts._replace(query="&".join(kept)).geturl() if len(kept) < len(members) else url


def bare(url: str) -> str:
    """Return scheme, host and path, without what may be a credential in it: what everybody may see."""
    address, _, _ = url.partition("?")
    start = address.find("/", address.find("://") + 3)
    if start < 0:
        return address
    steps = address[start:].split("/")
    shown = [_HIDDEN if step != PLACE and may_be_secret(step) else step for step in steps]
    return f"{address[:start]}{'/'.join(shown)}"


def may_be_secret(step: str) -> bool:
    """Whether a part of a path may be a credential, an id that is hard to guess included."""
    text = unquote(step)
    return bool(is_secret_step(step) or _UUID.search(text)) or looks_random(text)


def looks_random(text: str) -> bool:
    """Whether a text looks like a key: long, and its kinds of characters mixed as in no name, version or date."""
    letters = [character for character in text if character.isascii() and character.isalnum()]
    if len(letters) < _SHORTEST_RANDOM or _UUID.fullmatch(text) or not re.fullmatch(r"[A-Za-z0-9_.~+/=-]+", text):
        return False
    kinds = ["0" if one.isdigit() else "a" if one.islower() else "A" for one in letters]
    changes = sum(one != other for one, other in pairwise(kinds)) / len(kinds)
    return changes >= (_RANDOM if kinds.count("0") >= _FEWEST_DIGITS else _RANDOM_WITHOUT_DIGITS)


def _secrets(parts: SplitResult) -> Iterator[_Part]:
    for number, member in enumerate(parts.query.split("&")):
        name, value = _read(member)
        if is_secret_member(name, value):
            yield _Part("query", number, name, member.partition("=")[2])
    for number, step in enumerate(parts.path.split("/")):
        if ";" not in unquote(step) and is_secret_step(step):
            yield _Part("path", number, "", step)


def _random(parts: SplitResult) -> Iterator[_Part]:
    for number, step in enumerate(parts.path.split("/")):
        if looks_random(unquote(step)):
            yield _Part("path", number, "", step)
    for number, member in enumerate(parts.query.split("&")):
        name, value = _read(member)
        if looks_random(value) and not name.lower().endswith("id"):
            yield _Part("query", number, name, member.partition("=")[2])


def _read(member: str) -> tuple[str, str]:
    name, _, value = member.partition("=")
    return unquote(name.replace("+", " ")), unquote(value.replace("+", " "))
