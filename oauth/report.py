"""What the page of a connection shows of its sign-ins, registrations and discovery; plain data, no secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from connections.ages import ago
from connections.models import Authorization, Connection, Grant, Membership, Role, Sharing, User
from connections.states import CredentialState, next_step
from oauth import credential_state, discovering, registering, responses
from oauth.models import Discovery, Registration, SignIn
from oauth.protocol import providers
from oauth.protocol.choices import ClientKind

PEOPLE_SHOWN = 50
_SIGNS_IN = (Role.ADMIN, Role.MEMBER)
_SEES_ALL = (Role.ADMIN, Role.AUDITOR)
_READ, _NOT_USED, _STOPPED = ("passed", "Read"), ("skipped", "Not used"), ("failed", "Stopped")
_RETIRED = {
    "client_forgotten": "the provider no longer knew it",
    "replaced": "replaced by the client that the settings name now",
    "secret_expired": "its secret had ended",
    "scopes_needed": "the provider wanted to be told the scopes",
    "asked": "an admin asked for a new one",
}


@dataclass(frozen=True, slots=True)
class Account:
    """One sign-in, or one that is missing, as the page shows it; `again`: somebody is or was signed in."""

    who: str
    state: CredentialState
    sentence: str
    again: bool = False
    since: str = ""
    lasts: str = ""
    acting: str = ""
    scopes: list[str] = field(default_factory=list)
    missing: str = ""
    issuer: str = ""
    client: str = ""
    client_id: str = ""
    account: str = ""  # at the provider, as that says
    account_before: str = ""

    @property
    def works(self) -> bool:
        """Whether calls can use it."""
        return self.state in {CredentialState.READY, CredentialState.EXPIRING}


def report_of(connection: Connection, viewer: User, now: datetime) -> dict[str, Any]:
    """Return what this person is shown of the sign-ins of an OAuth connection."""
    rows = SignIn.objects.within(connection).filter(connection=connection)
    rows = rows.select_related("person", "owner", "registration")
    of_owner = {row.owner_id: row for row in rows if row.fits(connection)}
    personal = connection.sharing == Sharing.PERSONAL
    owner_id = viewer.pk if personal else None
    may_sign_in = responses.may_sign_in(viewer, connection)
    mine = _account(connection, of_owner.get(owner_id), "You" if personal else "", now)
    people, more = _people(connection, viewer, of_owner, now) if personal else ([], 0)
    return {
        "personal": personal,
        "nobody_signs_in": connection.oauth_grant == Grant.CLIENT_CREDENTIALS,
        "account": mine if may_sign_in or not personal else None,
        "people": people,
        "more": more,
        "may_sign_in": may_sign_in,
        "registrations": _registrations(connection, now),
        **discovery_of(connection, now),
    }


def discovery_of(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return the latest discovery of the connection's server for the page, None values if there is none of its URL."""
    discovery = Discovery.objects.of(connection).first()
    if discovery is None:
        return {"look": None, "provider": None}
    issuer = (discovery.found.get("server") or {}).get("issuer", "")
    return {
        "look": {
            "at": ago(discovery.looked_at, now),
            "stopped": bool(discovery.reason),
            "not_needed": discovery.reason == discovering.NOT_NEEDED,
            "asks_for_client": discovery.reason in {"client_id_needed", "registration_refused"},
            "sentence": discovery.sentence,
            "steps": marked(discovery.steps, stopped=bool(discovery.reason)),
        },
        "provider": providers.recognized(issuer) if issuer else None,
    }


def marked(steps: list[dict[str, Any]], *, stopped: bool) -> list[dict[str, Any]]:
    """Return the steps of a discovery, each with a mark and its word; one that `stopped` did so at its last step."""
    marks = [_READ if step["good"] else _NOT_USED for step in steps]
    if stopped and marks and not steps[-1]["good"]:
        marks[-1] = _STOPPED
    return [{**step, "outcome": mark[0], "label": mark[1]} for step, mark in zip(steps, marks, strict=True)]


