"""Guards in front of servers that let only browsers pass, and say in a header that they stopped a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_GUARDS: Final = {
    "cf-mitigated": "Cloudflare",
    "x-amzn-waf-action": "AWS WAF",
    "x-dd-b": "DataDome",
    "x-sucuri-block": "Sucuri",
    "x-vercel-mitigated": "Vercel",
}


def among(names: Iterable[str]) -> str:
    """Return the name of the guard that these headers tell of, "" for none; nothing has reached the server then."""
    return next((_GUARDS[name] for name in names if name in _GUARDS), "")
