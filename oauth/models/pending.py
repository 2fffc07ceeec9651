"""Sign-ins under way: one browser, ten minutes, used once."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Connection, User
from oauth.models.registrations import Registration

PENDING_FOR = timedelta(minutes=10)


def digest(value: str) -> str:
    """Return the SHA-256 of a random value in hex, as states and session keys are stored."""
    return sha256(value.encode()).hexdigest()


def basis(connection: Connection) -> str:
    """Return a digest of the settings that a sign-in depends on: server, method, sharing, grant, client and trust."""
    made_for = (
        connection.server_url, connection.authorization, connection.sharing, connection.oauth_grant,
        connection.oauth_client_id, connection.oauth_authorization_server, connection.oauth_assume_pkce,
    )  # fmt: skip
    return digest("\n".join(str(value) for value in made_for))


class PendingAuthorization(models.Model):
    """A sign-in that waits for the browser to come back (RFC 6749, section 4.1; PKCE, RFC 7636)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    state_digest = models.CharField(max_length=64, unique=True)
    session_digest = models.CharField(max_length=64)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="pending_authorizations")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    registration = models.ForeignKey(Registration, on_delete=models.CASCADE, related_name="+")
    server_url = models.CharField(max_length=2048)
    basis = models.CharField(max_length=64, db_default="")  # of the connection when the browser went to the provider
    server = models.JSONField()  # the authorization server's metadata at that time
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
        """Mark it as used; of two requests at the same time, True for the first one only."""
        return bool(PendingAuthorization.objects.filter(pk=self.pk, consumed_at=None).update(consumed_at=now))

    def verifier(self) -> str:
        """Return the PKCE verifier; raises SealBroken."""
        return str(sealing.unseal(self.sealed_verifier, context=self.seal_context))
