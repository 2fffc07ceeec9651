"""The Prefer request header (RFC 7240): how long a caller wants to wait, and whether for a login. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_WAIT = 30
LONGEST_WAIT = 300
LOGIN = "wait-for-login"
_WAIT = re.compile(r'wait\s*=\s*(?:(\d{1,6})|"(\d{1,6})")\s*(?:;.*)?', re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller prefers: not to wait at all, or to wait so many seconds."""

    respond_async: bool
    wait: int

    def applied(self) -> str:
        """Return the value of Preference-Applied for an answer that follows it."""
        return "respond-async" if self.respond_async else f"wait={self.wait}"


def parse(header: str | None) -> Preference | None:
    """Return the preference in a Prefer header, or None without one; unknown preferences are ignored, as the RFC asks.

    A wait beyond 300 seconds is taken as 300.
    """
    parts = [part.strip() for part in (header or "").split(",")]
    respond_async = any(part.split(";")[0].strip().lower() == "respond-async" for part in parts)
    wait = next((match for part in parts if (match := _WAIT.fullmatch(part))), None)
    if not respond_async and wait is None:
        return None
    return Preference(respond_async, min(int(wait[1] or wait[2]), LONGEST_WAIT) if wait else DEFAULT_WAIT)


def waits_for_login(header: str | None) -> bool:
    """Tell whether a call is to wait until the owner of its assignment has connected, where that is missing."""
    return any(part.split(";")[0].strip().lower() == LOGIN for part in (header or "").split(","))
