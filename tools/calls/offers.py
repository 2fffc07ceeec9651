"""What an assignment is offered right now: the tool, its schema, and the server behind it, at most a second old."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from connections.errors import DuvoError, SecretOfAnotherServer
from connections.models import Authorization, Connection, SessionCalls
from connections.quotas import MEGABYTE
from connections.states import CredentialState, ReachabilityState, ToolsState
from oauth import refreshing
from oauth.errors import NeedsSignIn
from oauth.refreshing import Bearer
from tools import mcp_client
from tools.cache import LoadingCache
from tools.calls import acting, limits
from tools.catalog.access import ON_CALL
from tools.catalog.upstream import server_for, with_bearer
from tools.definitions import checks
from tools.definitions.schemas import SchemaBroken
from tools.errors import ConnectionNotReady, ToolDenied, ToolNotFound, ToolReplaced, ToolSetAside
from tools.models import Assignment, Call, Placement, Policy, Tool


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool that may be called: everything the call path needs, without a row."""

    tool_id: UUID
    connection_id: UUID
    public_name: str
    upstream_name: str
    digest: str  # of the definition that was approved
    mirrored: mcp_client.HeaderMap = field(repr=False)
    checker: checks.Checker = field(repr=False)
    server: mcp_client.Server = field(repr=False)
    bearer: Bearer | None  # the token of the sign-in that the server is asked with
    bounds: limits.Bounds
    asks: bool  # each call waits for an admin's approval
    queued: bool  # calls run in a worker
    learns_placement: bool  # after a slow call the next ones run there
    decision_hours: int
    call_timeout: float  # seconds
    sends_trace: bool
    session_idle: timedelta  # after which a session of its server is ended
    one_at_a_time: bool  # the calls of one session
    doubted: bool  # the last call was answered with 401


async def find(assignment_id: UUID, token_id: UUID | None, name: str) -> Offer:
    """Return the offer of the tool with this public name, for this token of the assignment.

    Raises ToolNotFound, ToolSetAside, ConnectionNotReady, and ActingRefused for a token that may not act as the owner.
    """
    return _given(await _offers.get((assignment_id, token_id, name)))


def opened_for(call: Call) -> Offer:
    """Return the offer of a queued call that is to be made now: of the tool, definition and server it was made for.

    Raises ToolReplaced when one of them is another by now, and what `find` raises.
    """
    if call.assignment_id is None:  # deleted this very moment
        raise ToolNotFound
    offer = _given(_offers.get_sync((call.assignment_id, call.token_id, call.tool_name)))
    # The offer is cached and may be older than the rows, so what is compared here is what will be called.
    found = (offer.tool_id, offer.connection_id, offer.digest, offer.server.url)
    if found != (call.tool_id, call.connection_id, call.tool_digest, call.server_url):
        raise ToolReplaced
    return offer


def replaced(call: Call, *, under_way: bool = False) -> ToolReplaced | None:
    """Return the error to raise if the definition of a call's tool, or its server, is another by now; else None.

    Of a call that is `under_way` only the server counts: it knows what it was asked to do. A deleted tool or connection
    is not replaced; `ending` handles that.
    """
    tool = Tool.objects.filter(calls=call, connection=call.connection_id).select_related("connection").first()
    if tool is None:
        return None
    if tool.connection.server_url != call.server_url:
        return ToolReplaced("Since this call was made, its connection leads to another server. Make it again.")
    if tool.approved_digest != call.tool_digest and not under_way:
        return ToolReplaced("Since this call was made, another definition of its tool was approved. Make it again.")
    return None


def forget() -> None:
    """Forget every cached offer, so that the next ones are read from the database."""
    _offers.clear()


def _given(offer: Offer | DuvoError) -> Offer:
    if isinstance(offer, DuvoError):
        raise offer.with_traceback(None)
    return offer


def _load(key: tuple[UUID, UUID | None, str]) -> Offer | DuvoError:
    try:
        return _find(*key)
    except DuvoError as refusal:
        return refusal


def _find(assignment_id: UUID, token_id: UUID | None, name: str) -> Offer:
    assignment = Assignment.objects.filter(pk=assignment_id, enabled=True).select_related("tenant").first()
    tool = (
        assignment.granted_tools().select_related("connection").filter(public_name=name).first() if assignment else None
    )
    if assignment is None or tool is None or not tool.connection.enabled:
        raise ToolNotFound
    if not tool.availability.usable:
        raise set_aside(tool)
    _check_ready(tool)
    return _offer(tool, assignment, token_id)


def of(call: Call) -> Offer:
    """Return the offer of a call that is under way, also when its tool would not be offered any more.

    Raises ToolNotFound when tool, connection or assignment are gone, ToolReplaced when the connection leads to another
    server, ConnectionNotReady without a sign-in, and ActingRefused.
    """
    tool = Tool.objects.filter(calls=call).select_related("connection").first()
    assignment = Assignment.objects.filter(calls=call).select_related("tenant").first()
    if tool is None or assignment is None:
        raise ToolNotFound
    if other := replaced(call, under_way=True):
        raise other
    offer = _offer(tool, assignment, call.token_id)
    if offer.server.url != call.server_url:  # changed at this moment
        raise ToolReplaced
    return offer


