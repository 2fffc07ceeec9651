"""What an assignment is offered: the tool, its schema, and the server behind it.

Offers are kept for minutes, each with the version of the rows that it was made of. What opens a call checks that
version, so an outdated offer opens none (see `versions`). Refusals, and offers for whoever does not open a call, are at
most one second old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from django.db import Error as DatabaseFailed

from connections import personal
from connections.errors import DuvoError, SecretOfAnotherServer
from connections.models import Authorization, Connection, Credential, SessionCalls
from connections.quotas import MEGABYTE
from connections.states import CredentialState, ReachabilityState, ToolsState
from connections.threads import in_thread
from connections.throttle import Bucket, Local
from oauth import refreshing
from oauth.errors import NeedsSignIn
from oauth.refreshing import Bearer
from tools import errors, mcp_client
from tools.bounded import FairCache
from tools.calls import acting, limits, offer_rows
from tools.calls.offer_rows import Key, Rows
from tools.catalog.access import ON_CALL
from tools.catalog.upstream import server_for, with_bearer
from tools.definitions import checks
from tools.definitions.near import near
from tools.definitions.schemas import SchemaBroken
from tools.errors import ConnectionNotReady, OwnerNotConnected, ToolDenied, ToolNotFound, ToolReplaced, ToolSetAside
from tools.gathering import Gatherer
from tools.models import Assignment, Call, Placement, Policy, Tool
from tools.models.catalog import ToolQuerySet

RECENT: Final = 1.0  # seconds
_KEPT_FOR: Final = 300.0  # seconds
_ROOM: Final = 96 * 1024 * 1024  # bytes of all offers together
_SIZE: Final = 4_096  # bytes of an offer without its schema, and of a refusal
_LOADS_AT_ONCE: Final = 32
# Near names that are looked for in this process for one tenant.
_HINTS_AT_ONCE: Final = 20
_HINTS_A_SECOND: Final = 5.0
_COMPARED = 1_000  # of the caller's tools, with a name that is none of them


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
    own: UUID | None  # what the assignment's owner has entered, where the server is asked with that
    bounds: limits.Bounds
    asks: bool  # each call waits for an admin's approval
    always_queued: bool  # calls run in a worker
    queued_until: datetime | None  # they do because a call was slow
    learns_placement: bool  # after a slow call the next ones run there
    decision_hours: int
    call_timeout: float  # seconds
    sends_trace: bool
    session_idle: timedelta  # after which a session of its server is ended
    one_at_a_time: bool  # the calls of one session
    doubted: bool  # the last call was answered with 401
    lacks: OwnerNotConnected | None  # why no call can be made yet; one may wait until the owner has connected
    version: str = field(repr=False)  # of the rows that it was made of

    @property
    def account(self) -> str:
        """The account at the provider that its calls are made with, "" where that is not known."""
        return self.bearer.account if self.bearer else ""

    @property
    def is_personal(self) -> bool:
        """Whether its calls are made through the sign-in of the assignment's owner."""
        return self.bearer is not None and self.bearer.owner_id is not None

    def runs_in_queue(self, now: datetime) -> bool:
        """Tell whether calls run in a worker at this moment."""
        return self.always_queued or (self.queued_until is not None and self.queued_until > now)


@dataclass(frozen=True, slots=True)
class Found:
    """An offer, or why there is none, and when that was read, by the monotonic clock."""

    what: Offer | DuvoError
    read_at: float

    @property
    def is_recent(self) -> bool:
        """Whether it may be used without a check whether it still holds."""
        return time.monotonic() < self.read_at + RECENT

    def offer(self, *, waits: bool = False) -> Offer:
        """Return the offer; raises ToolNotFound, ToolSetAside, ConnectionNotReady and ActingRefused.

        With `waits` also one whose owner is to connect before a call is made.
        """
        refusal = self.what if isinstance(self.what, DuvoError) else None if waits else self.what.lacks
        if refusal is not None:
            raise refusal.with_traceback(None)
        assert isinstance(self.what, Offer)  # noqa: S101 - else it is the refusal
        return self.what


async def find(assignment_id: UUID, token_id: UUID | None, name: str, *, of: UUID) -> Found:
    """Return what a token of an assignment of this tenant is offered under a name, perhaps as it was minutes ago."""
    key = (assignment_id, token_id, name)
    return _found.get(key) or await find_afresh(*key, of=of)


