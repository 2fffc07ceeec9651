"""How a connection gets, renews and loses its tokens.

Connection ──┬── Discovery              what its server says about signing in, and how it was found out
             ├── Registration           who we are at one authorization server, with history
             ├── PendingAuthorization   a sign-in under way: one browser, ten minutes, used once
             ├── SignIn                 the tokens: one row for the organization, or one per member
             └── Notice                 what people were told of a sign-in that ends or has ended
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Authorization, Connection, Credential, Grant, Sharing, User

PENDING_FOR = timedelta(minutes=10)


def digest(value: str) -> str:
    """Return the SHA-256 of a random value in hex: what is kept of states and sessions."""
    return sha256(value.encode()).hexdigest()


class Discovery(models.Model):
    """What a connection's server was found to say about signing in; the latest look replaces the one before."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="discovery", primary_key=True)
    server_url = models.CharField(max_length=2048)
    looked_at = models.DateTimeField(default=timezone.now)
    steps = models.JSONField(default=list)
    found = models.JSONField(default=dict)
    rung = models.CharField(max_length=20, blank=True)
    reason = models.CharField(max_length=60, blank=True)
    sentence = models.CharField(max_length=500)

    def __str__(self) -> str:
        return f"sign-in of {self.connection}"

    @property
    def listing_proves_a_token(self) -> bool:
        """Whether the server asks for a token before it lists its tools, and not only on a call."""
        return bool(self.found.get("challenged"))


class Kind(models.TextChoices):
    """How we came to a client ID, in the order of preference."""

    PREREGISTERED = "preregistered", "Client ID from Advanced settings"
    CIMD = "cimd", "Client ID metadata document"
    DCR = "dcr", "Dynamic client registration"


class Registration(models.Model):
    """Who we are at one authorization server; a retired one stays as history and for the tokens it got."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="registrations")
    issuer = models.CharField(max_length=2048)
    redirect_uri = models.CharField(max_length=2048)
    kind = models.CharField(max_length=15, choices=Kind)
    client_id = models.CharField(max_length=2048)
    sealed_secret = models.TextField(blank=True)
    auth_method = models.CharField(max_length=25)
    secret_expires_at = models.DateTimeField(null=True)
    made_at = models.DateTimeField(default=timezone.now)
    retired_at = models.DateTimeField(null=True)
    retired_because = models.CharField(max_length=60, blank=True)

    sealed_fields = ("sealed_secret",)

    class Meta:
        ordering = ["-made_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "issuer", "redirect_uri"],
                condition=Q(retired_at=None),
                name="a_connection_has_one_registration_in_use_per_issuer_and_redirect_uri",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.issuer}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to."""
        return f"{self.connection.tenant_id}/registration/{self.id}"

    def keep_secret(self, secret: str) -> None:
        """Seal a client secret that the authorization server issued; the caller saves the row."""
        self.sealed_secret = sealing.seal(secret, context=self.seal_context) if secret else ""

    def secret(self) -> str:
        """Return the client secret, empty for a client without; raises SealBroken.

        A pre-registered client's secret is the one in Advanced settings now: it can be renewed there.
        """
        if self.kind == Kind.PREREGISTERED:
            return str(self.connection.secret(Credential.Kind.OAUTH_CLIENT_SECRET) or "")
        return str(sealing.unseal(self.sealed_secret, context=self.seal_context)) if self.sealed_secret else ""

    def retire(self, because: str) -> None:
        """Take it out of use; `because` is a code such as "client_forgotten"."""
        self.retired_at, self.retired_because = timezone.now(), because
        self.save(update_fields=["retired_at", "retired_because"])


