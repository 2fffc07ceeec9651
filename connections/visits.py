"""Staff act in an organization: for a reason that its admins read, seen on every page, and over after an hour.

Superusers look at everything. To change what is an organization's own they begin a visit, which lies in one browser's
session: `begin`, `take_up` (on each request), `stop`. What nobody stops is ended by `end_over`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.apps import apps
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from connections import audit
from connections.models import StaffVisit, Tenant, User

LASTS: Final = timedelta(hours=1)
LONGEST_REASON: Final = 300  # characters
VISIT: Final = "staff_visit"  # in the session: the visit of this browser


def begin(request: HttpRequest, user: User, tenant: Tenant, reason: str) -> StaffVisit:
    """Have a superuser act in this organization from now on, in this browser; another visit of it ends."""
    with transaction.atomic():
        stop(request, user)
        visit = StaffVisit.objects.create(user=user, tenant=tenant, reason=reason, ends_at=timezone.now() + LASTS)
        user.staff_visit = visit
        until = f"{visit.ends_at:%Y-%m-%d %H:%M} UTC"
        audit.record(user, "tenant.staff_began_to_act", tenant, tenant=tenant, reason=reason, until=until)
    request.session[VISIT] = str(visit.pk)
    return visit


def take_up(request: HttpRequest, user: User) -> None:
    """Let a superuser go on with the visit of this browser, as long as it lasts; read once a request."""
    named = getattr(request, "session", {}).get(VISIT)
    if not named or user.staff_visit is not None:
        return
    visits = StaffVisit.objects.select_related("tenant")
    user.staff_visit = visits.filter(pk=UUID(named), user=user, ends_at__gt=timezone.now()).first()
    if user.staff_visit is None:
        del request.session[VISIT]  # it is over


def stop(request: HttpRequest, user: User) -> None:
    """End the visit of this browser, if there is one."""
    user.staff_visit = None
    named = request.session.pop(VISIT, None)
    for visit in StaffVisit.objects.filter(pk=UUID(named), user=user).select_related("tenant", "user") if named else ():
        _end(visit, "they stopped")


def end_over(now: datetime) -> None:
    """End the visits whose hour is over."""
    for visit in StaffVisit.objects.filter(ends_at__lte=now).select_related("tenant", "user"):
        _end(visit, "after an hour")


def _end(visit: StaffVisit, why: str) -> None:
    with transaction.atomic():
        gone, _ = StaffVisit.objects.filter(pk=visit.pk).delete()
        if gone:  # else somebody was quicker
            # Tokens belong to the app `tools`, which may not be imported here; they are reached by name.
            issued = apps.get_model("tools", "AccessToken").objects.filter(
                created_by=visit.user, assignment__tenant=visit.tenant, created_at__gte=visit.began_at, revoked_at=None
            )
            issued.update(revoked_at=timezone.now())
            audit.record(
                visit.user, "tenant.staff_stopped_acting", visit.tenant, tenant=visit.tenant, why=why, by_staff=True
            )
