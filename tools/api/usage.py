"""How much the caller has called: the same numbers as on the page Activity."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from connections import moments
from connections.models import Tenant
from connections.tenancy import ADMINS_AND_AUDITORS
from tools.api.queries import KnownQuery
from tools.api.serializers import ChoiceField
from tools.api.views import principal_of, tenant_of
from tools.calls import activity
from tools.models import DailyUse

DEFAULT_DAYS = 7
MOST = 1_000  # rows of one answer


class UseSerializer(serializers.Serializer[Any]):
    """What was called of one thing."""

    name = serializers.CharField()
    id = serializers.CharField(help_text="Empty where there is none.")
    calls = serializers.IntegerField()
    failures = serializers.IntegerField(help_text="Failed, timed out, or with an unknown outcome.")
    open = serializers.IntegerField(help_text="Had not ended when they were counted.")
    average_ms = serializers.IntegerField(source="average", allow_null=True, help_text="Null: nothing has run.")
    p95_ms = serializers.IntegerField(
        source="p95", allow_null=True, help_text="95 of 100 ended within; as nearly as classes of durations tell."
    )
    bytes = serializers.IntegerField(help_text="Of arguments and results, sealed.")


class UsageSerializer(serializers.Serializer[Any]):
    """What was called in some days of the organization's time zone, counted every five minutes."""

    since = serializers.DateField()
    until = serializers.DateField()
    time_zone = serializers.CharField(help_text="The IANA name of the zone whose days these are.")
    by = ChoiceField(choices=list(activity.BY))
    total = UseSerializer()
    results = UseSerializer(many=True, help_text="By day in order of time, else what was called most first.")


class Usage(KnownQuery):
    """The use of the caller."""

    parameters = ("since", "until", "by")

    @extend_schema(
        operation_id="usage_retrieve",
        summary="How much was called",
        responses=UsageSerializer,
        parameters=[
            OpenApiParameter("since", type=date, description="The first day; six days before the last one."),
            OpenApiParameter(
                "until", type=date, description="The last day; today. The last 400 days up to it are told, at most."
            ),
            OpenApiParameter("by", enum=list(activity.BY), description="What is counted together; `day`."),
        ],
    )
    def get(self, request: Request) -> Response:
        """Say how much was called: by this assignment, or, to an admin's or auditor's token, by the organization."""
        tenant = tenant_of(request)
        zone = activity.zone_of_days(Tenant.objects.filter(pk=tenant.pk))
        since, until, by = self._asked(request, timezone.localdate(timezone=moments.zone_of(zone)))
        rows = self._rows(request).filter(day__gte=since, day__lte=until)
        told = activity.told(rows, by, MOST)
        said = {
            "since": since, "until": until, "time_zone": zone, "by": by, "results": told,
            "total": activity.together(told) if len(told) < MOST else activity.total(rows),
        }  # fmt: skip
        return Response(UsageSerializer(said).data)

    @staticmethod
    def _rows(request: Request) -> QuerySet[DailyUse]:
        principal, tenant = principal_of(request), tenant_of(request)
        if principal.assignment_id is not None:
            return tenant.use.filter(assignment=principal.assignment_id)
        if principal.role not in ADMINS_AND_AUDITORS:
            raise PermissionDenied("Only an assignment's token, or an admin's or auditor's, may ask for this.")
        return tenant.use.all()

    @staticmethod
    def _asked(request: Request, today: date) -> tuple[date, date, str]:
        until = _day(request, "until") or today
        since = _day(request, "since") or until - timedelta(days=min(DEFAULT_DAYS - 1, (until - date.min).days))
        by = request.query_params.get("by", "day")
        if by not in activity.BY:
            raise ParseError(f"`by` is one of {', '.join(activity.BY)}.")
        longest = timedelta(days=activity.LONGEST_RANGE - 1)
        return (until - longest if until - since > longest else since), until, by


def _day(request: Request, name: str) -> date | None:
    if (given := request.query_params.get(name)) is None:
        return None
    try:
        return date.fromisoformat(given)
    except ValueError as error:
        raise ParseError(f"`{name}` is a day such as 2026-01-31.") from error
