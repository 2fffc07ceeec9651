"""HTTP statuses that end a request: which error each is, and the server's own words about it. No I/O."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import Any, Final

from connections.words import words_in
from tools.mcp_client import framing, quoting, sse, wire
from tools.mcp_client.errors import BadAnswer, Forbidden, McpError, RateLimited, Redirected, ServerFailed, Unauthorized
from tools.mcp_client.shapes import Server
from tools.payloads import tool_results

_DESCRIPTION: Final = re.compile(r'\berror_description\s*=\s*"((?:[^"\\]|\\.){1,1000})"', re.IGNORECASE)
_CHALLENGE = b"www-authenticate"
# Express' `send` makes a page of every text, and Node's `end` names no type.
_WITH_WORDS: Final = frozenset({b"", b"text/plain", b"text/html"})


def combined(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by lower-case name; of several challenges all are kept (RFC 9110, section 11.6.1)."""
    one_each = {name.lower(): value for name, value in headers}
    if _CHALLENGE not in one_each:
        return one_each
    challenges = [value.strip() for name, value in headers if name.lower() == _CHALLENGE]
    if len(challenges) > 1:
        # Those for Bearer are put together, as a reader takes the parameters of one; the first of each name counts.
        bearer = [line.partition(b" ")[2].strip() for line in challenges if _is_bearer(line)]
        others = [line for line in challenges if not _is_bearer(line)]
        whole = [b"Bearer " + b", ".join(filter(None, bearer))] if bearer else []
        one_each[_CHALLENGE] = b", ".join(others + whole).strip()
    return one_each


def _is_bearer(challenge: bytes) -> bool:
    return challenge.partition(b" ")[0].lower() == b"bearer"


def error_for(status: int, headers: dict[bytes, bytes], server: Server) -> McpError | None:
    """Return the error that a status is; None where the body decides."""
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    challenge = headers.get(_CHALLENGE)
    # People are shown the scopes in it.
    text = quoting.without_secrets(challenge.decode("latin-1"), server, instead="") if challenge is not None else None
    wait = wire.retry_after(headers.get(b"retry-after"), time.time())
    if status < HTTPStatus.BAD_REQUEST:
        return Redirected(status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed(status, retry_after=wait)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        error = Unauthorized(text) if status == HTTPStatus.UNAUTHORIZED else Forbidden(text)
        described = _DESCRIPTION.search(challenge.decode("latin-1")) if challenge is not None else None
        if described is not None:
            error.said = quoting.quoted(re.sub(r"\\(.)", r"\1", described[1]), server)
        return error
    return RateLimited(wait) if status == HTTPStatus.TOO_MANY_REQUESTS else None


def may_have_words(kind: bytes) -> bool:
    """Tell whether the body of an error of this media type is read."""
    return framing.is_announced(kind) or kind in _WITH_WORDS


def read(body: bytes, kind: bytes) -> tuple[Any, str]:
    """Return the JSON in the body of an error, None for none, and the server's words in it, "" for a page."""
    first = body.lstrip()
    if kind == framing.STREAM or framing.framing(first, kind) == "stream":
        decoder = sse.Decoder()
        events = [*decoder.feed(body), decoder.finish()]
        body = next((event.data for event in events if event is not None and event.data.strip()), b"")
    try:
        value = wire.read_json(body)
    except BadAnswer:
        words = "" if b"json" in kind or kind == framing.STREAM else body.decode("utf-8", "replace")
        return None, "" if "<" in words and kind != b"text/plain" else words
    return value, _words_of_a_tool(value) or words_in(value)


def _words_of_a_tool(value: Any) -> str:
    """Return what a tool says about its failure, where a server sends its result with the status of an error."""
    result = value.get("result") if isinstance(value, dict) else None
    if not isinstance(result, dict) or not tool_results.is_error(result):
        return ""
    try:
        blocks = tool_results.content_of(result)
    except tool_results.Unusable:
        return ""
    return "\n".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
