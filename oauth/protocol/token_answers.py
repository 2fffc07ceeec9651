"""Answers of token endpoints that differ from RFC 6749, section 5, and can be read in one way only. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_OF_A_TOKEN = ("access_token", "token_type", "refresh_token", "expires_in", "scope")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider answers; it is recognized by its hosts, or by a member that only its answers have.

    `holder`: the member that holds the token of a person. `bearers`: its names for bearer tokens.
    """

    name: str
    hosts: tuple[str, ...]
    marks: tuple[str, ...] = ()
    holder: str = ""
    bearers: tuple[str, ...] = ()


# Both separate scopes by commas.
DIALECTS = (
    Dialect("Slack", ("slack.com", "slack-gov.com"), ("ok", "authed_user"), "authed_user", ("user", "bot")),
    Dialect("GitHub", ("github.com", "ghe.com")),
)


def standard(members: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the members of an answer of the token endpoint at this URL as RFC 6749 has them."""
    dialect = _spoken(members, url)
    if dialect is None:
        return members
    held = members.get(dialect.holder)
    if not members.get("access_token") and isinstance(held, Mapping):
        members = {**members, **{name: held[name] for name in _OF_A_TOKEN if name in held}}
    if members.get("token_type") in dialect.bearers:
        members = {**members, "token_type": "Bearer"}
    if isinstance(members.get("scope"), str):
        members = {**members, "scope": members["scope"].replace(",", " ")}
    return members


def _spoken(members: Mapping[str, Any], url: str) -> Dialect | None:
    host = (urlsplit(url).hostname or "").lower()
    for dialect in DIALECTS:
        if any(host == known or host.endswith(f".{known}") for known in dialect.hosts):
            return dialect
        if any(isinstance(members.get(mark), bool | Mapping) for mark in dialect.marks):
            return dialect
    return None
