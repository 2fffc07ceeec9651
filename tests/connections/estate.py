"""What a house can own, one row of each, and how to compare what two askers are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db.models import Model
from django.http import HttpResponse
from django.utils import timezone

from connections import audit
from connections.models import AuditEvent, Bulletin, Connection, Invitation, Matter, Membership, Notice, Tenant, User
from tests.conftest import House
from tools.calls import activity, contents
from tools.models import (
    AccessToken,
    Assignment,
    Call,
    Consent,
    DailyUse,
    McpSession,
    OwnerNotice,
    Probe,
    StoredContent,
    Tool,
)

MARK = "acme-only"  # stands in every row of acme that is shown anywhere


@dataclass
class Estate:
    """One row of everything that a house can own."""

    connection: Connection
    tool: Tool
    probe: Probe
    assignment: Assignment
    token: AccessToken
    own_token: AccessToken
    consent: Consent
    call: Call
    event: AuditEvent
    notice: Notice
    session: McpSession
    invitation: Invitation
    taken: Invitation
    guest: User  # who belongs nowhere
    bulletin: Bulletin
    use: DailyUse


def settle(house: House, mark: str = MARK) -> Estate:
    house.tenant.webhook_url = "https://localhost/hook"  # refused whenever it is used
    house.tenant.save()
    connection = house.connection(f"{mark} orders", url=f"https://{mark}.example.com/mcp")
    definition = {"name": f"{mark}-tool", "description": mark}
    tool = Tool.objects.create(
        connection=connection,
        name=f"{mark}-tool",
        public_name=f"orders__{mark}",
        definition=definition,
        digest="d" * 64,
    )
    probe = Probe(connection=connection)
    probe.add_stage("dns", "failed", f"{mark} does not exist.", 3)
    probe.finish(Probe.Outcome.FAILED, "host_not_found")
    probe.keep()
    assignment = house.assignment(f"{mark} assignment")
    token, _ = AccessToken.issue(assignment=assignment, label=f"{mark} token")
    own_token, _ = AccessToken.issue(membership=house.membership(house.admin), label=f"{mark} own token")
    consent = Consent.objects.create(
        assignment=assignment, owner=house.membership(house.admin), person=house.membership(house.member)
    )
    OwnerNotice.objects.create(assignment=assignment, owner=house.admin, sentence=f"{mark} was told.")
    now = timezone.now()
    call = Call.objects.create(
        tenant=house.tenant, assignment=assignment, connection=connection, tool=tool, tool_name=f"orders__{mark}",
        sealed_arguments="", state="failed", error_code="x", error_sentence=mark, finished_at=now,
    )  # fmt: skip
    piece = contents.Piece(1, "text/plain", mark.encode(), "0" * 64)
    StoredContent.objects.bulk_create(contents.sealed(call.pk, call.tenant_id, [piece]))
    event = audit.record(house.admin, "connection.created", connection, tenant=house.tenant)
    notice = Notice.objects.create(connection=connection, reason="sign_in_ended", sentence=mark)
    session = McpSession(
        tenant=house.tenant, assignment=assignment, connection=connection, name=f"{mark}-job", revision=1,
        server_key=f"{connection.pk}/1", opened_at=now, used_at=now, idle_until=now,
    )  # fmt: skip
    session.sealed_session = session.seal({"id": "x", "version": "", "cookies": {}, "url": "", "headers": []})
    session.save()
    bulletin = Bulletin.objects.create(tenant=house.tenant, kind="connection.unreachable")
    Matter.objects.create(connection=connection, kind="connection.unreachable", bulletin=bulletin)
    invitation, taken = (
        Invitation(tenant=house.tenant, email=f"{mark}{number}@example.com", accepted_at=at, invited_by=house.admin)
        for number, at in ((1, None), (2, now))
    )
    for row in (invitation, taken):
        row.new_key(now)
        row.save()
    guest = User.objects.create_user(f"{mark}-guest")
    activity.count(house.tenant, now)
    use = DailyUse.objects.get(tenant=house.tenant)
    return Estate(
        connection, tool, probe, assignment, token, own_token, consent, call, event, notice, session, invitation, taken,
        guest, bulletin, use,
    )  # fmt: skip


def rows(house: House, estate: Estate) -> dict[type[Model], Model]:
    return {
        Tenant: house.tenant,
        Membership: house.membership(house.member),
        User: house.member,
        Connection: estate.connection,
        AuditEvent: estate.event,
        Tool: estate.tool,
        Probe: estate.probe,
        Assignment: estate.assignment,
        AccessToken: estate.own_token,
        Call: estate.call,
        Notice: estate.notice,
        McpSession: estate.session,
        Invitation: estate.invitation,
        Bulletin: estate.bulletin,
        DailyUse: estate.use,
    }


def never_was(row: Model) -> str:
    """An id of the same kind that no row has."""
    return str(uuid4()) if isinstance(row.pk, UUID) else str(row.pk + 1_000_000)


def body(response: HttpResponse, *ids: object) -> str:
    """What an answer says, without what differs between any two answers: tokens of forms, and the id asked for."""
    text = re.sub(r'name="(csrfmiddlewaretoken|once)" value="[^"]*"', "", response.content.decode())
    for identifier in ids:
        text = text.replace(str(identifier), "ID")
    return text