class PendingAuthorization(models.Model):
    """A sign-in that waits for the browser to come back (RFC 6749, section 4.1; PKCE, RFC 7636)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    state_digest = models.CharField(max_length=64, unique=True)
    session_digest = models.CharField(max_length=64)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="pending_authorizations")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    registration = models.ForeignKey(Registration, on_delete=models.CASCADE, related_name="+")
    server_url = models.CharField(max_length=2048)
    server = models.JSONField()  # the authorization server's metadata as it was when the person left
    resource = models.CharField(max_length=2048, blank=True)
    scopes = models.CharField(max_length=4000, blank=True)
    sealed_verifier = models.TextField()
    again = models.BooleanField(default=False)  # the second try after the provider had forgotten our registration
    expires_at = models.DateTimeField()
    consumed_at = models.DateTimeField(null=True)

    sealed_fields = ("sealed_verifier",)

    def __str__(self) -> str:
        return f"sign-in of {self.user} to {self.connection}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to."""
        return f"{self.connection.tenant_id}/pending/{self.id}"

    def prepare(self) -> tuple[str, str]:
        """Make and keep a state and a PKCE verifier and return both; the caller saves the row."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        self.state_digest = digest(state)
        self.sealed_verifier = sealing.seal(verifier, context=self.seal_context)
        self.expires_at = timezone.now() + PENDING_FOR
        return state, verifier

    def consume(self, now: datetime) -> bool:
        """Use it up; only the first of two who try at once is told yes."""
        return bool(PendingAuthorization.objects.filter(pk=self.pk, consumed_at=None).update(consumed_at=now))

    def verifier(self) -> str:
        """Return the PKCE verifier; raises SealBroken."""
        return str(sealing.unseal(self.sealed_verifier, context=self.seal_context))


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint granted; times in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_in: float | None = None
    scopes: str | None = None


class SignInQuerySet(models.QuerySet["SignIn"]):
    """Sets of sign-ins."""

    def of(self, connection: Connection, owner_id: int | None) -> SignIn | None:
        """Return the sign-in that a call of this owner's assignment acts through, if it is there."""
        mine = self.within(connection).filter(connection=connection).select_related("registration")
        found = mine.filter(owner_id=owner_id if connection.sharing == Sharing.PERSONAL else None).first()
        return found if found is not None and found.fits(connection) else None

    def within(self, connection: Connection) -> SignInQuerySet:
        """Return the organization's own and those of people who still belong to it."""
        return self.filter(Q(owner=None) | Q(owner__memberships__tenant=connection.tenant_id))

    def due(self, now: datetime) -> SignInQuerySet:
        """Return those that beat is to look at, the longest waiting first."""
        oauth = Q(connection__enabled=True, connection__authorization=Authorization.OAUTH)
        return self.filter(oauth, ended_at=None, renew_at__lte=now).order_by("renew_at")


