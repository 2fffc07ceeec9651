"""Who may use which tool under which name: decisions without a row or a socket."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256

PUBLIC_NAME_LENGTH = 64  # what the strictest model providers accept
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_-]")
_HASH_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a tool may be used; if not, a stable code and the reason as a sentence."""

    code: str
    sentence: str

    @property
    def usable(self) -> bool:
        """Whether assignments may use the tool."""
        return self.code in {"usable", "tool_asks"}


def availability(
    *, digest: str, approved_digest: str, gone: bool, broken: str, denied: bool, asks: bool
) -> Availability:
    """Return whether a tool may be used; the first reason against its use wins."""
    if gone:
        return Availability("tool_gone", "The server no longer offers this tool.")
    if broken:
        return Availability("tool_broken", f"Set aside: {broken}")
    if denied:
        return Availability("tool_denied", "An organization admin has denied the use of this tool.")
    if not approved_digest:
        return Availability(
            "tool_new", "Set aside: it appeared after the first listing and waits for an admin's approval."
        )
    if approved_digest != digest:
        return Availability(
            "tool_changed", "Set aside: the server changed its definition and an admin has to approve it."
        )
    if asks:
        return Availability("tool_asks", "In use: an organization admin approves each call.")
    return Availability("usable", "In use.")


def public_name(slug: str, tool_name: str, taken: Container[str] = ()) -> str:
    """Return the name under which assignments see a tool: `{slug}__{tool}`, at most 64 of [A-Za-z0-9_-].

    A name that had to be changed or cut ends in a hash of the original, so that two tools do not get the same name;
    if they would even so (the name is in `taken`), the hash gets longer.
    """
    cleaned = _NOT_ALLOWED.sub("_", tool_name)
    plain = f"{slug}__{cleaned}"
    if cleaned == tool_name and len(plain) <= PUBLIC_NAME_LENGTH and plain not in taken:
        return plain
    digest = sha256(f"{slug}\0{tool_name}".encode()).hexdigest()
    name = plain
    for length in range(_HASH_LENGTH, len(digest) + 1, _HASH_LENGTH):
        name = f"{plain[: PUBLIC_NAME_LENGTH - length - 1]}_{digest[:length]}"[:PUBLIC_NAME_LENGTH]
        if name not in taken:
            break
    return name
