"""The version of what a call is opened on: a text that is another one as soon as anything in its rows is.

An offer is kept for minutes, with the version at which it was read. The statement that opens a call makes the version
anew from the rows, and opens the call only if it is still the same: so whatever an admin changes holds from the next
call on, in every process. `CHECKED` names the fields that are in the version, and `HARMLESS` says of each other one why
it is not; a test finds those that are in neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db import connection
from django.db.models import DateTimeField, Field, Model

from connections.models import Connection, Credential, Membership, Tenant, User
from oauth.models import Registration, SignIn
from tools.models import AccessToken, Assignment, Consent, Tool

GRANT: Final[type[Model]] = Assignment.tools.through

CHECKED: Final[Mapping[type[Model], tuple[str, ...]]] = {
    AccessToken: ("id", "assignment", "created_by", "expires_at", "revoked_at", "acts_as"),
    Assignment: ("id", "tenant", "owner", "enabled", "scope", "max_rate"),
    Tenant: (
        "id", "suspended_at", "max_concurrency", "decision_hours", "max_open_calls", "max_stored", "stored_bytes",
    ),
    Connection: (
        "id", "tenant", "revision", "server_url", "authorization", "api_key_header", "enabled", "connect_timeout",
        "idle_timeout", "call_timeout", "max_concurrency", "max_rate", "max_answer", "session_calls",
        "session_idle_minutes", "send_trace", "era_choice", "sharing", "oauth_grant", "oauth_client_id",
        "oauth_authorization_server", "oauth_assume_pkce", "era", "protocol_version", "credential_state",
        "credential_reason", "reachability_state", "tools_state",
    ),
    Tool: (
        "id", "connection", "name", "public_name", "digest", "approved_digest", "policy", "placement", "idle_timeout",
        "call_timeout", "slow_until", "broken", "gone_at",
    ),
    GRANT: ("assignment", "tool"),
    Credential: ("connection", "owner", "set_at", "refused"),
    SignIn: (
        "id", "connection", "owner", "registration", "grant", "server_url", "authorization_server", "assumed_pkce",
        "generation", "signed_in_at", "obtained_at", "expires_at", "refused_at", "ended_at",
    ),
    Registration: ("id", "kind", "client_id"),
    Membership: ("id", "user", "tenant", "role"),
    User: ("id", "is_active"),
    Consent: ("id", "assignment"),
}  # fmt: skip

_WORDS = "it is for people to read"
_NEVER = "it never changes"
_WITH = "it changes together with "
_SIGNING_IN = "it is used when somebody signs in or tokens are renewed, and both make another generation"
_CHECKS = "it is about checks of the server"
_REFUSAL = "it is told with a refusal, and refusals are kept for one second only"
_REVIEW = "the digests say which definition was seen and which is approved"
_ACCOUNT = "it is about signing in to the admin"
_HOUSE = "no call depends on it"
HARMLESS: Final[Mapping[type[Model], Mapping[str, tuple[str, ...]]]] = {
    AccessToken: {
        _WORDS: ("label", "prefix", "last_used_at"),
        _NEVER: ("digest", "created_at"),
        "a token of an assignment has no membership": ("membership",),
        f"{_WITH}revoked_at": ("calls_go_on",),
    },
    Assignment: {_WORDS: ("name", "instructions"), _NEVER: ("created_at",), "see its grants": ("tools",)},
    Tenant: {
        _WORDS: ("name", "slug", "created_at", "suspended_reason"),
        _HOUSE: (
            "webhook_url", "sealed_webhook_secret", "unposted", "retention_days", "max_connections", "max_assignments",
            "max_tokens", "max_sessions", "members_own", "require_second_factor", "time_zone", "deletion_begun_at",
        ),
        "tokens are shortened when it is": ("max_token_days",),
    },
    Connection: {
        _WORDS: ("name", "server_name", "server_version", "created_by"),
        "each tool has its public name in its row": ("slug",),
        _NEVER: ("created_at",),
        _SIGNING_IN: ("oauth_token_auth", "oauth_scopes", "oauth_resource", "oauth_omit_resource"),
        _CHECKS: ("next_probe_at", "probe_lease_until", "probe_failures", "first_listed_at", "probed_at", "updated_at"),
        _REFUSAL: (
            "credential_sentence", "reachability_reason", "reachability_sentence", "tools_reason", "tools_sentence",
        ),
        f"{_WITH}its state": ("credential_since", "reachability_since", "tools_since"),
    },
    Tool: {
        _REVIEW: ("definition", "approved_definition", "approved_by", "approved_at"),
        "only descriptions move, and no call depends on one": ("moving", "moving_by", "moving_at", "moving_for"),
        _CHECKS: ("first_seen_at", "last_seen_at"),
    },
    GRANT: {_NEVER: ("id",)},
    Credential: {
        f"{_WITH}set_at": ("kind", "origin", "header_names", "public_half", "set_by"),
        f"{_WITH}refused": ("refused_at",),
        f"{_WITH}set_at, or is the same secret under another key": ("sealed",),
        "only secrets of clients are bound to an issuer": ("issuer",),
        "rows are counted": ("id",),
    },
    SignIn: {
        _SIGNING_IN: ("server", "resource", "scopes", "missing_scopes", "step_ups", "renewable"),
        f"{_WITH}the generation": ("sealed", "renewed_at"),
        "it is about renewing": ("renew_at", "not_before", "failures", "lease", "lease_until"),
        _WORDS: ("person", "ended_because", "account_id", "account_before"),
        f"{_WITH}signed_in_at": ("account",),
    },
    Registration: {
        _SIGNING_IN: ("connection", "issuer", "redirect_uri", "sealed_secret", "auth_method", "secret_expires_at"),
        _WORDS: ("made_at", "retired_at", "retired_because"),
    },
    Membership: {_HOUSE: ("unmailed", "created_at")},
    User: {
        _ACCOUNT: (
            "password", "last_login", "is_superuser", "username", "first_name", "last_name", "email", "is_staff",
            "date_joined", "is_reviewer", "password_changed_at", "address_proved", "sessions_ended", "groups",
            "user_permissions",
        ),
    },
    Consent: {_NEVER: ("owner", "person", "given_at")},
}  # fmt: skip


def column(alias: str, model: type[Model], name: str) -> str:
    """Return a field as SQL names it."""
    field: Field[Any, Any] = model._meta.get_field(name)  # type: ignore[assignment] # noqa: SLF001 - Django's documented name
    return f'{alias}."{field.column}"'


def table(model: type[Model], alias: str) -> str:
    """Return a table as the FROM of a statement names it."""
    return f'"{model._meta.db_table}" AS {alias}'  # noqa: SLF001 - Django's documented name


_JOINED: Final = frozenset({"id", "assignment", "tenant", "connection"})  # by which the rows are found


def _text(alias: str, model: type[Model], *, but: frozenset[str] = frozenset()) -> str:
    names = [name for name in CHECKED[model] if name not in but]
    moments = {field.name for field in model._meta.concrete_fields if isinstance(field, DateTimeField)}  # noqa: SLF001 - Django's documented name
    return " || ',' || ".join(_as_text(column(alias, model, name), is_moment=name in moments) for name in names)


def _as_text(value: str, *, is_moment: bool = False) -> str:
    """Return a value as the same text in every session: PostgreSQL writes moments in the time zone of the session."""
    if is_moment and connection.vendor == "postgresql":
        value = f"EXTRACT(EPOCH FROM {value})"
    return f"COALESCE(CAST({value} AS text), '-')"


def _one(what: str, found: str) -> str:
    return f"COALESCE((SELECT {what} FROM {found}), '-')"  # noqa: S608 - the names are ours


def _person(who: str) -> str:
    found = f"{table(Membership, 'm')} JOIN {table(User, 'p')} ON p.id = m.user_id"
    return _one(
        f"{_text('m', Membership)} || {_text('p', User)}", f"{found} WHERE m.tenant_id = o.id AND m.user_id = {who}"
    )


def _rows(newest: str, found: str) -> str:
    """How many rows there are and which is the newest: another one, one less and one in another's place are seen."""
    return f"(SELECT CAST(count(*) AS text) || ',' || {newest} FROM {found})"  # noqa: S608 - the names are ours


