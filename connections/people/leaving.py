"""The story of a member who is removed: what ends with the membership, and that an organization keeps an admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef
from django.utils import timezone

from connections import deleting
from connections.forms.tenants import LAST_ADMIN
from connections.models import Membership, Role, SavedFilter, Tenant
from connections.people import company


@dataclass(frozen=True, slots=True)
class Belongings:
    """What of a member ends with the membership, or stands still after it."""

    tokens: int
    sign_ins: int
    assignments: int  # which they own


def belongings(membership: Membership) -> Belongings:
    """Return what there is of a member in the organization."""
    # These belong to higher rooms, which may not be imported here; they are reached by name.
    tokens = apps.get_model("tools", "AccessToken").objects.live(timezone.now())
    sign_ins = apps.get_model("oauth", "SignIn").objects
    assignments = apps.get_model("tools", "Assignment").objects
    tenant, user = membership.tenant_id, membership.user_id
    return Belongings(
        tokens=tokens.filter(membership=membership).count(),
        sign_ins=sign_ins.filter(connection__tenant=tenant, owner=user, ended_at=None).count(),
        assignments=assignments.filter(tenant=tenant, owner=user).count(),
    )


def without_admin(users: list[int]) -> list[Tenant]:
    """Return the organizations that would have no admin without these people."""
    admins = Membership.objects.filter(role=Role.ADMIN)
    others = admins.filter(tenant=OuterRef("pk"), user__is_active=True).exclude(user__in=users)
    return list(Tenant.objects.filter(~Exists(others), pk__in=admins.filter(user__in=users).values("tenant")))


def remove(membership: Membership) -> None:
    """Remove a member, inside a transaction; raises ValidationError for the last admin.

    Their tokens go with the row; their personal sign-ins work no longer from now on, and are revoked at the providers
    within seconds; every browser of theirs has to sign in again.
    """
    if membership.is_last_admin():
        raise ValidationError(LAST_ADMIN, code="last_admin")
    person = membership.user
    company.block(membership)
    SavedFilter.objects.filter(user=person, tenant=membership.tenant_id).delete()
    deleting.delete(membership)
    person.end_sessions()