async def find_afresh(assignment_id: UUID, token_id: UUID | None, name: str, *, of: UUID) -> Found:
    """Do the same as the rows are now."""
    key = (assignment_id, token_id, name)
    return await _loads.get((of, key)) or _keep(key, ToolNotFound(), time.monotonic())


def opened_for(call: Call) -> Offer:
    """Return the offer of a queued call as the rows are now: of the tool, definition and server it was made for.

    Raises ToolReplaced when one of them is another by now, and what `find` raises.
    """
    if call.assignment_id is None:  # deleted this very moment
        raise ToolNotFound
    found = _load([key := (call.assignment_id, call.token_id, call.tool_name)]).get(key)
    if found is None:
        raise ToolNotFound
    offer = found.offer()
    if not is_for(offer, call):
        raise ToolReplaced
    return offer


def is_for(offer: Offer, call: Call) -> bool:
    """Tell whether an offer is of the tool, definition and server that a call was opened for."""
    found = (offer.tool_id, offer.connection_id, offer.digest, offer.server.url)
    return found == (call.tool_id, call.connection_id, call.tool_digest, call.server_url)


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
    _found.clear()
    _hints.clear()


def _load(keys: Collection[Key]) -> dict[Key, Found]:
    read_at = time.monotonic()
    return {key: _keep(key, _made(key, rows), read_at) for key, rows in offer_rows.read(keys).items()}


async def _load_in_thread(keys: Collection[tuple[UUID, Key]]) -> dict[tuple[UUID, Key], Found]:
    found = await in_thread(_load, [key for _, key in keys])
    return {asked: found[asked[1]] for asked in keys if asked[1] in found}


def _keep(key: Key, what: Offer | DuvoError, read_at: float) -> Found:
    found = Found(what, read_at)
    if isinstance(what, Offer):
        seconds = RECENT if what.lacks else _KEPT_FOR
        _found.put(key, found, tenant=what.bounds.tenant_id, size=_SIZE + what.checker.size, seconds=seconds)
    else:
        _found.put(key, found, tenant=key[0], size=_SIZE, seconds=RECENT)
    return found


def _made(key: Key, rows: Rows) -> Offer | DuvoError:
    """Return the offer, or why there is none: what is wrong with one must not cost the others that are read with it."""
    try:
        return _find(rows, key)
    except DuvoError as refusal:
        return refusal
    except DatabaseFailed:
        raise
    except Exception:
        logging.getLogger(__name__).exception("An offer could not be made.")
        return errors.Broken()


def _find(rows: Rows, key: Key) -> Offer:
    assignment, tool = rows.assignment, rows.tool
    if not assignment.enabled:
        raise ToolNotFound
    if tool is None or not rows.granted or not tool.connection.enabled:
        raise ToolNotFound
    if not tool.availability.usable:
        raise set_aside(tool)
    _check_ready(tool)
    return _offer(tool, assignment, key[1], rows.version)


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
    offer = _offer(tool, assignment, call.token_id, version="")
    if offer.lacks:
        raise offer.lacks
    if offer.server.url != call.server_url:  # changed at this moment
        raise ToolReplaced
    return offer


def _offer(tool: Tool, assignment: Assignment, token_id: UUID | None, version: str) -> Offer:
    if tool.connection.is_personal:
        acting.check(token_id, assignment)
    bearer: Bearer | None = None
    own: Credential | None = None
    lacks: OwnerNotConnected | None = None
    try:
        bearer, own = _bearer(tool.connection, assignment.owner_id), _own(tool.connection, assignment.owner_id)
    except OwnerNotConnected as refusal:
        lacks = refusal
    server = replace(with_bearer(_server(tool, own), bearer), owner=str(assignment.pk))
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
        own=own.pk if own else None,
        bounds=_bounds(assignment, tool.connection),
        asks=tool.policy == Policy.ASK,
        always_queued=tool.placement == Placement.QUEUE,
        queued_until=tool.slow_until if tool.placement == Placement.AUTO else None,
        learns_placement=tool.placement == Placement.AUTO,
        decision_hours=assignment.tenant.decision_hours,
        call_timeout=tool.call_timeout or tool.connection.call_timeout,
        sends_trace=tool.connection.send_trace,
        session_idle=timedelta(minutes=tool.connection.session_idle_minutes),
        one_at_a_time=tool.connection.session_calls == SessionCalls.ONE_AT_A_TIME,
        doubted=_doubted(tool.connection, bearer, own),
        lacks=lacks,
        version=version,
    )


