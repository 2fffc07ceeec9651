"""Signing in with an organization's own OpenID Connect provider: which one it is, for which addresses, and who has."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections import egress, sealing
from connections.errors import SealBroken
from connections.models.people import Role, Tenant, User


class Company(models.Model):
    """An organization's provider (OpenID Connect Core 1.0), and what becomes of people who come in through it."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="company")
    issuer = models.CharField(max_length=2048)
    client_id = models.CharField("client ID", max_length=255)
    sealed_secret = models.TextField(editable=False)
    default_role = models.CharField("role of who comes in", max_length=10, choices=Role, default=Role.MEMBER)
    required = models.BooleanField("nobody comes in without it", default=False)

    sealed_fields = ("sealed_secret",)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(default_role__in=Role.values), name="who_comes_in_has_a_known_role"),
        ]

    def __str__(self) -> str:
        return f"The provider of {self.tenant}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to: the secret of one provider does not open for another."""
        return f"{self.tenant_id}/company/{egress.origin(self.issuer)}"

    def seal_secret(self, secret: str) -> None:
        """Seal the client's secret, without saving the row."""
        self.sealed_secret = sealing.seal(secret, context=self.seal_context)

    def secret(self) -> str:
        """Return the client's secret; raises SealBroken, also for one of another provider."""
        try:
            return str(sealing.unseal(self.sealed_secret, context=self.seal_context))
        except SealBroken as broken:
            raise SealBroken("The client secret was entered for another provider. Enter it again.") from broken


class MailDomain(models.Model):
    """A domain whose addresses sign in with this organization's provider; only staff say whose it is."""

    name = models.CharField(max_length=253, unique=True)
    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="domains")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class CompanyIdentity(models.Model):
    """Who somebody is at the provider; `blocked_at` is since when they were removed here and come in no more."""

    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="identities")
    subject = models.CharField(max_length=255)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    blocked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["company", "subject"], name="a_subject_of_a_provider_is_one_person"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} at {self.company_id}"
