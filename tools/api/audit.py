"""The audit trail for programs, with the token of an admin or auditor: oldest first, so that a cursor goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import AuditEvent
from connections.tenancy import ADMINS_AND_AUDITORS
from tools.api.authentication import HasPrincipal
from tools.api.queries import PAGES, KnownQuery
from tools.api.views import Pages, principal_of, tenant_of

_SAME = ("actor", "action", "object_type", "object_id", "outcome", "request_id")  # filters by one value


class IsAdminOrAuditor(HasPrincipal):
    """Whoever sees the audit trail on the pages."""

    message = "Only the token of an organization's admin or auditor may read the audit trail."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller has one of these roles."""
        return super().has_permission(request, view) and principal_of(request).role in ADMINS_AND_AUDITORS


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    """Who did what to which object; never a secret."""

    data = serializers.DictField(  # type: ignore[assignment]  # the stubs take it for the serializer's own data
        help_text="What there is to say beside; of a change, the values before and after."
    )

    class Meta:
        model = AuditEvent
        fields = ["id", "at", "actor", "action", "object_type", "object_id", "object_label", "outcome", "request_id",
                  "data"]  # fmt: skip


class InOrder(Pages):
    """Pages of events, oldest first."""

    ordering = ("at", "id")


class AuditEvents(KnownQuery, ListAPIView[AuditEvent]):
    """The audit trail of the caller's organization."""

    permission_classes = [IsAdminOrAuditor]
    serializer_class = AuditEventSerializer
    pagination_class = InOrder
    parameters: ClassVar = (*PAGES, "since", "until", *_SAME)

    @extend_schema(
        operation_id="audit_events_list",
        summary="The audit trail",
        parameters=[
            OpenApiParameter("since", type=datetime, description="Only events from this moment on (RFC 3339)."),
            OpenApiParameter("until", type=datetime, description="Only events before this moment."),
            *(OpenApiParameter(name, description="Only events with this very value.") for name in _SAME),
        ],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the events, oldest first, page by page. To go on later, keep the last `at` and ask `since` then."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[AuditEvent]:
        """Return the organization's events that fit the filters; raises ParseError for a moment that is none."""
        if getattr(self, "swagger_fake_view", False):
            return AuditEvent.objects.none()
        asked = self.request.query_params
        found: QuerySet[AuditEvent] = tenant_of(self.request).audit_events.all()
        if (since := _moment(asked.get("since"), "since")) is not None:
            found = found.filter(at__gte=since)
        if (until := _moment(asked.get("until"), "until")) is not None:
            found = found.filter(at__lt=until)
        return found.filter(**{name: asked[name][:200].replace("\0", "") for name in _SAME if name in asked})


def _moment(given: str | None, name: str) -> datetime | None:
    if given is None:
        return None
    try:
        found = parse_datetime(given)
    except ValueError:
        found = None
    if found is None:
        raise ParseError(f"`{name}` is a moment such as 2026-01-31T12:00:00Z.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
