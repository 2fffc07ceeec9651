"""How a connection's row becomes a server that the wire client can talk to."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from connections.models import Connection, Era
from oauth.refreshing import Bearer
from tools import mcp_client

RESULT_BYTES = 10_000_000  # the largest answer of a server that is read, in bytes


def server_for(connection: Connection) -> mcp_client.Server:
    """Return the server behind a connection, opened secrets included; raises SealBroken.

    The key changes with the connection's revision, so that no session outlives the credential it was opened with.
    """
    era = connection.era if connection.era_choice == Era.AUTO else connection.era_choice
    return mcp_client.Server(
        key=f"{connection.id}/{connection.revision}",
        url=connection.server_url,
        headers=tuple(connection.request_headers()),
        era=cast("Literal['unknown', 'modern', 'legacy']", era or "unknown"),
        protocol_version=connection.protocol_version or None,
        connect_timeout=connection.connect_timeout,
        timeout=connection.call_timeout,
        idle_timeout=connection.idle_timeout,
        max_bytes=RESULT_BYTES,
    )


def bearing(server: mcp_client.Server, bearer: Bearer | None) -> mcp_client.Server:
    """Return the server with the token of a sign-in (RFC 6750, section 2.1); sessions belong to one sign-in."""
    if bearer is None:
        return server
    own = [(name, value) for name, value in server.headers if name.lower() != "authorization"]
    headers = (*own, ("Authorization", f"Bearer {bearer.token}"))
    return replace(server, key=f"{server.key.partition('@')[0]}@{bearer.sign_in_id}", headers=headers)
