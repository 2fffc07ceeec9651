"""A platform of the size that staff look after: many organizations with many connections, in all states."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection as database
from django.utils import timezone

from connections.models import (
    FOR_PEOPLE,
    AuditEvent,
    Bulletin,
    Connection,
    Matter,
    Membership,
    Notice,
    Role,
    StateMove,
    Tenant,
    User,
)
from tools.models import AccessToken, Assignment, Call, McpSession, Probe, Tool

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


def work(connections: list[Connection], calls: int) -> Tenant:
    """Fill every other list, too; half of the calls are of one organization, which is returned."""
    now = timezone.now()
    tenants = list(Tenant.objects.order_by("name"))
    busy = tenants[0]
    moment = [now - timedelta(minutes=number) for number in range(200)]
    people = User.objects.bulk_create(
        User(username=f"person-{number:04}@example.com", email=f"person-{number:04}@example.com", password="!")
        for number in range(3 * len(tenants))
    )
    roles = [Role.ADMIN, Role.MEMBER, Role.AUDITOR]
    Membership.objects.bulk_create(
        Membership(user=user, tenant=tenants[number // 3], role=roles[number % 3]) for number, user in enumerate(people)
    )
    assignments = Assignment.objects.bulk_create(
        Assignment(tenant=tenant, name=f"Assignment {number}", owner=people[0])
        for tenant in tenants
        for number in (1, 2)
    )
    AccessToken.objects.bulk_create(
        AccessToken(assignment=row, label=f"Token {number}", prefix=f"duvo_{number:05}", digest=f"{number:064}")
        for number, row in enumerate(assignments)
    )
    Probe.objects.bulk_create(
        Probe(connection=row, outcome="passed", started_at=moment[number % 200], finished_at=now)
        for number, row in enumerate(connections)
    )
    _tell(connections, assignments[0], now)
    AuditEvent.objects.bulk_create(
        AuditEvent(
            tenant=busy if number % 2 else tenants[number % len(tenants)], actor=people[0].username,
            action="connection.changed", object_type="connection", object_id=str(connections[0].pk),
            object_label=connections[0].name, data={"fields": ["name"]}, at=moment[number % 200],
        )
        for number in range(5_000)
    )  # fmt: skip
    theirs = [row for row in connections if row.tenant_id == busy.pk]
    Call.objects.bulk_create(
        (
            _call(now, number, theirs[number % len(theirs)] if number % 2 else connections[number % len(connections)])
            for number in range(calls)
        ),
        batch_size=2_000,
    )
    if database.vendor == "postgresql":
        with database.cursor() as cursor:  # or each foreign key may be checked by a plan for the empty table
            cursor.execute("ANALYZE")
    return busy


def _tell(connections: list[Connection], assignment: Assignment, now: datetime) -> None:
    """Fill the lists of what connections remember and people are told."""
    McpSession.objects.bulk_create(
        McpSession(
            tenant_id=row.tenant_id, connection=row, assignment=assignment, name=f"job-{number}", revision=1,
            server_key=f"{row.pk}/1", opened_at=now, used_at=now, idle_until=now, sealed_session="x",
        )
        for number, row in enumerate(connections[:200])
    )  # fmt: skip
    StateMove.objects.bulk_create(
        StateMove(
            connection=row, at=now, of="reachability", was="unknown", state="reachable", lasted=timedelta(hours=1)
        )
        for row in connections
    )
    Notice.objects.bulk_create(
        Notice(connection=row, reason="sign_in_ended", sentence="It has ended.", trouble="The mail server is away.")
        for row in connections[::3]
    )
    bulletins = Bulletin.objects.bulk_create(
        Bulletin(tenant=tenant, kind=kind, created_at=now) for tenant in Tenant.objects.all() for kind in FOR_PEOPLE
    )
    by_tenant = {row.tenant_id: row for row in connections}
    Matter.objects.bulk_create(
        Matter(connection=by_tenant[row.tenant_id], kind=row.kind, bulletin=row, resolved_at=now) for row in bulletins
    )


def _call(now: datetime, number: int, connection: Connection) -> Call:
    at = now - timedelta(minutes=number % 9_000)
    failed = number % 20 == 0
    return Call(
        tenant_id=connection.tenant_id, connection=connection, tool_name=f"{connection.slug}__find",
        state="failed" if failed else "succeeded", error_code="x" if failed else "", sealed_arguments="x",
        sealed_result="" if failed else "x", created_at=at, started_at=at, finished_at=at + timedelta(seconds=1),
    )  # fmt: skip