class SignIn(models.Model):
    """The tokens of one connection: the organization's own, or those of one member.

    `generation` counts the tokens: who holds an old one knows by it that somebody else has renewed them.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="sign_ins")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    registration = models.ForeignKey(Registration, on_delete=models.RESTRICT, related_name="+")
    grant = models.CharField(max_length=20, choices=Grant, default=Grant.AUTHORIZATION_CODE)
    server_url = models.CharField(max_length=2048)
    server = models.JSONField()
    resource = models.CharField(max_length=2048, blank=True)
    scopes = models.CharField(max_length=4000, blank=True)
    sealed = models.TextField(blank=True)
    renewable = models.BooleanField(default=False)
    generation = models.PositiveIntegerField(default=1)
    signed_in_at = models.DateTimeField(default=timezone.now)
    obtained_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    renew_at = models.DateTimeField(null=True)  # when beat looks at it next
    not_before = models.DateTimeField(null=True)  # after a failed renewal: when to ask the provider again
    renewed_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    refused_at = models.DateTimeField(null=True)  # the MCP server answered 401 to a token that was just renewed
    missing_scopes = models.CharField(max_length=4000, blank=True)
    step_ups = models.PositiveSmallIntegerField(default=0)
    ended_at = models.DateTimeField(null=True)
    ended_because = models.CharField(max_length=60, blank=True)

    sealed_fields = ("sealed",)
    objects = SignInQuerySet.as_manager()

    class Meta:
        ordering = ["signed_in_at"]
        indexes = [models.Index(fields=["ended_at", "renew_at"], name="sign_in_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "owner"], nulls_distinct=False, name="a_connection_has_one_sign_in_per_owner"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(sealed="", renew_at=None), name="an_ended_sign_in_keeps_no_token"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person or 'nobody'} at {self.server.get('issuer', '')}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to."""
        return f"{self.connection.tenant_id}/sign-in/{self.id}"

    def fits(self, connection: Connection) -> bool:
        """Whether it was made for the server, the client and the grant that the connection has now."""
        client_id = connection.oauth_client_id
        own_client = self.registration.kind == Kind.PREREGISTERED
        return (
            connection.authorization == Authorization.OAUTH
            and self.server_url == connection.server_url
            and (self.registration.client_id == client_id if client_id else not own_client)
            and (self.owner_id is not None) == (connection.sharing == Sharing.PERSONAL)
            and self.grant == connection.oauth_grant
        )

    def tokens(self) -> Tokens:
        """Return the tokens; raises SealBroken."""
        return Tokens(**sealing.unseal(self.sealed, context=self.seal_context))

    def keep(self, tokens: Tokens, now: datetime, renew_at: datetime | None) -> dict[str, Any]:
        """Take over new tokens and return what changed, for `update`; a refresh token that is not replaced stays."""
        refresh_token = tokens.refresh_token or (self.tokens().refresh_token if self.sealed else "")
        kept = {"access_token": tokens.access_token, "refresh_token": refresh_token}
        changed: dict[str, Any] = {
            "sealed": sealing.seal(kept, context=self.seal_context),
            "renewable": bool(refresh_token) or self.grant == Grant.CLIENT_CREDENTIALS,
            "scopes": self.scopes if tokens.scopes is None else tokens.scopes[:4000],
            "obtained_at": now,
            "expires_at": None if tokens.expires_in is None else now + timedelta(seconds=tokens.expires_in),
            "renew_at": renew_at,
            "failures": 0,
            "not_before": None,
            "lease": None,
            "lease_until": None,
        }
        for name, value in changed.items():
            setattr(self, name, value)
        return changed

    def claim(self, lease: UUID, now: datetime, until: datetime) -> bool:
        """Become the one who renews this generation; no if somebody is at it or the generation has moved on."""
        free = Q(lease_until=None) | Q(lease_until__lt=now)
        mine = SignIn.objects.filter(free, pk=self.pk, generation=self.generation, ended_at=None)
        return bool(mine.update(lease=lease, lease_until=until))

    def renewed(self, tokens: Tokens, now: datetime, renew_at: datetime | None) -> bool:
        """Write the next generation down; no if somebody has written it meanwhile."""
        same = SignIn.objects.filter(pk=self.pk, generation=self.generation)
        changed = self.keep(tokens, now, renew_at)
        return bool(same.update(**changed, generation=F("generation") + 1, renewed_at=now, ended_at=None))

    def put_off(self, until: datetime) -> None:
        """Give the lease back after a renewal that failed for the moment; nobody tries again before `until`."""
        SignIn.objects.filter(pk=self.pk, generation=self.generation).update(
            failures=F("failures") + 1, renew_at=until, not_before=until, lease=None, lease_until=None
        )

    def look_again_at(self, when: datetime | None) -> None:
        """Have beat look at it next at this time."""
        SignIn.objects.filter(pk=self.pk, generation=self.generation, ended_at=None).update(renew_at=when)

    def end(self, because: str, now: datetime) -> bool:
        """Forget the tokens of this generation; no if somebody has renewed or ended them meanwhile."""
        same = SignIn.objects.filter(pk=self.pk, generation=self.generation, ended_at=None)
        return bool(
            same.update(sealed="", renew_at=None, ended_at=now, ended_because=because, lease=None, lease_until=None)
        )

    def misses(self, scopes: str) -> None:
        """Remember the scopes that the server asked for and did not find."""
        self.missing_scopes = scopes[:4000]
        self.save(update_fields=["missing_scopes"])

    def was_refused(self, now: datetime | None) -> None:
        """Remember that the MCP server refused a fresh token; None when it has accepted one again."""
        self.refused_at = now
        self.save(update_fields=["refused_at"])


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Sets of notices."""

    def open(self) -> NoticeQuerySet:
        """Return those that are still true."""
        return self.filter(resolved_at=None)

    def due(self, now: datetime) -> NoticeQuerySet:
        """Return those that are to be sent, the longest waiting first."""
        return self.open().filter(deliver_at__lte=now).order_by("deliver_at")

    def resolve(self, now: datetime) -> int:
        """Close those that are open: they are true no longer, and what was not sent yet is not sent any more."""
        return self.open().update(resolved_at=now, deliver_at=None)


class Notice(models.Model):
    """What people were told of a sign-in that will end or has ended; open until the sign-in is well again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="notices")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # of a personal sign-in
    reason = models.CharField(max_length=60)
    sentence = models.CharField(max_length=300)
    until = models.DateTimeField("ends", null=True)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True)
    deliver_at = models.DateTimeField(null=True)  # when it is to be sent; None when nothing is left to send
    attempts = models.PositiveSmallIntegerField(default=0)
    emailed_to = models.JSONField(default=list)  # keys of users
    emailed_at = models.DateTimeField("mailed", null=True)
    delivered_at = models.DateTimeField("webhook taken", null=True)
    trouble = models.CharField(max_length=300, blank=True)  # why the last try did not get through

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["deliver_at"], condition=Q(resolved_at=None), name="notice_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "reason"],
                condition=Q(resolved_at=None, owner=None),
                name="an_organization_is_told_the_same_thing_once",
            ),
            models.UniqueConstraint(
                fields=["connection", "owner", "reason"],
                condition=Q(resolved_at=None, owner__isnull=False),
                name="a_member_is_told_the_same_thing_once",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(deliver_at=None), name="a_resolved_notice_is_not_sent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} of {self.connection}"

    def claim(self, now: datetime, until: datetime) -> bool:
        """Become the one who sends it until then; no if somebody else does, or nothing is to be sent."""
        mine = Notice.objects.due(now).filter(pk=self.pk)
        if not mine.order_by().update(deliver_at=until, attempts=F("attempts") + 1):
            return False
        self.attempts += 1
        return True

    def reaches(self, person: User) -> None:
        """Remember that this person needs no more mail about it."""
        self.emailed_to = [*self.emailed_to, person.pk]
        self.save(update_fields=["emailed_to"])

    def was_tried(self, trouble: str, again_at: datetime | None) -> None:
        """Remember how the try went, and when the next one is unless it was resolved meanwhile."""
        self.trouble = trouble[:300]
        self.save(update_fields=["trouble", "emailed_at", "delivered_at"])
        Notice.objects.open().filter(pk=self.pk).update(deliver_at=again_at)
