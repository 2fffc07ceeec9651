"""One request, and its head as bytes. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from httpcore2 import URL

from connections.egress.sealed import addressed
from connections.errors import Unreachable

STREAM = "stream"  # extension of a request whose answer is read for as long as it lasts, and is no call
UNSENDABLE: Final = "bad_request"  # code of a request that HTTP cannot express
_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_OF_LINES: Final = b"\r\n\f\v\0"  # end a line, or are taken for its end
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_METHODS: Final = _WITH_BODY | {b"GET", b"DELETE"}  # an answer to HEAD says a length and has no body


@dataclass(slots=True)
class Request:
    """One request; `sent` says whether a byte of it may have left.

    `extensions` are those of httpx2 that count here, `timeout`, and `STREAM`. The length of the content is written
    here and nowhere else.
    """

    method: bytes
    url: URL
    headers: list[tuple[bytes, bytes]]
    content: bytes = b""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    sent: bool = False

    def head(self) -> bytes:
        """Return request line and headers, with what is sealed in the address filled in; raises Unreachable.

        No line can be smuggled into it: neither names nor values hold a line break.
        """
        target, headers = addressed(self.url.target, self.headers)
        if self.method not in _METHODS or not _TARGET.fullmatch(target):
            raise _unsendable()
        lines = [b"%b %b HTTP/1.1" % (self.method, target)]
        for name, value in headers:
            if value.strip() != value:
                raise _unsendable()
            if _is_passed_on(name):
                lines.append(name + b": " + value)
        if self.content or self.method in _WITH_BODY:
            lines.append(b"Content-Length: %d" % len(self.content))
        lines.append(b"\r\n")
        head = b"\r\n".join(lines)
        if len(head) - len(head.translate(None, _OF_LINES)) != 2 * len(lines):  # more than those that were put between
            raise _unsendable()
        return head


@lru_cache(maxsize=2_000)
def _is_passed_on(name: bytes) -> bool:
    """Whether a header is written as it is; not what is said of the length, and nothing about another framing."""
    lower = name.lower()
    if not _TOKEN.fullmatch(name) or lower == b"transfer-encoding":
        raise _unsendable()
    return lower != b"content-length"


def _unsendable() -> Unreachable:
    return Unreachable("The request cannot be expressed in HTTP.", code=UNSENDABLE)
