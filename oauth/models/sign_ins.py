"""The tokens of a connection, and the transitions from one generation of them to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import ACTING, Authorization, Connection, Grant, Membership, Sharing, User
from oauth.models.registrations import Registration
from oauth.protocol.choices import ClientKind

_GOES_ON = Q(ended_at=None) | Q(ended_because="sign_in_revoked")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint granted; times in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)  # says who has signed in; never kept
    expires_in: float | None = None
    scopes: str | None = None


class SignInQuerySet(models.QuerySet["SignIn"]):
    """Sets of sign-ins."""

    def of(self, connection: Connection, owner_id: int | None) -> SignIn | None:
        """Return the sign-in that calls of this owner's assignments act through, None without one."""
        mine = self.within(connection).filter(connection=connection).select_related("registration")
        found = mine.filter(owner_id=owner_id if connection.sharing == Sharing.PERSONAL else None).first()
        return found if found is not None and found.fits(connection) else None

    def within(self, connection: Connection) -> SignInQuerySet:
        """Return the organization's own, and those of active people whose role still lets them act in it."""
        here = Membership.objects.filter(
            user=OuterRef("owner"), tenant=connection.tenant_id, role__in=ACTING, user__is_active=True
        )
        return self.filter(Q(owner=None) | Exists(here))

    def abandoned(self) -> SignInQuerySet:
        """Return those of people who have left, have been deactivated or may no longer act in the organization."""
        here = Membership.objects.filter(
            user=OuterRef("owner"), tenant=OuterRef("connection__tenant"), role__in=ACTING, user__is_active=True
        )
        return self.filter(~Exists(here), owner__isnull=False, connection__tenant__suspended_at=None)

    def left_behind(self) -> SignInQuerySet:
        """Return the organizations' own by a person who has left: the account at the provider is that person's."""
        here = Membership.objects.filter(user=OuterRef("person"), tenant=OuterRef("connection__tenant"))
        stays = Q(Exists(here)) | Q(person__isnull=False, person__is_superuser=True)
        made_by_people = self.filter(owner=None, grant=Grant.AUTHORIZATION_CODE, ended_at=None)
        return made_by_people.exclude(stays, person__isnull=False, person__is_active=True)

    def due(self, now: datetime) -> SignInQuerySet:
        """Return those that beat is to renew or to warn about, the longest waiting first."""
        oauth = Q(connection__enabled=True, connection__authorization=Authorization.OAUTH)
        oauth &= Q(connection__tenant__suspended_at=None)
        kept = Q(owner=None) | Q(owner__is_active=True)
        return self.filter(oauth, kept, ended_at=None, renew_at__lte=now).order_by("renew_at")


