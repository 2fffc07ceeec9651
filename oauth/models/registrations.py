"""What a server was found to say about signing in, and who we are at its authorization server."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Connection, Credential
from oauth.protocol.choices import ClientKind


class DiscoveryQuerySet(models.QuerySet["Discovery"]):
    """Sets of discoveries."""

    def of(self, connection: Connection) -> DiscoveryQuerySet:
        """Return the latest of this connection, if it was made with the settings that the connection has now."""
        return self.filter(
            connection=connection,
            server_url=connection.server_url,
            authorization_server=connection.oauth_authorization_server,
            assumed_pkce=connection.oauth_assume_pkce,
        )


class Discovery(models.Model):
    """What a connection's server was found to say about signing in; the latest discovery replaces the previous one."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="discovery", primary_key=True)
    server_url = models.CharField(max_length=2048)
    authorization_server = models.CharField(max_length=2048, blank=True, default="", db_default="")
    assumed_pkce = models.BooleanField(default=False, db_default=False)
    looked_at = models.DateTimeField(default=timezone.now)
    steps = models.JSONField(default=list)
    found = models.JSONField(default=dict)
    rung = models.CharField(max_length=20, blank=True)  # the ClientKind that was chosen, "" for none
    reason = models.CharField(max_length=60, blank=True)
    sentence = models.CharField(max_length=500)

    objects = DiscoveryQuerySet.as_manager()

    def __str__(self) -> str:
        return f"sign-in of {self.connection}"

    @property
    def listing_proves_a_token(self) -> bool:
        """Whether the server asks for a token before it lists its tools, and not only on a call."""
        return bool(self.found.get("challenged"))


class Registration(models.Model):
    """Who we are at one authorization server; a retired one stays as history and for the tokens it got."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="registrations")
    issuer = models.CharField(max_length=2048)
    redirect_uri = models.CharField(max_length=2048)
    kind = models.CharField(max_length=15, choices=ClientKind)
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
        """What the seal is bound to: a secret sealed for one issuer does not open for another."""
        return f"{self.connection.tenant_id}/registration/{self.id}/{self.issuer}"

    def keep_secret(self, secret: str) -> None:
        """Seal a client secret that the authorization server issued; the caller saves the row."""
        self.sealed_secret = sealing.seal(secret, context=self.seal_context) if secret else ""

    def secret(self) -> str:
        """Return the client secret, empty for a client without; raises SealBroken and SecretOfAnotherServer.

        A pre-registered client's secret is the one in Advanced settings now: it can be renewed there.
        """
        if self.kind == ClientKind.PREREGISTERED:
            return self.entered_secret(Credential.Kind.OAUTH_CLIENT_SECRET)
        return str(sealing.unseal(self.sealed_secret, context=self.seal_context)) if self.sealed_secret else ""

    def entered_secret(self, kind: str) -> str:
        """Return the secret or key that an admin entered for this issuer's client, empty without; raises as `secret`.

        A secret that was not used yet is bound to this issuer from now on, if it is the one that the last discovery
        found.
        """
        credential = self.connection.stored(kind)
        if credential is None:
            return ""
        if not credential.issuer and credential.fits and self.issuer == _issuer_found(self.connection):
            credential.bind(self.issuer)
        return str(credential.open(issuer=self.issuer))

    def retire(self, because: str) -> None:
        """Take it out of use; `because` is a code such as "client_forgotten"."""
        self.retired_at, self.retired_because = timezone.now(), because
        self.save(update_fields=["retired_at", "retired_because"])


def _issuer_found(connection: Connection) -> str:
    """Return the issuer that the last discovery of the connection's server found, "" for none."""
    found = Discovery.objects.of(connection).first()
    return str((found.found.get("server") or {}).get("issuer") or "") if found else ""
