"""The rule by which an MCP server asks for the tokens of an authorization server (RFC 9728, RFC 6750)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.servers.authorization import metadata as authorization_metadata
from tests.servers.authorization.provider import Access
from tests.servers.authorization.server import AuthorizationServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, McpServer, Receive, Send

WELL_KNOWN = "/.well-known/oauth-protected-resource"
HINTED = "/about/this/resource"  # nobody finds it without the challenge


def protect(
    server: McpServer,
    auth: AuthorizationServer,
    *,
    scopes: Sequence[str] | None = None,
    metadata: Literal["header", "path", "root", "none", "origin"] = "header",
    resource: str | None = None,
    audience: str | None = None,
    on: Literal["all", "calls"] = "all",
    insufficient: Mapping[str, str] | set[str] | None = None,
) -> None:
    """Let only valid access tokens in; may be called again to change what is asked.

    `metadata`: where the resource's document is: named in the challenge only, at the well-known path of the server's
    path or of the root, or nowhere; `origin` is nowhere, but the server itself has authorization server metadata, as
    in 2025-03-26. `insufficient` names tools and the scope that each needs (in a set: `write`). A token made for
    another resource than `audience` (by default the document's `resource`) is refused, one made for none is taken.
    """
    gate = _Protection(
        server, auth, scopes, metadata, resource or server.url, audience, on == "calls", _needs(insufficient)
    )
    server.rules[:] = [gate, *(rule for rule in server.rules if not isinstance(rule, _Protection))]


def _needs(insufficient: Mapping[str, str] | set[str] | None) -> dict[str, str]:
    return dict.fromkeys(insufficient, "write") if isinstance(insufficient, set) else dict(insufficient or {})


class _Protection:
    """A rule with a memory of what was asked for."""

    def __init__(
        self,
        server: McpServer,
        auth: AuthorizationServer,
        scopes: Sequence[str] | None,
        metadata: str,
        resource: str,
        audience: str | None,
        only_calls: bool,
        needs: dict[str, str],
    ) -> None:
        self._auth = auth
        self._scopes = scopes
        self._resource = resource
        self._audience = audience or resource
        self._only_calls = only_calls
        self._needs = needs
        self._hint = f"{server.origin}{HINTED}" if metadata == "header" else None
        path = {"header": HINTED, "path": f"{WELL_KNOWN}{urlsplit(server.url).path}", "root": WELL_KNOWN}
        self._documents = {path[metadata]: self._document} if metadata in path else {}
        if metadata == "origin":
            self._documents[authorization_metadata.OAUTH] = lambda: self._fallback(server.origin)

    async def __call__(self, _: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        if request.path in self._documents:
            return await respond(send, 200, json.dumps(self._documents[request.path]()).encode())
        if request.path.startswith("/.well-known/"):
            return await respond(send, 404)
        if self._only_calls and request.rpc_method != "tools/call":
            return False
        brought = request.headers.get("authorization")
        if brought is None:
            return await self._refuse(send, 401, scope=self._scopes)
        token = self._auth.token(brought.removeprefix("Bearer "))
        if token is None or token.resource not in {None, self._audience}:
            return await self._refuse(send, 401, error="invalid_token", scope=self._scopes)
        missing = self._missing(request, token)
        if missing is not None:
            return await self._refuse(send, 403, error="insufficient_scope", scope=[missing])
        return False

    def _missing(self, request: Incoming, token: Access) -> str | None:
        if request.rpc_method != "tools/call":
            return None
        needed = self._needs.get(request.message["params"].get("name"))
        return needed if needed not in {None, *token.scopes} else None

    async def _refuse(self, send: Send, status: int, *, scope: Sequence[str] | None, error: str | None = None) -> bool:
        members = {"error": error, "resource_metadata": self._hint, "scope": " ".join(scope) if scope else None}
        written = ", ".join(f'{name}="{value}"' for name, value in members.items() if value is not None)
        body = b'{"error": "secret detail"}'
        return await respond(send, status, body, www_authenticate=f"Bearer {written}".strip())

    def _document(self) -> dict[str, Any]:
        members = {"resource": self._resource, "authorization_servers": [self._auth.issuer]}
        return members | ({"scopes_supported": list(self._scopes)} if self._scopes else {})

    def _fallback(self, origin: str) -> dict[str, Any]:
        """What a server of 2025-03-26 says of itself: it is its own authorization server."""
        members = authorization_metadata.document(self._auth)
        members.pop("authorization_response_iss_parameter_supported", None)
        return members | {"issuer": origin}
