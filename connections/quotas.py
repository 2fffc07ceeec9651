"""How much one organization may have: a number for each kind of thing, set by the platform's staff.

`take` is asked in the transaction that makes the thing, so of two who want the last one only one gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet

from connections.errors import DuvoError
from connections.models import Tenant

MEGABYTE: Final = 1_000_000  # bytes


class QuotaReached(DuvoError):
    """A quota of your organization is reached."""

    code = "quota_reached"


@dataclass(frozen=True, slots=True)
class Quota:
    """One kind of thing: the organization's field with the number, and what it is called."""

    field: str
    noun: str

    def reached(self, most: int) -> QuotaReached:
        """Return the refusal: what is wrong and what to do."""
        return QuotaReached(
            f"Your organization has reached its quota of {most:,} {self.noun}. "
            "Delete what is not needed, or ask the platform's staff for more."
        )


CONNECTIONS: Final = Quota("max_connections", "connections")
ASSIGNMENTS: Final = Quota("max_assignments", "assignments")
TOKENS: Final = Quota("max_tokens", "API tokens")


def check(quota: Quota, tenant: Tenant, used: QuerySet[Any]) -> None:
    """Raise QuotaReached when the organization may have no more; unlike `take`, nothing is locked."""
    most: int = getattr(tenant, quota.field)
    if used.count() >= most:
        raise quota.reached(most)


def take(quota: Quota, tenant_id: UUID, used: QuerySet[Any]) -> None:
    """Raise QuotaReached unless there may be one more; locks the organization, so that nobody else takes it."""
    check(quota, Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id), used)


def check_stored(tenant: Tenant) -> None:
    """Raise QuotaReached when the organization stores as much as it may, as it was last measured."""
    if tenant.stored_bytes >= tenant.max_stored * MEGABYTE:
        raise QuotaReached(
            f"Your organization has reached its quota of {tenant.max_stored:,} MB. Have calls kept for fewer days, "
            "delete connections that are not needed, or ask the platform's staff for more."
        )
