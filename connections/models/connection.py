"""A connection: where the server is, how we are let in, and the three states."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import egress, names
from connections.egress import sealed
from connections.errors import SecretOfAnotherServer
from connections.models.credential import Credential, SecretKind
from connections.models.people import Tenant, User
from connections.states import (
    NOT_REACHED,
    CredentialState,
    Headline,
    ReachabilityState,
    ToolsState,
    headline,
    in_order,
    next_step,
)
from connections.telling import tell

logger = logging.getLogger(__name__)


class Authorization(models.TextChoices):
    """How a connection proves to its server that it may call."""

    NONE = "none", "None"
    API_KEY = "api_key", "API key"
    HEADERS = "headers", "Custom headers"
    OAUTH = "oauth", "OAuth"


class Sharing(models.TextChoices):
    """Whose sign-in, key or headers an assignment's calls are made with."""

    SHARED = "shared", "The organization's: one for all assignments"
    PERSONAL = "personal", "Each member's own: an assignment uses its owner's"


class Grant(models.TextChoices):
    """How tokens are got: by a person's consent, or for the client itself (RFC 6749, sections 4.1 and 4.4)."""

    AUTHORIZATION_CODE = "authorization_code", "A person signs in"
    CLIENT_CREDENTIALS = "client_credentials", "Client credentials: nobody signs in"


class TokenAuth(models.TextChoices):
    """How we prove at the token endpoint who we are (RFC 7591, section 2; RFC 7523)."""

    AUTOMATIC = "", "Choose by what the server supports"
    NONE = "none", "none (public client)"
    BASIC = "client_secret_basic", "client_secret_basic"
    POST = "client_secret_post", "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt", "private_key_jwt"


class Era(models.TextChoices):
    """Which protocol era to speak: modern is MCP 2026-07-28 and later, legacy 2025-11-25 and earlier."""

    AUTO = "auto", "Detect automatically"
    MODERN = "modern", "Modern (2026-07-28 and later)"
    LEGACY = "legacy", "Legacy (2025-11-25 and earlier)"


METHOD_OF = {  # which secrets belong to which method; the others go with any
    SecretKind.API_KEY: Authorization.API_KEY,
    SecretKind.HEADERS: Authorization.HEADERS,
    SecretKind.OAUTH_CLIENT_SECRET: Authorization.OAUTH,
    SecretKind.OAUTH_SIGNING_KEY: Authorization.OAUTH,
}

ENTERED: dict[str, SecretKind] = {  # what is entered instead of signing in
    Authorization.API_KEY: SecretKind.API_KEY,
    Authorization.HEADERS: SecretKind.HEADERS,
}
PERSONAL = Q(sharing=Sharing.PERSONAL, authorization__in=[Authorization.OAUTH, *ENTERED])


class SessionCalls(models.TextChoices):
    """How the calls of one session run, at servers that keep sessions."""

    SIDE_BY_SIDE = "side_by_side", "Side by side"
    ONE_AT_A_TIME = "one_at_a_time", "One at a time"


OVERDUE = timedelta(minutes=2)  # a running worker starts a check within seconds, after an outage within a minute or so
SLUG_LENGTH = names.PREFIX_LENGTH


class ConnectionQuerySet(models.QuerySet["Connection"]):
    """Sets of connections."""

    def in_use(self) -> ConnectionQuerySet:
        """Return the enabled ones, without those of suspended organizations."""
        # No join: PostgreSQL does not check a joined condition of an UPDATE again on a row that was changed meanwhile.
        return self.filter(enabled=True).exclude(tenant__in=Tenant.objects.filter(suspended_at__isnull=False))

    def due(self, now: datetime) -> ConnectionQuerySet:
        """Return the connections in use whose next probe is due, the longest waiting first."""
        return self.in_use().filter(next_probe_at__lte=now).order_by("next_probe_at")

    def overdue(self, now: datetime) -> ConnectionQuerySet:
        """Return those in use whose next probe should have begun a while ago, so that their states may be old."""
        return self.due(now - OVERDUE)

    def free_slug(self, name: str) -> str:
        """Return a short name for another of these connections, from which its tools' names are made."""
        taken = set(self.values_list("slug", flat=True))
        base = names.prefix_of(name)
        slug, number = base, 2
        while slug in taken:
            ending = f"-{number}"
            slug, number = f"{base[: SLUG_LENGTH - len(ending)].rstrip('-')}{ending}", number + 1
        return slug


