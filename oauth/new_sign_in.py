"""A sign-in that has just been made: stored in place of the one before, unless what it was made for has changed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from connections import checking
from connections.models import Connection, Sharing, User
from connections.notices import notices
from oauth import credential_state, responses, revoking, sign_in_notices
from oauth.models import Registration, SignIn, Tokens, basis
from oauth.protocol import choices
from oauth.protocol.accounts import Account
from oauth.protocol.metadata import ServerMetadata
from oauth.token_endpoint import Client

_STEP_UPS_COUNT_FOR = timedelta(days=1)
_spread = random.SystemRandom()


def owner_of(connection: Connection, user: User) -> User | None:
    """Return whose the sign-in is that this person makes: their own, or with None the organization's."""
    return user if connection.sharing == Sharing.PERSONAL else None


def store(
    connection: Connection,
    registration: Registration,
    server: ServerMetadata,
    client: Client,
    tokens: Tokens,
    *,
    person: User | None,
    asked: str,
    resource: str,
    made_for: str,
    account: Account | None = None,
) -> SignIn:
    """Store a new sign-in in place of the previous one, and have the connection checked with it.

    Revokes the tokens, by the `client` that got them, and raises CallbackRefused if the connection is no longer what
    they were `made_for`.
    """
    now = timezone.now()
    owner = owner_of(connection, person) if person else None
    sign_in = SignIn(
        connection=connection,
        owner=owner,
        person=person,
        registration=registration,
        grant=connection.oauth_grant,
        server_url=connection.server_url,
        server=server.model_dump(mode="json"),
        authorization_server=connection.oauth_authorization_server,
        assumed_pkce=person is not None and not choices.announces_pkce(server),
        resource=resource,
        scopes=asked,
        account_id=account.id if account else "",
        account=account.name if account else "",
    )
    renewable = bool(tokens.refresh_token) or person is None
    sign_in.keep(tokens, now, choices.renew_at(now, tokens.expires_in, renewable=renewable, spread=_spread))
    with transaction.atomic():
        stored = _replace(sign_in, made_for, now)
    if not stored:
        revoking.revoke(sign_in, client)
        raise responses.changed()
    return sign_in


def _replace(sign_in: SignIn, made_for: str, now: datetime) -> bool:
    """Save the sign-in; False if the connection, or the person's role, has changed while the provider was asked."""
    connection = Connection.objects.select_for_update(no_key=True).filter(pk=sign_in.connection_id).first()
    person = sign_in.person.read_again() if sign_in.person else None
    if connection is None or basis(connection) != made_for:
        return False
    if person is not None and not responses.may_sign_in(person, connection):
        return False
    if credential_state.closed(connection) is not None:
        return False
    sign_in.connection = connection
    owner = sign_in.owner
    before = SignIn.objects.filter(connection=connection, owner=owner).first()
    if before is not None:
        other = bool(before.account_id and sign_in.account_id) and before.account_id != sign_in.account_id
        sign_in.account_before = before.account if other else ""
        sign_in.missing_scopes = choices.not_granted(sign_in.scopes, before.missing_scopes)
        if before.missing_scopes and before.signed_in_at > now - _STEP_UPS_COUNT_FOR:
            sign_in.step_ups = before.step_ups + 1
        before.delete()
    sign_in.save(force_insert=True)
    if sign_in.missing_scopes:
        sign_in_notices.notify(sign_in)
    else:
        notices.resolve(connection, owner)
    credential_state.settle(connection)
    if person is not None:
        checking.request_check(connection)
    return True
