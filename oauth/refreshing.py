"""Renewing tokens: one at a time over all processes, and everybody else waits for that one.

A provider that rotates refresh tokens ends the whole sign-in when one is used twice (RFC 9700, section 4.14.2). So
whoever renews first takes a lease on the row by a conditional update, asks the provider with no transaction open, and
stores the next generation. Others see the new generation and take its token; if the lease runs out, because its holder
died, the next one takes over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from connections import audit, deleting, egress, metrics, shares
from connections.errors import DuvoError, SealKeyUnknown
from connections.models import Connection, Grant, Sharing
from connections.telling import tell
from connections.threads import in_thread
from oauth import credential_state, discovering, registering, sign_in_notices, token_endpoint
from oauth.errors import NeedsSignIn, OAuthError, ProviderRefused, ProviderUnavailable
from oauth.models import SignIn, Tokens
from oauth.protocol import choices
from oauth.protocol.metadata import ServerMetadata
from oauth.token_endpoint import Client

LEASE = timedelta(seconds=45)  # longer than two exchanges with the provider may take
_AT_ONCE = 200
_DUE_AGAIN_AFTER = timedelta(seconds=90)
_WAIT = LEASE.total_seconds() + 15  # seconds
_FIRST_POLL = 0.05  # seconds between two reads of the row while another process holds the lease
_LONGEST_POLL = 0.5
_WRITE_TRIES = 8
_WRITE_PAUSE = 0.5  # seconds
_REFUSED = "sign_in_revoked"
_NOT_WITHOUT_RESOURCE = {"invalid_grant", "invalid_client", "unauthorized_client"}

_spread = random.SystemRandom()
_under_way: dict[tuple[asyncio.AbstractEventLoop, UUID, int], asyncio.Task[Bearer]] = {}
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bearer:
    """The access token of a sign-in, with what its user has to know."""

    tenant_id: UUID
    sign_in_id: UUID
    connection_id: UUID
    owner_id: int | None
    generation: int
    server_url: str  # the only server that it may be sent to
    token: str = field(repr=False)
    obtained_at: datetime
    expires_at: datetime | None
    doubted: bool = False  # the MCP server refused it once
    account: str = ""  # at the provider, as it says itself; "" where it says nothing

    def stale(self, now: datetime) -> bool:
        """Whether it should be renewed before it is used."""
        return choices.is_stale(now, self.obtained_at, self.expires_at)


@dataclass(frozen=True, slots=True)
class _Renewal:
    """What a renewal needs from the database, read at once."""

    sign_in: SignIn
    server: ServerMetadata
    client: Client
    tokens: Tokens


def held(connection: Connection, owner_id: int | None) -> Bearer:
    """Return the token that an assignment of this owner acts with; raises NeedsSignIn and SealBroken."""
    sign_in = SignIn.objects.of(connection, owner_id)
    if sign_in is None and connection.sharing == Sharing.PERSONAL:
        raise NeedsSignIn("The owner of this assignment has not signed in to this connection.")
    if sign_in is None or sign_in.ended_at is not None:
        raise NeedsSignIn(
            credential_state.of_connection(connection, timezone.now()).sentence if sign_in is None else _why(sign_in)
        )
    return _bearer(sign_in, connection)


def held_for_checks(connection: Connection) -> Bearer | None:
    """Return the token to check a connection with: always that of the oldest sign-in, None without one."""
    rows = SignIn.objects.within(connection).filter(connection=connection, ended_at=None).select_related("registration")
    return next((_bearer(row, connection) for row in rows if row.fits(connection)), None)


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the ids of the sign-ins that are due, tenants in turn.

    Each is due again a while later, in case its message is lost. Those without a slot for this work stay due.
    """
    rows = SignIn.objects.due(now)

    def claim(row: QuerySet[SignIn]) -> int:
        return row.update(renew_at=now + _DUE_AGAIN_AFTER)

    return shares.admitted(rows, work, tenant="connection__tenant", when="renew_at", most=_AT_ONCE, claim=claim)


