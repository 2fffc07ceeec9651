"""How a connection's row becomes a server that the wire client can talk to."""

from __future__ import annotations

from typing import Literal, cast

from connections.models import Connection, Era
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