_SIGN_IN: Final = _one(
    f"{_text('s', SignIn)} || ',' || {_text('r', Registration)}",
    f"{table(SignIn, 's')} JOIN {table(Registration, 'r')} ON r.id = s.registration_id WHERE s.connection_id = c.id "
    "AND COALESCE(s.owner_id, 0) = CASE WHEN c.sharing = 'personal' THEN COALESCE(a.owner_id, 0) ELSE 0 END",
)
_CONSENTS: Final = _rows(_as_text("max(n.id)"), f"{table(Consent, 'n')} WHERE n.assignment_id = a.id")
_OWNER: Final = f"{_person('a.owner_id')} || ',' || {_person('t.created_by_id')} || ',' || {_CONSENTS}"
# What the assignment's owner has entered: whether the server refuses it; that it is another one is seen by the secrets.
_ENTERED: Final = _one(
    _as_text("max(k.refused)"), f"{table(Credential, 'k')} WHERE k.connection_id = c.id AND k.owner_id = a.owner_id"
)
_SECRETS: Final = _rows(
    _as_text("max(k.set_at)", is_moment=True), f"{table(Credential, 'k')} WHERE k.connection_id = c.id"
)
_GRANT: Final = f"{table(GRANT, 'g')} WHERE g.assignment_id = a.id AND g.tool_id = u.id"
GRANTED: Final = f"EXISTS (SELECT 1 FROM {_GRANT})"  # noqa: S608 - the names are ours