def attend(sign_in_id: UUID) -> None:
    """Renew a sign-in before it ends, or notify people that it ends; what a provider does wrong is not raised."""
    sign_in = SignIn.objects.select_related("connection__tenant").filter(pk=sign_in_id, ended_at=None).first()
    if sign_in is None or not _may_send(sign_in):
        return
    if sign_in.renewable:
        with suppress(DuvoError):  # the failure is recorded already
            egress.run(renew(sign_in.pk, sign_in.generation, of=sign_in.connection.tenant_id))
        return
    now = timezone.now()
    if sign_in.expires_at is None or sign_in.expires_at <= now:
        _failed(sign_in, ProviderRefused("invalid_grant"))
    else:
        sign_in.schedule(sign_in.expires_at)
        credential_state.settle(sign_in.connection)
        sign_in_notices.notify(sign_in)


async def renewed(bearer: Bearer, *, refused: bool = False) -> Bearer:
    """Return a newer token than this one; raises NeedsSignIn, ProviderRefused, ProviderUnavailable and SealBroken.

    A token that is still valid is kept when an early renewal fails, unless it was `refused`. One that is refused though
    it is new is not replaced at once again: a server that takes no token would have the provider asked without end.
    """
    if refused and not await in_thread(_may_replace, bearer, of=bearer.tenant_id):
        raise NeedsSignIn("The server refuses the token though it was just renewed.")
    try:
        renewal = renew(bearer.sign_in_id, bearer.generation, of=bearer.tenant_id)
        return await _shared(renewal, bearer.sign_in_id, bearer.generation)
    except NeedsSignIn:
        successor = await in_thread(_successor, bearer, of=bearer.tenant_id)
        if successor is None:
            raise
        return successor
    except (OAuthError, SealKeyUnknown):
        if refused or bearer.expires_at is None or bearer.expires_at <= timezone.now():
            raise
        return bearer


