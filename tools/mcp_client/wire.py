"""JSON-RPC over streamable HTTP as bytes: requests written and answers read, without I/O."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

import httpcore2
import orjson
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

from tools.mcp_client.cookies import Cookies
from tools.mcp_client.errors import BadAnswer, Unsendable
from tools.mcp_client.sdk_headers import encode_header_value, mcp_param_headers
from tools.mcp_client.shapes import Server
from tools.payloads import untrusted

Headers = list[tuple[bytes, bytes]]
HeaderMap = Mapping[tuple[str, ...], str]

CLIENT_INFO: Final = {"name": "duvo-connections", "title": "Duvo Connections", "version": "0.1.0"}
CAPABILITIES: Final[Mapping[str, Any]] = {"elicitation": {"form": {}, "url": {}}}
MODERN_CAPABILITIES: Final[Mapping[str, Any]] = {**CAPABILITIES, "extensions": {"io.modelcontextprotocol/tasks": {}}}
NO_HEADERS: Final[HeaderMap] = {}

# The transport's own headers: a stored custom header never replaces one of them.
_RESERVED: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)


def _numbers() -> Iterator[int]:
    """Return the ids of this process's requests: several processes may use one session, and no id twice in it."""
    return itertools.count(secrets.randbits(20) << 32)  # below 2**53, as a JavaScript server reads numbers as floats


_ids = _numbers()


def _after_fork() -> None:
    global _ids  # noqa: PLW0603 - the parent goes on with its own
    _ids = _numbers()


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Route:
    """What is the same in every request to a server, prepared once."""

    url: httpcore2.URL
    headers: Headers
    extensions: dict[str, Any]


@dataclass(slots=True)
class Request:
    """One JSON-RPC message ready to be posted; `id` is None for a notification or an answer.

    `resumable`: the server may end the stream early and go on when asked with the last event's id (2025-11-25).
    """

    id: int | None
    method: str
    payload: bytes
    headers: Headers
    resumable: bool = False
    cookies: Cookies | None = field(default=None, repr=False)  # of the session, to which the response may add


@lru_cache(maxsize=10_000)
def route_to(server: Server) -> Route:
    """Prepare URL and headers of a server; raises `Unsendable` for a header that HTTP cannot carry."""
    try:
        url = httpcore2.URL(server.url)
        default_port = 443 if url.scheme == b"https" else 80
        host = url.host if url.port in (None, default_port) else b"%b:%d" % (url.host, url.port)
        custom = [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in server.headers
            if name.lower() not in _RESERVED
        ]
    except (UnicodeError, ValueError, TypeError) as error:
        raise Unsendable from error
    headers = [
        (b"Host", host),
        (b"User-Agent", b"Duvo-Connections/0.1"),
        (b"Accept", b"application/json, text/event-stream"),
        (b"Accept-Encoding", b"identity"),
        (b"Content-Type", b"application/json"),
        *custom,
    ]
    return Route(url, headers, {"timeout": {"connect": server.connect_timeout}})


def modern_version(server: Server) -> str:
    """Return the stored modern version, or the newest one known here."""
    stored = server.protocol_version
    return stored if stored in MODERN_PROTOCOL_VERSIONS else LATEST_MODERN_VERSION


def modern_request(
    method: str,
    params: Mapping[str, Any],
    version: str,
    *,
    meta: Mapping[str, Any] | None = None,
    mirrored: HeaderMap = NO_HEADERS,
    picked: Mapping[str, Any] | None = None,
) -> Request:
    """Write a stateless request with its envelope and routing headers (2026-07-28); raises `Unsendable`.

    `picked` are the arguments that `mirrored` names, where the arguments themselves are not parsed.
    """
    number = next(_ids)
    envelope = {**(meta or {}), **_envelope(version), "progressToken": number}
    headers = [(b"MCP-Protocol-Version", version.encode()), (b"Mcp-Method", method.encode())]
    if method == "tools/call":
        headers.append((b"Mcp-Name", _name_in_header(params["name"])))
        if mirrored:
            mirror = mcp_param_headers(mirrored, params["arguments"] if picked is None else picked)
            headers.extend((name.encode(), value.encode()) for name, value in mirror.items())
    elif method.startswith("tasks/"):  # for routing to the instance that holds the task (SEP-2663)
        headers.append((b"Mcp-Name", encode_header_value(params["taskId"]).encode()))
    return _request(number, method, {**params, "_meta": envelope}, headers)


def legacy_request(
    method: str,
    params: Mapping[str, Any],
    version: str | None,
    session_id: str | None,
    *,
    meta: Mapping[str, Any],
    cookies: Cookies | None = None,
) -> Request:
    """Write a request of the handshake era (2025-11-25 and before); raises `Unsendable`."""
    number = next(_ids)
    envelope = {**meta, "progressToken": number}
    request = _request(number, method, {**params, "_meta": envelope}, session_headers(version, session_id, cookies))
    request.resumable = True
    request.cookies = cookies
    return request


def notification(
    method: str,
    params: Mapping[str, Any],
    version: str | None,
    session_id: str | None,
    cookies: Cookies | None = None,
) -> Request:
    """Write a notification of the handshake era."""
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return Request(None, method, orjson.dumps(message), session_headers(version, session_id, cookies), cookies=cookies)


def answer(
    request: Mapping[str, Any],
    outcome: Mapping[str, Any],
    version: str | None,
    session_id: str | None,
    cookies: Cookies | None = None,
) -> Request:
    """Write our answer, a `result` or an `error`, to a request of the server."""
    message = {"jsonrpc": "2.0", "id": request["id"], **outcome}
    return Request(None, "", orjson.dumps(message), session_headers(version, session_id, cookies), cookies=cookies)


def session_headers(version: str | None, session_id: str | None, cookies: Cookies | None = None) -> Headers:
    """Return the headers that tie a request to a session of the handshake era."""
    headers: Headers = [] if cookies is None else cookies.header
    if version is not None:
        headers.append((b"MCP-Protocol-Version", version.encode()))
    if session_id is not None:
        headers.append((b"Mcp-Session-Id", session_id.encode("latin-1")))
    return headers


def read_json(body: bytes) -> Any:
    """Parse untrusted JSON; raises `BadAnswer` for what is not JSON or nested too deeply."""
    return read_noting(body)[0]


def read_noting(body: bytes) -> tuple[Any, bool]:
    """Parse untrusted JSON as `read_json` does, and tell whether numbers such as NaN were read as null."""
    try:
        return untrusted.read_noting(body)
    except untrusted.TooDeep as error:
        raise BadAnswer("The server's answer is nested too deeply.") from error
    except untrusted.NotJson as error:
        raise BadAnswer("The server's answer is not JSON.") from error


def retry_after(value: bytes | None, now: float) -> float | None:
    """Read Retry-After as seconds from `now`, a POSIX time (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=2048)
def _name_in_header(name: str) -> bytes:
    return encode_header_value(name).encode()


@lru_cache(maxsize=8)
def _envelope(version: str) -> Mapping[str, Any]:
    return {
        PROTOCOL_VERSION_META_KEY: version,
        CLIENT_INFO_META_KEY: CLIENT_INFO,
        CLIENT_CAPABILITIES_META_KEY: MODERN_CAPABILITIES,
    }


def _request(number: int, method: str, params: Mapping[str, Any], headers: Headers) -> Request:
    try:
        payload = orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    except TypeError as error:
        raise Unsendable from error
    return Request(number, method, payload, headers)
