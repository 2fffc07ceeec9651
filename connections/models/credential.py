"""The secrets of connections."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import egress, sealing, signing_keys
from connections.ages import ago
from connections.errors import SecretOfAnotherServer
from connections.models.people import User


class SecretKind(models.TextChoices):
    """What a stored secret is for."""

    API_KEY = "api_key", "API key"
    HEADERS = "headers", "Custom headers"
    EXTRA_HEADERS = "extra_headers", "Extra headers"
    ADDRESS_SECRET = "address_secret", "Secret in the address"
    OAUTH_CLIENT_SECRET = "oauth_client_secret", "Client secret"
    OAUTH_SIGNING_KEY = "oauth_signing_key", "Signing key"


NOT_SENT = frozenset({SecretKind.OAUTH_SIGNING_KEY})  # it only signs: no server ever gets it
OF_CLIENTS = frozenset({SecretKind.OAUTH_CLIENT_SECRET, SecretKind.OAUTH_SIGNING_KEY})


class Credential(models.Model):
    """One secret of one connection, sealed, with who set it when; shared by the tenant or personal to its owner.

    `origin` is the server that it was entered for, `issuer` the authorization server that a client's secret or key is
    used at; both are in the seal, so that neither a moved ciphertext nor a changed column opens it for another.
    """

    Kind = SecretKind

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey("Connection", on_delete=models.CASCADE, related_name="credentials")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=25, choices=SecretKind)
    origin = models.CharField(max_length=300, blank=True, db_default="")
    issuer = models.CharField(max_length=2048, blank=True, db_default="")
    sealed = models.TextField()
    header_names = models.JSONField(default=list)
    public_half = models.JSONField(default=dict)  # of a signing key, as it is published (JWK): no secret
    set_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    set_at = models.DateTimeField(default=timezone.now)
    # Of a member's own: why the server refuses it, "" while it does not; that of one member says nothing of others'.
    refused = models.CharField(max_length=60, blank=True, default="", db_default="")
    refused_at = models.DateTimeField(null=True)

    sealed_fields = ("sealed",)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "kind", "owner"],
                nulls_distinct=False,
                name="a_connection_has_one_secret_of_a_kind_per_owner",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.connection}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to: a ciphertext copied to another tenant, row, use or server does not open."""
        return f"{self.connection.tenant_id}/credential/{self.id}/{self.kind}/{self.origin}/{self.issuer}"

    @property
    def summary(self) -> str:
        """What people may read of it: its headers' names, when it was set and by whom."""
        who = f" by {self.set_by.get_username()}" if self.set_by else ""
        names = f" ({', '.join(self.header_names)})" if self.header_names else ""
        return f"Set {ago(self.set_at)}{who}{names}."

    @property
    def fits(self) -> bool:
        """Whether the connection leads to the server that it was entered for."""
        return self.kind in NOT_SENT or self.origin == egress.origin(self.connection.server_url) != ""

    def set(self, value: Any, *, by: User | None) -> None:
        """Seal a new value (JSON: a string, or an object of headers) for the connection's server and save the row.

        Raises signing_keys.BadKey.
        """
        self.origin, self.issuer = egress.origin(self.connection.server_url), ""
        self.sealed = sealing.seal(value, context=self.seal_context)
        self.header_names = sorted(value) if isinstance(value, dict) else []
        self.public_half = signing_keys.public_half(value) if self.kind == SecretKind.OAUTH_SIGNING_KEY else {}
        self.set_by, self.set_at = by, timezone.now()
        self.save()

    def open(self, *, issuer: str = "") -> Any:
        """Return the value, to be used at the connection's server, or at this `issuer` and no other.

        Raises SealBroken, and SecretOfAnotherServer for what was entered for another.
        """
        if not self.fits or (issuer and self.issuer != issuer):
            raise SecretOfAnotherServer
        return sealing.unseal(self.sealed, context=self.seal_context)

    def bind(self, issuer: str) -> None:
        """Bind a client's secret that was not used yet to this issuer; from now on it opens for no other.

        Raises SealBroken, and SecretOfAnotherServer when another issuer or secret was stored meanwhile.
        """
        bound = Credential(id=self.id, connection=self.connection, kind=self.kind, origin=self.origin, issuer=issuer)
        value = sealing.unseal(self.sealed, context=self.seal_context)
        same = Credential.objects.filter(pk=self.pk, sealed=self.sealed, issuer="")
        same.update(issuer=issuer, sealed=sealing.seal(value, context=bound.seal_context))
        now = Credential.objects.filter(pk=self.pk, issuer=issuer, origin=self.origin).first()
        if now is None:
            raise SecretOfAnotherServer
        self.issuer, self.sealed = now.issuer, now.sealed