# The rows that an offer is made of, by the names that they have in statements.
MADE_OF: Final = {"t": AccessToken, "a": Assignment, "o": Tenant, "c": Connection, "u": Tool}
_ROWS: Final = [
    *(_text(alias, model, but=_JOINED) for alias, model in MADE_OF.items()),
    _SECRETS,
    f"CASE WHEN a.scope = 'chosen' AND {GRANTED} THEN 'chosen' ELSE '-' END",
]
_OF_SIGN_INS: Final = [
    f"CASE WHEN c.authorization = 'oauth' THEN {_SIGN_IN} ELSE '-' END",
    f"CASE WHEN c.sharing = 'personal' THEN {_OWNER} || ',' || {_ENTERED} ELSE '-' END",
]
VERSION: Final = " || ';' || ".join([*_ROWS, *_OF_SIGN_INS]).replace("c.authorization", 'c."authorization"')
# The same for the many connections that nobody signs in to: PostgreSQL prepares each time for all tables that a
# statement names, whether it looks into them or not, and that costs more than the rest.
_WITHOUT: Final = ";-;-"
_VERSION_WITHOUT: Final = " || ';' || ".join(_ROWS) + f" || '{_WITHOUT}'"


def has_sign_in(version: str) -> bool:
    """Tell whether a version depends on a sign-in."""
    return not version.endswith(_WITHOUT)


def still_so(given: Callable[[str], str], *, sign_ins: bool = True) -> str:
    """Return the condition on which a call is opened, where `given` names the values of its row and of its offer.

    Besides an unchanged version these are a token that has not run out, and what stops all calls whatever is offered.
    Only keys are in the WHERE, so that no plan can find the rows by anything else. Without `sign_ins` it is for offers
    that depend on none.
    """
    made_of = ", ".join(table(model, alias) for alias, model in MADE_OF.items())
    return f"""
        {given("version")} = (
            SELECT CASE WHEN
                t.assignment_id = a.id AND a.tenant_id = o.id AND c.tenant_id = o.id AND u.connection_id = c.id
                AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > {given("created_at")})
                AND a.enabled AND o.suspended_at IS NULL
            THEN {VERSION if sign_ins else _VERSION_WITHOUT} END
            FROM {made_of}
            WHERE t.id = {given("token_id")} AND a.id = {given("assignment_id")} AND o.id = {given("tenant_id")}
                AND c.id = {given("connection_id")} AND u.id = {given("tool_id")}
        )"""  # noqa: S608 - the names are ours
