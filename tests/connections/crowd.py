"""A platform of the size that staff look after: many organizations with many connections, in all states."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from connections.models import Connection, Tenant
from tools.models import Tool

STATES = (
    {"reachability_state": "reachable", "tools_state": "in_sync"},
    {"reachability_state": "reachable", "tools_state": "in_sync"},
    {"reachability_state": "reachable", "tools_state": "in_sync"},
    {"reachability_state": "unreachable", "reachability_reason": "connect_timeout"},
    {"credential_state": "needs_sign_in", "credential_reason": "sign_in_needed", "reachability_state": "reachable"},
    {"reachability_state": "busy", "reachability_reason": "server_busy"},
)


def gather(organizations: int, connections: int) -> list[Connection]:
    """Make this many organizations which share this many connections, each with a tool; return the connections."""
    tenants = Tenant.objects.bulk_create(
        Tenant(name=f"Company {number:03}", slug=f"company-{number:03}") for number in range(organizations)
    )
    now = timezone.now()
    made = Connection.objects.bulk_create(
        Connection(
            tenant=tenants[number % organizations],
            name=f"Server {number:04}",
            slug=f"server-{number:04}",
            server_url=f"https://mcp-{number:04}.example.com/mcp",
            reachability_since=now - timedelta(minutes=number),
            credential_since=now - timedelta(days=9),
            tools_since=now - timedelta(days=9),
            **{"reachability_state": "unknown"} | STATES[number % len(STATES)],
        )
        for number in range(connections)
    )
    Tool.objects.bulk_create(
        Tool(connection=connection, name="find", public_name=f"{connection.slug}__find", definition={}, digest="d" * 64)
        for connection in made
    )
    return made
