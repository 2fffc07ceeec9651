"""How a connection's row becomes a `Server` for the MCP client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from django.utils import timezone

from connections.errors import SecretOfAnotherServer
from connections.models import Connection, Credential, Era
from oauth import refreshing
from oauth.errors import NeedsSignIn
from oauth.refreshing import Bearer
from tools import mcp_client
from tools.models import Tool

Value = TypeVar("Value")


def server_for(connection: Connection, tool: Tool | None = None, *, own: Credential | None = None) -> mcp_client.Server:
    """Return the server of a connection, opened secrets included, with the tool's own timeouts if it has any.

    `own` is what the member has entered for whom it is asked; sessions belong to it, as they do to one sign-in.
    Raises SealBroken, and SecretOfAnotherServer for a secret that was entered for another one.
    The key changes with the connection's revision, so that no session outlives the credential it was opened with.
    """
    era = connection.era if connection.era_choice == Era.AUTO else connection.era_choice
    return mcp_client.Server(
        key=f"{connection.id}/{connection.revision}{f'@{own.pk}' if own else ''}",
        url=connection.server_url,
        headers=tuple(connection.request_headers(own)),
        era=cast("Literal['unknown', 'modern', 'legacy']", era or "unknown"),
        protocol_version=connection.protocol_version or None,
        pinned=connection.era_choice != Era.AUTO,
        connect_timeout=connection.connect_timeout,
        timeout=(tool and tool.call_timeout) or connection.call_timeout,
        idle_timeout=(tool and tool.idle_timeout) or connection.idle_timeout,
        max_bytes=connection.max_answer,
        as_task=tool is not None and _runs_only_as_task(tool.approved_definition or {}),
        tenant=str(connection.tenant_id),
    )


def _runs_only_as_task(definition: dict[str, Any]) -> bool:
    return (definition.get("execution") or {}).get("taskSupport") == "required"


def with_bearer(server: mcp_client.Server, bearer: Bearer | None) -> mcp_client.Server:
    """Return the server with the token of a sign-in (RFC 6750, section 2.1); sessions belong to one sign-in.

    Raises SecretOfAnotherServer for a token that was issued for another server.
    """
    if bearer is None:
        return server
    if bearer.server_url != server.url:
        raise SecretOfAnotherServer
    own = [(name, value) for name, value in server.headers if name.lower() != "authorization"]
    headers = (*own, ("Authorization", f"Bearer {bearer.token}"))
    return replace(server, key=f"{server.key.partition('@')[0]}@{bearer.sign_in_id}", headers=headers)


async def ask_with_fresh_token(
    server: mcp_client.Server, bearer: Bearer | None, ask: Callable[[mcp_client.Server], Awaitable[Value]]
) -> Value:
    """Return what `ask` returns, with a stale token renewed before, and one refused with 401 once (nothing has run).

    Raises what `ask` and renewing raise; the 401 itself when nobody is signed in any more.
    """
    if bearer is not None and bearer.stale(timezone.now()):
        bearer = await refreshing.renewed(bearer)
        server = with_bearer(server, bearer)
    try:
        return await ask(server)
    except mcp_client.Unauthorized as refusal:
        if bearer is None:
            raise
        try:
            bearer = await refreshing.renewed(bearer, refused=True)
        except NeedsSignIn:
            raise refusal from None
        return await ask(with_bearer(server, bearer))
