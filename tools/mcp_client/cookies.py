"""The cookies of one session, with which load balancers lead its requests to the instance that has it (RFC 6265)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

MOST: Final = 20  # cookies of one session; further ones are ignored
LONGEST: Final = 4096  # bytes of name and value
# As browsers take them (RFC 6265, section 5.2): servers write lists, JSON and blanks, too.
_NAME: Final = re.compile(rb"[!-+\--:<>-~]+")
_VALUE: Final = re.compile(rb"[ -:<-~]*")


class Cookies:
    """Kept in memory for one session, sent back to the very address that set them, and shown nowhere.

    Whatever domain a cookie names, no other host gets it.
    """

    __slots__ = ("_kept", "_path", "_secure")

    def __init__(self, url: str, kept: Mapping[bytes, bytes] | None = None) -> None:
        """Begin with what is `kept` of the same session; `url` is the only one that gets them."""
        parts = urlsplit(url)
        self._path = parts.path or "/"
        self._secure = parts.scheme == "https"
        self._kept: dict[bytes, bytes] = dict(kept or {})

    def take(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep what a response sets, and forget what it deletes."""
        for name, line in headers:
            if name.lower() == b"set-cookie":
                self._take(line)

    @property
    def kept(self) -> dict[bytes, bytes]:
        """Return the cookies by name: secrets."""
        return dict(self._kept)

    @property
    def header(self) -> list[tuple[bytes, bytes]]:
        """Return the Cookie header, if there is anything to send."""
        if not self._kept:
            return []
        return [(b"Cookie", b"; ".join(b"%b=%b" % pair for pair in self._kept.items()))]

    def _take(self, line: bytes) -> None:
        pair, *rest = line.split(b";")
        name, _, value = (part.strip() for part in pair.partition(b"="))
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or len(name) + len(value) > LONGEST:
            return
        attributes = {key.strip().lower(): said.strip() for key, _, said in (part.partition(b"=") for part in rest)}
        if (b"secure" in attributes and not self._secure) or not self._covers(attributes.get(b"path", b"")):
            return
        if _is_over(attributes):
            self._kept.pop(name, None)
        elif name in self._kept or len(self._kept) < MOST:
            self._kept[name] = value

    def _covers(self, path: bytes) -> bool:
        """Whether our address lies under a cookie's path (RFC 6265, section 5.1.4)."""
        if not path.startswith(b"/"):
            return True
        under = path.decode("latin-1").rstrip("/") + "/"
        return f"{self._path}/".startswith(under)


def _is_over(attributes: dict[bytes, bytes]) -> bool:
    age = attributes.get(b"max-age", b"")
    if age.lstrip(b"-").isdigit():
        return age.startswith(b"-") or not age.strip(b"0")
    try:
        expires = parsedate_to_datetime(attributes.get(b"expires", b"").decode("latin-1").replace("-", " "))
        return expires.astimezone(UTC) < datetime.now(UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return False
