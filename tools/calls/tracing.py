"""Which calls belong together: the W3C Trace Context, from our caller to the server. Pure."""

from __future__ import annotations

import random
import re

# version, trace id, span id, flags; a later version may say more, of which nothing is known (section 3.2.2).
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse(header: str | None) -> str:
    """Return a valid `traceparent` as version 00 writes it, else "" (W3C Trace Context, section 3.2)."""
    found = _TRACEPARENT.fullmatch(header.strip()) if header else None
    if found is None or (found[1] == "00" and found[5]):
        return ""
    return f"00-{found[2]}-{found[3]}-{found[4]}"


def meta(traceparent: str) -> dict[str, str]:
    """Return what a request carries in `_meta`: the same trace with a span of our own (2026-07-28, SEP-414)."""
    if not traceparent:
        return {}
    version, trace_id, _, flags = traceparent.split("-")
    return {"traceparent": f"{version}-{trace_id}-{random.getrandbits(64) or 1:016x}-{flags}"}