def _doubted(connection: Connection, bearer: Bearer | None, own: Credential | None) -> bool:
    if bearer is not None:
        return bearer.doubted
    return bool(own.refused) if own is not None else connection.credential_reason in ON_CALL


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


async def missing(assignment_id: UUID, name: str, *, of: UUID) -> ToolNotFound:
    """Return what `not_found` returns, for an assignment of this tenant."""
    return await in_thread(_missing, assignment_id, name, of=of) if _may_look(of) else ToolNotFound()


def _missing(assignment_id: UUID, name: str) -> ToolNotFound:
    assignment = Assignment.objects.filter(pk=assignment_id, enabled=True).first()
    return _with_near(assignment.granted_tools(), name) if assignment is not None else ToolNotFound()


def not_found(tenant_id: UUID, given: ToolQuerySet, name: str) -> ToolNotFound:
    """Return the error about an unknown name, with those of the given tools of the tenant that are near it.

    Without them if the tenant has asked for too many a moment ago: to look for them is dear, and never refused.
    """
    return _with_near(given, name) if _may_look(tenant_id) else ToolNotFound()


def _may_look(tenant_id: UUID) -> bool:
    return not _hints.ask(1, Bucket(str(tenant_id), _HINTS_AT_ONCE, _HINTS_A_SECOND))


def _with_near(given: ToolQuerySet, name: str) -> ToolNotFound:
    own = given.usable().values_list("public_name", flat=True)
    return ToolNotFound(near=near(name, own[:_COMPARED]))


def set_aside(tool: Tool) -> ToolSetAside:
    """Return the error that says why a tool may not be used now: 403 when an admin has denied it, else 409."""
    error = ToolDenied if tool.policy == Policy.DENY and tool.availability.code == ToolDenied.code else ToolSetAside
    return error(tool.availability.sentence, code=tool.availability.code)


def _check_ready(tool: Tool) -> None:
    connection = tool.connection
    # Of these it depends on the assignment's owner whether there is a token or key to act with.
    by_owner = connection.authorization == Authorization.OAUTH or connection.is_personal
    refused = not by_owner and connection.credential_state in {CredentialState.MISSING, CredentialState.REFUSED}
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


def _server(tool: Tool, own: Credential | None) -> mcp_client.Server:
    try:
        return server_for(tool.connection, tool, own=own)
    except SecretOfAnotherServer as refusal:
        raise ConnectionNotReady(f"The connection is not signed in: {refusal.sentence}", code=refusal.code) from refusal


def wants_login(connection: Connection, owner_id: int | None) -> bool:
    """Whether the owner of an assignment is to connect before a call can be made here."""
    try:
        _bearer(connection, owner_id)
        _own(connection, owner_id)
    except OwnerNotConnected:
        return True
    except DuvoError:  # whatever else is wrong, waiting for the owner does not cure it
        return False
    return False


def _bearer(connection: Connection, owner_id: int | None) -> Bearer | None:
    if connection.authorization != Authorization.OAUTH:
        return None
    try:
        return refreshing.held(connection, owner_id)
    except NeedsSignIn as refusal:
        sentence = f"The connection is not signed in: {refusal.sentence}"
        if connection.is_personal:
            raise OwnerNotConnected(sentence) from refusal
        raise ConnectionNotReady(sentence, code="credential_not_ready") from refusal


def _own(connection: Connection, owner_id: int | None) -> Credential | None:
    try:
        return personal.held(connection, owner_id)
    except personal.NotConnected as refusal:
        raise OwnerNotConnected(refusal.sentence) from refusal


def _checker(tool: Tool) -> checks.Checker:
    try:
        return checks.checker((tool.approved_definition or {})["inputSchema"], tenant=str(tool.connection.tenant_id))
    except SchemaBroken as broken:  # it was approved before a bound became narrower
        raise ToolSetAside(f"This tool cannot be used: {broken.sentence}", code="tool_broken") from broken


_found: FairCache[Key, Found] = FairCache(room=_ROOM)
_loads: Gatherer[tuple[UUID, Key], Found] = Gatherer(_load_in_thread, most=_LOADS_AT_ONCE, whose=itemgetter(0))
_hints = Local()
