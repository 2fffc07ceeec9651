"""The secrets of connections."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing, signing_keys
from connections.models.connection import Connection, SecretKind
from connections.models.people import User


class Credential(models.Model):
    """One secret of one connection, sealed, with who set it when; shared by the tenant or personal to its owner."""

    Kind = SecretKind

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="credentials")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=25, choices=SecretKind)
    sealed = models.TextField()
    header_names = models.JSONField(default=list)
    public_half = models.JSONField(default=dict)  # of a signing key, as it is published (JWK): no secret
    set_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    set_at = models.DateTimeField(default=timezone.now)

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
        """What the seal is bound to: a ciphertext copied to another tenant or row does not open."""
        return f"{self.connection.tenant_id}/credential/{self.id}"

    def set(self, value: Any, *, by: User | None) -> None:
        """Seal a new value (JSON: a string, or an object of headers) and save the row; raises signing_keys.BadKey."""
        self.sealed = sealing.seal(value, context=self.seal_context)
        self.header_names = sorted(value) if isinstance(value, dict) else []
        self.public_half = signing_keys.public_half(value) if self.kind == SecretKind.OAUTH_SIGNING_KEY else {}
        self.set_by, self.set_at = by, timezone.now()
        self.save()

    def open(self) -> Any:
        """Return the value; raises SealBroken."""
        return sealing.unseal(self.sealed, context=self.seal_context)
