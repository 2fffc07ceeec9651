"""Revoking tokens: whatever is deleted here is revoked at the provider, where it offers that (RFC 7009)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from connections import audit, deleting, egress, personal, shares
from connections.errors import DuvoError
from connections.models import Connection, Tenant, User
from connections.notices import notices
from connections.threads import in_thread
from oauth import credential_state, discovering, registering, token_endpoint
from oauth.errors import CannotSignIn
from oauth.models import SignIn
from oauth.token_endpoint import Client


def revoke(sign_in: SignIn, client: Client | None = None) -> str:
    """Revoke the tokens of a sign-in and return a code for how that went; the caller deletes the row.

    Without a `client`, by that of its registration with the secret that is stored now.
    """
    if not sign_in.sealed:
        return "nothing_left"
    try:
        work = _request(sign_in, client)
        if work is None:
            return "not_offered"
        egress.run(work())
    except DuvoError as failure:
        return failure.code
    return "revoked"


def revoke_and_delete(sign_in: SignIn) -> str | None:
    """Revoke and delete a sign-in and return a code for how that went, None if somebody else has deleted it meanwhile.

    What is deleted is what was revoked: after a renewal in between the tokens that it brought are revoked, too.
    """
    rows = SignIn.objects.select_related("registration__connection__tenant", "connection__tenant", "owner")
    now: SignIn | None = sign_in
    while now is not None:
        outcome = revoke(now)
        if SignIn.objects.filter(pk=now.pk, generation=now.generation).delete()[0]:
            return outcome
        now = rows.filter(pk=now.pk).first()
    return None


def prune(connection: Connection) -> None:
    """Revoke and delete the sign-ins of people who have left, and those for another server, client or grant.

    What members have entered of their own goes in the same way.
    """
    personal.prune(connection)
    rows = SignIn.objects.filter(connection=connection)
    here = set(rows.within(connection).values_list("pk", flat=True))
    for sign_in in rows.select_related("registration__connection__tenant", "owner"):
        if sign_in.pk not in here or not sign_in.fits(connection):
            outcome = revoke_and_delete(sign_in)
            if outcome is None:
                continue  # somebody else has done the same meanwhile
            notices.resolve(connection, sign_in.owner)
            audit.record(
                "system", "connection.signed_out", connection, tenant=connection.tenant, outcome=outcome,
                **sign_in.whose_account,
            )  # fmt: skip


def end_unfit(connection: Connection, before: Connection) -> None:
    """End the sign-ins that a change of their connection leaves without use, and have their tokens revoked.

    By the client of `before`, in the background once the change is committed: what is stored from then on is another
    client's secret, or none. Those of a suspended organization wait for `prune`, as nothing is sent for it.
    """
    if _is_suspended(connection):
        return
    rows = SignIn.objects.filter(connection=connection).select_related("registration", "owner")
    for sign_in in rows.select_for_update(of=("self",)):  # what a renewal brings after this, it revokes by itself
        if not sign_in.fits(connection):
            sign_in.connection = sign_in.registration.connection = before
            _revoke_later(sign_in)
            SignIn.objects.filter(pk=sign_in.pk).delete()
            notices.resolve(connection, sign_in.owner)


def abandoned(work: shares.Work | None = None) -> list[UUID]:
    """Return the connections that have sign-ins, keys or headers of people who may no longer act."""
    signed_in = Q(pk__in=SignIn.objects.abandoned().order_by().values("connection"))
    connections = Connection.objects.filter(signed_in | personal.abandoned())
    return shares.admitted(connections, work, tenant="tenant", when="created_at", most=200)


def forget_abandoned(connection_id: UUID) -> None:
    """Prune one of these connections, and store its credential state; one of a suspended organization waits."""
    connection = Connection.objects.filter(pk=connection_id).first()
    if connection is not None and not _is_suspended(connection):
        prune(connection)
        credential_state.settle(connection)


def revoke_on_delete(connection: Connection) -> None:
    """Revoke the tokens of a connection in the background, once its deletion is committed."""
    for sign_in in SignIn.objects.filter(connection=connection, ended_at=None).select_related("registration"):
        _revoke_later(sign_in)


def revoke_of(person: User) -> None:
    """Revoke a person's own tokens in the background, once the deletion of the person is committed."""
    rows = SignIn.objects.filter(owner=person, ended_at=None)
    for sign_in in rows.select_related("connection", "registration__connection"):
        _revoke_later(sign_in)


def _request(sign_in: SignIn, client: Client | None = None) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """Return what begins the revocation, None where the provider offers none.

    Raises SealBroken, and CannotSignIn, also while the organization is suspended: then nothing is sent anywhere.
    """
    if _is_suspended(sign_in.connection):
        raise CannotSignIn(
            "The organization is suspended: nothing is sent to the provider.", code="organization_suspended"
        )
    server = discovering.server_of(sign_in.server)
    if not server.revocation_endpoint:
        return None
    tokens, client = sign_in.tokens(), client or registering.client_of(sign_in.registration, server)
    if tokens.refresh_token:
        return partial(token_endpoint.revoke, server, client, tokens.refresh_token, "refresh_token")
    return partial(token_endpoint.revoke, server, client, tokens.access_token, "access_token")


def _is_suspended(connection: Connection) -> bool:
    """Tell whether the organization is suspended at this moment, which the row in hand may not know.

    One that only its deletion has suspended gives its tokens back.
    """
    suspended = Tenant.objects.filter(pk=connection.tenant_id, suspended_at__isnull=False)
    return suspended.exclude(deletion_begun_at__isnull=False, suspended_at=F("deletion_begun_at")).exists()


def _revoke_later(sign_in: SignIn) -> None:
    """Revoke the tokens in the background once the transaction is committed; all that is needed for it is read now."""
    work, outcome = None, "nothing_left"
    try:
        if sign_in.sealed:
            work, outcome = _request(sign_in), "not_offered"
    except DuvoError as failure:
        outcome = failure.code
    its = sign_in.connection.tenant_id
    transaction.on_commit(lambda: egress.submit(_carry_out(work, sign_in, outcome, its)))


async def _carry_out(
    work: Callable[[], Coroutine[Any, Any, None]] | None, sign_in: SignIn, outcome: str, its: UUID
) -> None:
    try:
        if work is not None:
            await work()
            outcome = "revoked"
    except DuvoError as failure:
        outcome = failure.code
    await in_thread(_record, sign_in, outcome, of=its)


def _record(sign_in: SignIn, outcome: str) -> None:
    """Record how the revocation went, unless the connection is gone, too: its own deletion is on record."""
    rows = Connection.objects.filter(pk=sign_in.connection_id)
    with deleting.may_vanish(rows):
        connection = rows.select_related("tenant").get()
        audit.record("system", "connection.signed_out", connection, tenant=connection.tenant, outcome=outcome)
        credential_state.settle(connection)