def guide_of(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return what an admin needs who registers a client by hand; the connection may not be saved yet."""
    saved = not connection._state.adding  # noqa: SLF001 - Django's own flag
    known = saved and connection.authorization == Authorization.OAUTH
    return {
        "redirect_uri": registering.redirect_uri(),
        "key_set_url": registering.key_set_url(connection) if saved else "",
        "anywhere": providers.ANYWHERE,
        "provider": discovery_of(connection, now)["provider"] if known else None,
    }


# --- one sign-in ---


def _account(connection: Connection, sign_in: SignIn | None, who: str, now: datetime) -> Account:
    if sign_in is None:
        return Account(who, CredentialState.NEEDS_SIGN_IN, "Not signed in." if who else _nobody(connection))
    state, _, sentence = credential_state.of_sign_in(sign_in, now)
    if state == CredentialState.READY and sign_in.was_left_behind():
        step = next_step(credential_state.SIGNER_LEFT)
        state, sentence = CredentialState.EXPIRING, f"{credential_state.who_left(sign_in)} {step}"
    name = sign_in.person.get_username() if sign_in.person else ""
    return Account(
        who or name,
        state,
        sentence,
        again=True,
        since=ago(sign_in.signed_in_at, now),
        lasts=_lasts(sign_in, now),
        acting=_acting(connection, sign_in, name),
        scopes=sign_in.scopes.split(),
        missing=sign_in.missing_scopes,
        issuer=sign_in.server.get("issuer", ""),
        client=sign_in.registration.get_kind_display(),
        client_id=sign_in.registration.client_id,
        account=sign_in.account,
        account_before=sign_in.account_before,
    )


def _nobody(connection: Connection) -> str:
    if connection.oauth_grant == Grant.CLIENT_CREDENTIALS:
        return "No token has been fetched yet."
    return "Nobody is signed in."


def _lasts(sign_in: SignIn, now: datetime) -> str:
    """Return until when a sign-in lasts and what happens then."""
    if sign_in.ended_at is not None:
        return f"Ended {ago(sign_in.ended_at, now)}"
    if sign_in.expires_at is None:
        return "The provider names no end"
    end = credential_state.moment(sign_in.expires_at, now, timezone.get_current_timezone())
    if sign_in.renewable and sign_in.renewed_at:
        return f"Renewed {ago(sign_in.renewed_at, now)}, and again before {end}"
    if sign_in.renewable:
        return f"Renewed by itself before {end}"
    return f"Until {end}; the provider gave nothing to renew it with"


def _acting(connection: Connection, sign_in: SignIn, name: str) -> str:
    """Return how many assignments act through this sign-in."""
    # Assignments belong to `tools`, which may not be imported here; they are reached through the organization.
    assignments = connection.tenant.assignments.filter(Q(scope="all") | Q(tools__connection=connection), enabled=True)
    if sign_in.owner_id is not None:
        assignments = assignments.filter(owner=sign_in.owner_id)
    count = assignments.aggregate(count=Count("pk", distinct=True))["count"]
    number = "1 assignment acts" if count == 1 else f"{count or 'No'} assignments act"
    return f"{number} as {name}" if name else f"{number} through this client"


# --- the members of a personal connection ---


def _people(
    connection: Connection, viewer: User, of_owner: dict[int | None, SignIn], now: datetime
) -> tuple[list[Account], int]:
    """Return the other members as far as the viewer may see them, those who are signed in first, and how many more."""
    sees_all = viewer.is_superuser or viewer.is_reviewer or viewer.roles.get(connection.tenant_id) in _SEES_ALL
    if not sees_all:
        return [], 0
    memberships = Membership.objects.filter(tenant=connection.tenant, role__in=_SIGNS_IN).exclude(user=viewer)
    ordered = memberships.select_related("user").order_by("user__username")
    everybody = sorted(ordered, key=lambda membership: membership.user_id not in of_owner)
    shown = [
        _account(connection, of_owner.get(membership.user_id), membership.user.get_username(), now)
        for membership in everybody[:PEOPLE_SHOWN]
    ]
    return shown, len(everybody) - len(shown)


# --- registrations ---


def _registrations(connection: Connection, now: datetime) -> dict[str, Any]:
    rows: list[Registration] = list(connection.registrations.all()[:PEOPLE_SHOWN])
    return {
        "rows": [
            {
                "kind": row.get_kind_display(),
                "issuer": row.issuer,
                "client_id": row.client_id,
                "since": ago(row.made_at, now),
                "retired": f"Retired {ago(row.retired_at, now)}: {_RETIRED.get(row.retired_because, 'no longer used')}"
                if row.retired_at
                else "",
            }
            for row in rows
        ],
        "can_renew": any(row.kind == ClientKind.DCR and row.retired_at is None for row in rows),
    }