def _offer(tool: Tool, assignment: Assignment, token_id: UUID | None) -> Offer:
    bearer = _bearer(tool.connection, assignment, token_id)
    server = replace(with_bearer(_server(tool), bearer), owner=str(assignment.pk))
    definition: dict[str, Any] = tool.approved_definition or {}
    return Offer(
        tool_id=tool.pk,
        connection_id=tool.connection_id,
        public_name=tool.public_name,
        upstream_name=tool.name,
        digest=tool.approved_digest,
        mirrored=mcp_client.header_map(definition["inputSchema"]),
        checker=_checker(tool),
        server=server,
        bearer=bearer,
        bounds=_bounds(assignment, tool.connection),
        asks=tool.policy == Policy.ASK,
        queued=tool.runs_in_queue(timezone.now()),
        learns_placement=tool.placement == Placement.AUTO,
        decision_hours=assignment.tenant.decision_hours,
        call_timeout=tool.call_timeout or tool.connection.call_timeout,
        sends_trace=tool.connection.send_trace,
        session_idle=timedelta(minutes=tool.connection.session_idle_minutes),
        one_at_a_time=tool.connection.session_calls == SessionCalls.ONE_AT_A_TIME,
        doubted=bearer.doubted if bearer else tool.connection.credential_reason in ON_CALL,
    )


def _bounds(assignment: Assignment, connection: Connection) -> limits.Bounds:
    return limits.Bounds(
        tenant_id=assignment.tenant_id,
        connection_id=connection.pk,
        assignment_id=assignment.pk,
        tenant_concurrency=assignment.tenant.max_concurrency,
        connection_concurrency=connection.max_concurrency,
        connection_rate=connection.max_rate,
        assignment_rate=assignment.max_rate,
        tenant_open=assignment.tenant.max_open_calls,
        tenant_room=max(0, assignment.tenant.max_stored * MEGABYTE - assignment.tenant.stored_bytes),
    )


def set_aside(tool: Tool) -> ToolSetAside:
    """Return the error that says why a tool may not be used now: 403 when an admin has denied it, else 409."""
    error = ToolDenied if tool.policy == Policy.DENY and tool.availability.code == ToolDenied.code else ToolSetAside
    return error(tool.availability.sentence, code=tool.availability.code)


def _check_ready(tool: Tool) -> None:
    connection = tool.connection
    # An OAuth connection is ready when there is a token to act with; which one depends on the assignment's owner.
    oauth = connection.authorization == Authorization.OAUTH
    refused = not oauth and connection.credential_state in {CredentialState.MISSING, CredentialState.REFUSED}
    # After a 401 to a call the next call still goes out: the first that succeeds proves the credential again.
    if refused and connection.credential_reason not in ON_CALL:
        raise ConnectionNotReady(
            f"The connection is not signed in: {connection.credential_sentence}", code="credential_not_ready"
        )
    if connection.tools_state == ToolsState.NEVER_LISTED:
        # After a change of the server URL: what was approved of the old server says nothing about the new one.
        raise ConnectionNotReady("The connection has not been checked since its server changed.", code="not_checked")
    if connection.reachability_state == ReachabilityState.UNSUPPORTED:
        raise ConnectionNotReady(connection.reachability_sentence, code=connection.reachability_reason)


def _server(tool: Tool) -> mcp_client.Server:
    try:
        return server_for(tool.connection, tool)
    except SecretOfAnotherServer as refusal:
        raise ConnectionNotReady(f"The connection is not signed in: {refusal.sentence}", code=refusal.code) from refusal


def _bearer(connection: Connection, assignment: Assignment, token_id: UUID | None) -> Bearer | None:
    if connection.authorization != Authorization.OAUTH:
        return None
    if acting.is_personal(connection):
        acting.check(token_id, assignment)
    try:
        return refreshing.held(connection, assignment.owner_id)
    except NeedsSignIn as refusal:
        sentence = f"The connection is not signed in: {refusal.sentence}"
        raise ConnectionNotReady(sentence, code="credential_not_ready") from refusal


def _checker(tool: Tool) -> checks.Checker:
    try:
        return checks.checker((tool.approved_definition or {})["inputSchema"], tenant=str(tool.connection.tenant_id))
    except SchemaBroken as broken:  # it was approved before a bound became narrower
        raise ToolSetAside(f"This tool cannot be used: {broken.sentence}", code="tool_broken") from broken


# Few, because each holds its schema.
_offers: LoadingCache[tuple[UUID, UUID | None, str], Offer | DuvoError] = LoadingCache(_load, seconds=1.0, most=2_000)
