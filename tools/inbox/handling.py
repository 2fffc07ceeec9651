"""Giving things of the inbox to people: one of the organization's admins has a thing, or nobody."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from connections import audit
from connections.models import Handling, Membership, Role, User
from tools.inbox import things
from tools.inbox.things import Thing


def who_may_have(thing: Thing) -> QuerySet[Membership]:
    """Return the admins of the thing's organization."""
    rows = Membership.objects.filter(tenant=thing.tenant, role=Role.ADMIN, user__is_active=True)
    return rows.select_related("user").order_by("user__username")


def give(thing: Thing, member: Membership | None, *, by: User) -> None:
    """Let this admin have the thing from now on; nobody, for None."""
    if member is None:
        taken = Handling.objects.filter(tenant=thing.tenant, key=thing.key).select_related("tenant").first()
        if taken is not None:
            audit.record(by, "inbox.given_back", taken, tenant=taken.tenant)
            taken.delete()
        return
    handling, _ = Handling.objects.update_or_create(
        tenant=member.tenant, key=thing.key, defaults={"member": member, "at": timezone.now()}
    )
    audit.record(by, "inbox.assigned", handling, tenant=member.tenant, to=member.user.get_username())


def forget_done() -> None:
    """Forget who has what is done: the same trouble, when it comes again, is nobody's."""
    still = things.still_there(Handling.objects.all())
    Handling.objects.exclude(key__in=still).delete()
