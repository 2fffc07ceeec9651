"""What the responses of MCP servers show about the token of a sign-in."""

from __future__ import annotations

from uuid import UUID

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from connections import audit, shares
from oauth import credential_state, sign_in_notices
from oauth.models import SignIn
from oauth.protocol.metadata import valid_scopes

DISCOVERIES = shares.Work(task="oauth.discover_again", dispatcher="tools.dispatch_probes")  # a check finds out the same
_LONGEST_SCOPES = 4000  # characters


def refused(sign_in_id: UUID) -> None:
    """Record that the MCP server answered 401 to a token that was just renewed, and have the discovery run again.

    The server may trust another issuer by now.
    """
    sign_in = _sign_in(sign_in_id)
    if sign_in is None or sign_in.refused_at is not None:
        return
    sign_in.was_refused(timezone.now())
    _record(sign_in, "connection.token_refused", "unauthorized")
    if not DISCOVERIES.admits(sign_in.connection.tenant_id, sign_in.connection_id):
        return
    arguments = {"connection_id": str(sign_in.connection_id)}
    try:
        current_app.send_task(DISCOVERIES.task, kwargs=arguments, expires=shares.WAITS, retry=False)
    except (OperationalError, OSError):
        return  # the next check finds it out


def accepted(sign_in_id: UUID) -> None:
    """Record that the MCP server accepted the token after all."""
    sign_in = _sign_in(sign_in_id)
    if sign_in is not None and sign_in.refused_at is not None:
        sign_in.was_refused(None)
        credential_state.settle(sign_in.connection)
        sign_in_notices.notify(sign_in)


def scopes_missing(sign_in_id: UUID, scopes: str) -> None:
    """Record the scopes that the MCP server asks for and the sign-in does not have (RFC 6750, section 3.1)."""
    while (sign_in := _sign_in(sign_in_id)) is not None:
        wanted = " ".join(valid_scopes([*sign_in.missing_scopes.split(), *scopes.split()]))[:_LONGEST_SCOPES]
        if wanted == sign_in.missing_scopes:
            return
        if sign_in.record_missing_scopes(wanted):  # else another call has just recorded other scopes
            _record(sign_in, "connection.scopes_missing", "insufficient_scope")
            return


def _sign_in(sign_in_id: UUID) -> SignIn | None:
    rows = SignIn.objects.select_related("connection__tenant", "registration", "person", "owner")
    return rows.filter(pk=sign_in_id, ended_at=None).first()


def _record(sign_in: SignIn, action: str, outcome: str) -> None:
    connection = sign_in.connection
    audit.record(
        "system", action, connection, tenant=connection.tenant, outcome=outcome, **sign_in.whose_account
    )  # fmt: skip
    credential_state.settle(connection)
    sign_in_notices.notify(sign_in)