async def renew(sign_in_id: UUID, generation: int, *, of: UUID) -> Bearer:
    """Renew the tokens of this generation, of this tenant, or wait for whoever does; raises as `renewed` does."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + _WAIT, _FIRST_POLL
    while loop.time() < deadline:
        sign_in = await in_thread(_load, sign_in_id, of=of)
        if sign_in.generation != generation:
            return _bearer(sign_in, sign_in.connection)
        if not _may_send(sign_in):
            raise ProviderUnavailable("The connection is disabled, so its sign-in is not renewed.")
        if sign_in.not_before is not None and timezone.now() < sign_in.not_before:
            raise ProviderUnavailable("The sign-in server did not renew the token a moment ago. We try again soon.")
        lease, now = uuid4(), timezone.now()
        if not sign_in.renewable and (sign_in.expires_at is None or sign_in.expires_at > now):
            raise NeedsSignIn("There is no refresh token to renew the sign-in with.")
        if await in_thread(sign_in.claim, lease, now, now + LEASE, of=of):
            return await _as_holder(sign_in)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL)
    raise ProviderUnavailable("Renewing the token took too long. Try again in a while.")


async def _shared(work: Coroutine[Any, Any, Bearer], sign_in_id: UUID, generation: int) -> Bearer:
    """Let the callers of one process wait for one task instead of each asking the database."""
    key = (asyncio.get_running_loop(), sign_in_id, generation)
    task = _under_way.get(key)
    if task is None:
        task = asyncio.ensure_future(work)
        _under_way[key] = task
        task.add_done_callback(lambda _: _under_way.pop(key, None))
    else:
        work.close()
    return await asyncio.shield(task)


async def _as_holder(sign_in: SignIn) -> Bearer:
    its = sign_in.connection.tenant_id
    try:
        renewal = await in_thread(_prepare, sign_in, of=its)
        tokens = await _ask(renewal)
    except SealKeyUnknown:  # a process that has the key renews them; this failure says nothing about the sign-in
        await in_thread(sign_in.release, of=its)
        raise
    except DuvoError as failure:
        outcome = "refused" if isinstance(failure, ProviderRefused) else "failed"
        metrics.count("token_refreshes", outcome=outcome)
        tell(logger, "Tokens were not renewed.", sign_in=sign_in.pk, outcome=outcome, code=failure.code)
        await in_thread(_failed, sign_in, failure, of=its)
        if isinstance(failure, ProviderRefused) and await in_thread(_is_over, sign_in, of=its):
            raise NeedsSignIn(_why(await in_thread(_row, sign_in.pk, of=its))) from failure
        raise
    metrics.count("token_refreshes", outcome="renewed")
    if not await _write(sign_in, tokens) and not await in_thread(_goes_on, sign_in, of=its):
        await _revoke(renewal, tokens)
    renewed = await in_thread(_load, sign_in.pk, of=its)
    return _bearer(renewed, renewed.connection)


async def _ask(renewal: _Renewal) -> Tokens:
    sign_in = renewal.sign_in
    if sign_in.grant == Grant.CLIENT_CREDENTIALS:
        fields = token_endpoint.form("client_credentials", scope=sign_in.scopes, resource=sign_in.resource)
    else:
        token = renewal.tokens.refresh_token
        if not token:
            raise ProviderRefused("invalid_grant")
        fields = token_endpoint.form("refresh_token", refresh_token=token, resource=sign_in.resource)
    try:
        return await token_endpoint.grant(renewal.server, renewal.client, fields)
    except ProviderRefused as refusal:
        # Some servers do not know the resource parameter, and say so only here.
        if refusal.status != 400 or "resource" not in fields or refusal.meaning in _NOT_WITHOUT_RESOURCE:  # noqa: PLR2004
            raise
        del fields["resource"]
        return await token_endpoint.grant(renewal.server, renewal.client, fields)


async def _revoke(renewal: _Renewal, tokens: Tokens) -> None:
    """Revoke new tokens (RFC 7009) whose sign-in ended while they were requested; if that fails, they expire."""
    if not renewal.server.revocation_endpoint:
        return
    kind = "refresh_token" if tokens.refresh_token else "access_token"
    with suppress(DuvoError):
        await token_endpoint.revoke(renewal.server, renewal.client, tokens.refresh_token or tokens.access_token, kind)


async def _write(sign_in: SignIn, tokens: Tokens) -> bool:
    """Store the new tokens as `SignIn.renewed` does, in several tries: the old ones may work no longer."""
    for attempt in range(1, _WRITE_TRIES + 1):
        try:
            return await in_thread(_renewed, sign_in, tokens, of=sign_in.connection.tenant_id)
        except (OperationalError, InterfaceError):
            if attempt == _WRITE_TRIES:
                raise
            logger.warning("Renewed tokens could not be written down yet, try %s", attempt)
            await asyncio.sleep(_WRITE_PAUSE)
    raise AssertionError  # the last try returns or raises


# --- in a thread: what touches rows ---


def _load(sign_in_id: UUID) -> SignIn:
    """Return the sign-in with its connection and registration; raises NeedsSignIn if it is gone or ended."""
    rows = SignIn.objects.select_related("connection__tenant", "registration__connection")
    row = rows.filter(pk=sign_in_id).first()
    if row is None:
        raise NeedsSignIn("The sign-in was replaced or ended meanwhile.")
    if row.ended_at is not None:
        raise NeedsSignIn(_why(row))
    return row


def _may_send(sign_in: SignIn) -> bool:
    """Whether its provider may be asked: not for a disabled connection or a suspended organization."""
    return sign_in.connection.enabled and sign_in.connection.tenant.suspended_at is None


def _may_replace(bearer: Bearer) -> bool:
    """Whether there is a newer token than the refused one, or the provider may be asked for one now."""
    row = _row(bearer.sign_in_id)
    if row is None or row.refused_at is None or row.generation != bearer.generation:
        return True
    return choices.may_replace(timezone.now(), row.obtained_at, row.refused_at)


def _successor(bearer: Bearer) -> Bearer | None:
    """Return the token of the sign-in that has replaced this one meanwhile, at the same server."""
    rows = SignIn.objects.select_related("connection", "registration").exclude(pk=bearer.sign_in_id)
    same = rows.filter(connection=bearer.connection_id, owner=bearer.owner_id, server_url=bearer.server_url)
    row = same.filter(ended_at=None).first()
    return _bearer(row, row.connection) if row is not None and row.fits(row.connection) else None


def _row(sign_in_id: UUID) -> SignIn | None:
    return SignIn.objects.filter(pk=sign_in_id).first()


def _is_over(sign_in: SignIn) -> bool:
    row = _row(sign_in.pk)
    return row is None or row.ended_at is not None


def _why(sign_in: SignIn | None) -> str:
    return credential_state.ENDED.get(sign_in.ended_because if sign_in else "", "The sign-in has ended.")


def _bearer(sign_in: SignIn, connection: Connection) -> Bearer:
    token = sign_in.tokens().access_token
    doubted = sign_in.refused_at is not None
    return Bearer(
        connection.tenant_id, sign_in.pk, connection.pk, sign_in.owner_id, sign_in.generation, sign_in.server_url,
        token, sign_in.obtained_at, sign_in.expires_at, doubted, sign_in.account,
    )  # fmt: skip


def _prepare(sign_in: SignIn) -> _Renewal:
    server = discovering.server_of(sign_in.server)
    client = registering.client_of(sign_in.registration, server)
    return _Renewal(sign_in, server, client, sign_in.tokens())


def _goes_on(sign_in: SignIn) -> bool:
    """Whether this sign-in, or the one that replaced it, still has tokens: a provider may count both as one grant."""
    rows = SignIn.objects.filter(connection=sign_in.connection_id, owner=sign_in.owner_id, ended_at=None)
    return rows.exists()


def _renewed(sign_in: SignIn, tokens: Tokens) -> bool:
    now = timezone.now()
    renewable = sign_in.renewable or bool(tokens.refresh_token)
    when = choices.renew_at(now, tokens.expires_in, renewable=renewable, spread=_spread)
    if not sign_in.renewed(tokens, now, when):
        return False
    with deleting.may_vanish(SignIn.objects.filter(pk=sign_in.pk)):
        _record(sign_in, "connection.token_renewed", "ok")
        credential_state.settle(_connection(sign_in))
        sign_in_notices.notify(sign_in)
    return True


def _failed(sign_in: SignIn, failure: DuvoError) -> None:
    """Record why a renewal failed; only a refusal of this very sign-in ends it.

    `invalid_grant` does so at once, another definite refusal the second time, once the token has expired. One of a
    client that a person entered does not: with the right secret the sign-in goes on.
    """
    error, now = getattr(failure, "error", ""), timezone.now()
    meaning = getattr(failure, "meaning", "")
    refused = isinstance(failure, ProviderRefused) and failure.definite and sign_in.grant != Grant.CLIENT_CREDENTIALS
    if meaning == "invalid_grant":
        ended = sign_in.end("sign_in_revoked" if sign_in.renewable else "sign_in_ended", now)
    elif meaning == "invalid_client" and registering.forget(sign_in.registration):
        ended = sign_in.end("client_forgotten", now)
    elif refused and meaning != "invalid_client" and _is_second(sign_in, now):
        ended = sign_in.end(_REFUSED, now)
    else:
        because = _REFUSED if refused and meaning != "invalid_client" else ""
        until = choices.retry_at(now, sign_in.failures, _spread, refused=isinstance(failure, ProviderRefused))
        sign_in.postpone(until, because=because)
        ended = False
    with deleting.may_vanish(SignIn.objects.filter(pk=sign_in.pk)):
        _record(sign_in, "connection.sign_in_ended" if ended else "connection.token_not_renewed", error or failure.code)
        credential_state.settle(_connection(sign_in))
        row = SignIn.objects.select_related("connection__tenant").filter(pk=sign_in.pk).first()
        if row is not None:
            sign_in_notices.notify(row)


def _is_second(sign_in: SignIn, now: datetime) -> bool:
    """Whether the renewal before was refused, too, and the token is over."""
    return sign_in.ended_because == _REFUSED and sign_in.expires_at is not None and sign_in.expires_at <= now


def _record(sign_in: SignIn, action: str, outcome: str) -> None:
    connection = sign_in.connection
    whose = {"owner": sign_in.owner.get_username()} if sign_in.owner else {}
    audit.record(
        "system", action, connection, tenant=connection.tenant, outcome=outcome,
        issuer=sign_in.server.get("issuer", ""), **whose, **sign_in.whose_account,
    )  # fmt: skip


def _connection(sign_in: SignIn) -> Connection:
    """Return the row as it is now: while the provider was asked, somebody may have changed it."""
    return Connection.objects.get(pk=sign_in.connection_id)