class SignIn(models.Model):
    """The tokens of one connection: the organization's own, or those of one member.

    `generation` counts the renewals: a process that holds a lower number sees that another has renewed the tokens.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="sign_ins")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    registration = models.ForeignKey(Registration, on_delete=models.RESTRICT, related_name="+")
    grant = models.CharField(max_length=20, choices=Grant, default=Grant.AUTHORIZATION_CODE)
    server_url = models.CharField(max_length=2048)
    server = models.JSONField()
    authorization_server = models.CharField(max_length=2048, blank=True, default="", db_default="")  # as it was trusted
    assumed_pkce = models.BooleanField(default=False, db_default=False)  # it was made on the word of an admin
    resource = models.CharField(max_length=2048, blank=True)
    scopes = models.CharField(max_length=4000, blank=True)
    sealed = models.TextField(blank=True)
    renewable = models.BooleanField(default=False)
    generation = models.PositiveIntegerField(default=1)
    # Which account at the provider it is, as the provider says, and which it was before; nothing is permitted by it.
    account_id = models.CharField(max_length=200, blank=True, default="", db_default="")
    account = models.CharField(max_length=200, blank=True, default="", db_default="")
    account_before = models.CharField(max_length=200, blank=True, default="", db_default="")
    signed_in_at = models.DateTimeField(default=timezone.now)
    obtained_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    renew_at = models.DateTimeField(null=True)  # when beat renews it, or warns that it ends
    not_before = models.DateTimeField(null=True)  # after a failed renewal: when to ask the provider again
    renewed_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    refused_at = models.DateTimeField(null=True)  # the MCP server answered 401 to a token that was just renewed
    missing_scopes = models.CharField(max_length=4000, blank=True)
    step_ups = models.PositiveSmallIntegerField(default=0)
    ended_at = models.DateTimeField(null=True)
    ended_because = models.CharField(max_length=60, blank=True)  # or, before the end, why it will end next time

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
        """What the seal is bound to: tokens sealed for one server and issuer do not open for another."""
        return f"{self.connection.tenant_id}/sign-in/{self.id}/{self.server_url}/{self.server.get('issuer', '')}"

    @property
    def whose_account(self) -> dict[str, str]:
        """What audit events say of its account at the provider, where that is known."""
        return {"account": self.account} if self.account else {}

    def fits(self, connection: Connection) -> bool:
        """Whether it was made for the server, the trust, the client and the grant that the connection has now."""
        client_id = connection.oauth_client_id
        own_client = self.registration.kind == ClientKind.PREREGISTERED
        return (
            connection.authorization == Authorization.OAUTH
            and self.server_url == connection.server_url
            and self.authorization_server == connection.oauth_authorization_server
            and (connection.oauth_assume_pkce or not self.assumed_pkce)
            and (self.registration.client_id == client_id if client_id else not own_client)
            and (self.owner_id is not None) == (connection.sharing == Sharing.PERSONAL)
            and self.grant == connection.oauth_grant
        )

    def was_left_behind(self) -> bool:
        """Whether it is the organization's own, made by a person who has left."""
        return SignIn.objects.left_behind().filter(pk=self.pk).exists()

    def tokens(self) -> Tokens:
        """Return the tokens; raises SealBroken."""
        return Tokens(**sealing.unseal(self.sealed, context=self.seal_context))

    def keep(self, tokens: Tokens, now: datetime, renew_at: datetime | None) -> dict[str, Any]:
        """Set new tokens and return the changed fields for `update`; a refresh token that is not replaced stays."""
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
        """Take the lease to renew this generation; False if it is taken, or the generation is not the current one."""
        free = Q(lease_until=None) | Q(lease_until__lt=now)
        mine = SignIn.objects.filter(free, pk=self.pk, generation=self.generation, ended_at=None)
        return bool(mine.update(lease=lease, lease_until=until))

    def renewed(self, tokens: Tokens, now: datetime, renew_at: datetime | None) -> bool:
        """Store the next generation; False if somebody has stored it meanwhile, or has ended the sign-in.

        A sign-in that ended because its refresh token was refused goes on: the refused token is the one that these
        replace, sent once more by a process whose lease had run out.
        """
        same = SignIn.objects.filter(_GOES_ON, pk=self.pk, generation=self.generation)
        changed = self.keep(tokens, now, renew_at)
        changed |= {"renewed_at": now, "ended_at": None, "ended_because": ""}
        return bool(same.update(**changed, generation=F("generation") + 1))

    def postpone(self, until: datetime, *, because: str = "") -> None:
        """Release the lease after a renewal that failed for now; nobody tries again before `until`.

        `because` is why the sign-in ends if the next one fails in the same way.
        """
        same = SignIn.objects.filter(pk=self.pk, generation=self.generation)
        same.filter(ended_at=None).update(ended_because=because)
        same.update(failures=F("failures") + 1, renew_at=until, not_before=until, lease=None, lease_until=None)

    def release(self) -> None:
        """Give the lease back without having asked the provider."""
        SignIn.objects.filter(pk=self.pk, generation=self.generation).update(lease=None, lease_until=None)

    def schedule(self, when: datetime | None) -> None:
        """Set when beat handles the sign-in next."""
        SignIn.objects.filter(pk=self.pk, generation=self.generation, ended_at=None).update(renew_at=when)

    def end(self, because: str, now: datetime) -> bool:
        """End the sign-in and delete its tokens; False if somebody has renewed or ended it meanwhile."""
        same = SignIn.objects.filter(pk=self.pk, generation=self.generation, ended_at=None)
        return bool(
            same.update(sealed="", renew_at=None, ended_at=now, ended_because=because, lease=None, lease_until=None)
        )

    def record_missing_scopes(self, scopes: str) -> bool:
        """Record the scopes that the server asked for and the token lacks; False if others were recorded meanwhile."""
        same = SignIn.objects.filter(pk=self.pk, missing_scopes=self.missing_scopes)
        self.missing_scopes = scopes[:4000]
        return bool(same.update(missing_scopes=self.missing_scopes))

    def count_step_up(self) -> None:
        """Count a sign-in that did not bring the missing scopes."""
        SignIn.objects.filter(pk=self.pk).update(step_ups=F("step_ups") + 1)

    def was_refused(self, now: datetime | None) -> None:
        """Record when the MCP server refused a fresh token; None when it has accepted one again."""
        self.refused_at = now
        SignIn.objects.filter(pk=self.pk, ended_at=None).update(refused_at=now)