class Connection(models.Model):
    """A named link to one MCP server: URL, authorization method, settings and three states.

    The states are independent: a 401 means the server *is* reachable, and a failed listing deletes no tool.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="connections", verbose_name="organization"
    )
    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=SLUG_LENGTH, editable=False)
    server_url = models.CharField("server URL", max_length=2048)
    authorization = models.CharField(
        "authorization method", max_length=10, choices=Authorization, default=Authorization.NONE
    )
    api_key_header = models.CharField("API key header", max_length=80, blank=True)
    enabled = models.BooleanField(default=True)

    # Advanced settings; all times in seconds.
    connect_timeout = models.PositiveSmallIntegerField(default=10)
    idle_timeout = models.PositiveSmallIntegerField(default=60)
    call_timeout = models.PositiveSmallIntegerField(default=300)
    max_concurrency = models.PositiveSmallIntegerField("concurrent calls", default=50)
    max_rate = models.PositiveIntegerField("calls per minute", null=True, blank=True)
    max_answer = models.PositiveIntegerField("largest answer", default=2_000_000, db_default=2_000_000)  # bytes
    session_calls = models.CharField(
        "calls of one session",
        max_length=13,
        choices=SessionCalls,
        default=SessionCalls.SIDE_BY_SIDE,
        db_default=SessionCalls.SIDE_BY_SIDE,
    )
    session_idle_minutes = models.PositiveSmallIntegerField("session idle time", default=30, db_default=30)
    send_trace = models.BooleanField("send the trace context", default=False)
    era_choice = models.CharField("protocol era", max_length=6, choices=Era, default=Era.AUTO)

    # OAuth; left alone, everything is found out from the server.
    sharing = models.CharField("whose credential", max_length=10, choices=Sharing, default=Sharing.SHARED)
    oauth_grant = models.CharField("grant", max_length=20, choices=Grant, default=Grant.AUTHORIZATION_CODE)
    oauth_client_id = models.CharField("client ID", max_length=500, blank=True)
    oauth_token_auth = models.CharField(
        "client authentication", max_length=25, choices=TokenAuth, default=TokenAuth.AUTOMATIC, blank=True
    )
    oauth_scopes = models.CharField("scopes", max_length=2000, blank=True)
    oauth_resource = models.CharField("resource", max_length=2048, blank=True)
    oauth_omit_resource = models.BooleanField("send no resource", default=False)
    # What an admin knows better than the standards: an issuer or metadata document to trust, PKCE that is not said.
    oauth_authorization_server = models.CharField(
        "authorization server", max_length=2048, blank=True, default="", db_default=""
    )
    oauth_assume_pkce = models.BooleanField("PKCE is supported though not announced", default=False, db_default=False)

    # What the last successful probe learned of the server.
    era = models.CharField("era in use", max_length=6, blank=True, editable=False)
    protocol_version = models.CharField(max_length=20, blank=True, editable=False)
    server_name = models.CharField(max_length=200, blank=True, editable=False)
    server_version = models.CharField(max_length=100, blank=True, editable=False)

    credential_state = models.CharField(
        max_length=20, choices=CredentialState.choices, default=CredentialState.NOT_NEEDED, editable=False
    )
    credential_reason = models.CharField(max_length=60, blank=True, editable=False)
    credential_sentence = models.CharField(max_length=300, blank=True, editable=False)
    credential_since = models.DateTimeField(default=timezone.now, editable=False)
    reachability_state = models.CharField(
        max_length=25, choices=ReachabilityState.choices, default=ReachabilityState.UNKNOWN, editable=False
    )
    reachability_reason = models.CharField(max_length=60, blank=True, editable=False)
    reachability_sentence = models.CharField(max_length=300, blank=True, editable=False)
    reachability_since = models.DateTimeField(default=timezone.now, editable=False)
    tools_state = models.CharField(
        max_length=20, choices=ToolsState.choices, default=ToolsState.NEVER_LISTED, editable=False
    )
    tools_reason = models.CharField(max_length=60, blank=True, editable=False)
    tools_sentence = models.CharField(max_length=300, blank=True, editable=False)
    tools_since = models.DateTimeField(default=timezone.now, editable=False)

    next_probe_at = models.DateTimeField(default=timezone.now, editable=False)
    probe_lease_until = models.DateTimeField(null=True, editable=False)
    probe_failures = models.PositiveIntegerField(default=0, editable=False)
    first_listed_at = models.DateTimeField(null=True, editable=False)
    probed_at = models.DateTimeField("last checked", null=True, editable=False)
    revision = models.PositiveIntegerField(default=1, editable=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [models.Index(fields=["enabled", "next_probe_at"], name="connection_due")]
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="a_connection_name_is_unique_in_its_tenant"),
            models.UniqueConstraint(fields=["tenant", "slug"], name="a_connection_slug_is_unique_in_its_tenant"),
            models.CheckConstraint(
                condition=Q(authorization__in=Authorization.values), name="a_connection_has_a_known_authorization"
            ),
            models.CheckConstraint(condition=Q(sharing__in=Sharing.values), name="a_connection_has_a_known_sharing"),
            models.CheckConstraint(condition=Q(oauth_grant__in=Grant.values), name="a_connection_has_a_known_grant"),
            models.CheckConstraint(
                condition=Q(credential_state__in=CredentialState.values),
                name="a_connection_has_a_known_credential_state",
            ),
            models.CheckConstraint(
                condition=Q(reachability_state__in=ReachabilityState.values),
                name="a_connection_has_a_known_reachability_state",
            ),
            models.CheckConstraint(
                condition=Q(tools_state__in=ToolsState.values), name="a_connection_has_a_known_tools_state"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def headline(self) -> Headline:
        """One word for lists, derived from the three states."""
        return headline(
            enabled=self.enabled,
            credential=self.credential_state,
            reachability=self.reachability_state,
            tools=self.tools_state,
        )

    @property
    def bare_url(self) -> str:
        """Return scheme, host and path of the server's address, without what may be a credential in it."""
        return egress.bare(self.server_url)

    @property
    def is_open(self) -> bool:
        """Whether nothing that we send says who we are: no authorization method, and no secret in the address."""
        return self.authorization == Authorization.NONE and not sealed.has_place(self.server_url)

    @property
    def is_personal(self) -> bool:
        """Whether calls are made with the sign-in, key or headers of their assignment's owner."""
        return self.sharing == Sharing.PERSONAL and self.authorization in (Authorization.OAUTH, *ENTERED)

    @property
    def own_kind(self) -> SecretKind | None:
        """The kind of secret that each member enters for themselves, None where it is shared or nobody enters one."""
        return ENTERED.get(self.authorization) if self.sharing == Sharing.PERSONAL else None

    @property
    def next_step(self) -> str:
        """What a person should do now, as a sentence; empty when there is nothing to do."""
        return next_step(
            *in_order(
                credential=self.credential_reason,
                reachability=self.reachability_reason,
                tools=self.tools_reason,
                state=self.reachability_state,
            )
        )

    @property
    def is_not_reached(self) -> bool:
        """Whether there is no use in signing in before something else is mended."""
        return self.reachability_state in NOT_REACHED

    def credential_as_stored(self) -> tuple[CredentialState, str, str]:
        """Return the credential state, with reason and sentence, before the server has been asked."""
        method = Authorization(self.authorization)
        if self.is_open:
            return CredentialState.NOT_NEEDED, "", ""
        if method == Authorization.OAUTH:
            return CredentialState.NEEDS_SIGN_IN, "sign_in_needed", "Nobody is signed in."
        of_method = (kind for kind, its_method in METHOD_OF.items() if its_method == method)
        kind = next(of_method, SecretKind.ADDRESS_SECRET)
        if (stored := self.credentials.filter(kind=kind, owner=None).first()) is not None and stored.fits:
            return CredentialState.READY, "", ""
        return CredentialState.MISSING, "credential_missing", f"{kind.label}: nothing is stored yet."

    def set_credential_state(self, state: CredentialState, reason: str = "", sentence: str = "") -> None:
        """Record the credential state; `since` moves only when the state does."""
        self._set_state("credential", state, reason, sentence)

    def set_reachability(self, state: ReachabilityState, reason: str = "", sentence: str = "") -> None:
        """Record whether the server can be reached."""
        self._set_state("reachability", state, reason, sentence)

    def set_tools_state(self, state: ToolsState, reason: str = "", sentence: str = "") -> None:
        """Record how the tools we know compare with the server's listing."""
        self._set_state("tools", state, reason, sentence)

    def says(self, which: str, state: str, reason: str = "", sentence: str = "") -> bool:
        """Whether the row in hand has this state, for this reason and with this sentence, so that nothing is to do."""
        now = (getattr(self, f"{which}_state"), getattr(self, f"{which}_reason"), getattr(self, f"{which}_sentence"))
        return now == (state, reason[:60], sentence[:300])

    def _set_state(self, which: str, state: str, reason: str, sentence: str) -> None:
        now = timezone.now()
        changed: dict[str, Any] = {
            f"{which}_state": state,
            f"{which}_reason": reason[:60],
            f"{which}_sentence": sentence[:300],
        }
        was, since = getattr(self, f"{which}_state"), getattr(self, f"{which}_since")
        if was != state:
            changed[f"{which}_since"] = now
        if self.record(**changed) and was != state:
            self.state_moves.note(which, was, state, reason[:60], sentence[:300], since)
            tell(
                logger, "A connection's state has moved.", connection=self.pk, tenant=self.tenant_id, of=which,
                was=str(was), state=str(state), code=reason[:60],
            )  # fmt: skip

    def record(self, **found: Any) -> bool:
        """Store what was found out about the server; False if the connection's settings were changed meanwhile.

        That change has reset what was known, and has requested a check of its own.
        """
        for name, value in found.items():
            setattr(self, name, value)
        same = Connection.objects.filter(pk=self.pk, revision=self.revision)
        return bool(same.update(**found, updated_at=timezone.now()))

    def set_enabled(self, enabled: bool) -> bool:
        """Enable or disable the connection; False if it was so already. No other change is undone by it."""
        other = Connection.objects.filter(pk=self.pk, enabled=not enabled)
        changed = other.update(enabled=enabled, revision=F("revision") + 1, updated_at=timezone.now())
        now = Connection.objects.filter(pk=self.pk).values_list("enabled", "revision").first()
        self.enabled, self.revision = now or (enabled, self.revision)
        return bool(changed)

    def request_probe(self) -> None:
        """Make the next probe due now."""
        self.next_probe_at = timezone.now()
        Connection.objects.filter(pk=self.pk).update(next_probe_at=self.next_probe_at)

    def stored(self, kind: str) -> Credential | None:
        """Return the row of the organization's secret of this kind, if there is one."""
        return next((row for row in self.credentials.all() if row.kind == kind and row.owner_id is None), None)

    def secret(self, kind: str) -> Any:
        """Return the opened secret of this kind, or None; raises SealBroken and SecretOfAnotherServer."""
        credential = self.stored(kind)
        return credential.open() if credential else None

    def request_headers(self, own: Credential | None = None) -> list[tuple[str, str]]:
        """Return the headers that every request to the server carries, secrets included; raises as `bare_headers`.

        `own` is what the member has entered for whom a personal connection is asked (see `connections.personal`).
        """
        headers, kind = self.bare_headers(), ENTERED.get(self.authorization)
        if kind is None:
            return list(headers.items())
        entered = self.secret(kind) if self.own_kind is None else own and own.open()
        if kind == SecretKind.HEADERS:
            headers |= entered or {}
        elif entered:
            headers |= {self.api_key_header: entered} if self.api_key_header else {"Authorization": f"Bearer {entered}"}
        return list(headers.items())

    def bare_headers(self) -> dict[str, str]:
        """Return the headers of a request that does not say who we are: those that go with any authorization method.

        One of them may be what goes into the address (see `egress.sealed`). Raises SealBroken, and
        SecretOfAnotherServer for a secret that was entered for another server: what this row and the secret's row say
        is compared here, whenever they were read.
        """
        headers: dict[str, str] = self.secret(SecretKind.EXTRA_HEADERS) or {}
        if sealed.has_place(self.server_url):
            if (in_address := self.secret(SecretKind.ADDRESS_SECRET)) is None:
                raise SecretOfAnotherServer
            headers |= {sealed.PLACE: in_address}
        return headers
