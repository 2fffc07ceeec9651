"""The live sessions at servers that remember, for people: whose they are, and a button to end them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from connections.columns import stamp
from connections.filters import TenantFilter
from connections.tenancy import ReadOnlyAdmin
from tools.models import McpSession
from tools.models.sessions import McpSessionQuerySet, SessionEnd


@admin.register(McpSession)
class SessionAdmin(ReadOnlyAdmin):
    """What servers remember at this moment, for which assignment; nobody sees what it is."""

    empty_sentence = "No live sessions. One appears here when an assignment calls a tool of a server that remembers."
    list_display = [
        "__str__",
        "assignment",
        "connection",
        stamp("opened_at", "since"),
        stamp("used_at", "last used"),
        "calls",
    ]
    list_filter = [TenantFilter, "connection", "assignment"]
    list_select_related = ["assignment", "connection"]
    search_fields = ["name"]
    fields = ["name", "assignment", "connection", "opened_at", "used_at", "idle_until", "calls"]
    actions = ["end_chosen"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the live ones among those that this person sees."""
        return super().get_queryset(request).filter(ended_at=None, opened_at__isnull=False)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes the row: a session is ended, and its server is told."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        end = self.admin_site.admin_view(require_POST(self.end_view))
        return [path("<path:object_id>/end/", end, name="tools_mcpsession_end"), *super().get_urls()]

    def end_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End one session, unless it has ended meanwhile, and go back to its connection."""
        try:
            session = get_object_or_404(super().get_queryset(request), pk=UUID(unquote(object_id)))
        except ValueError as error:
            raise Http404 from error
        if not self._may_end(request, session):
            raise PermissionDenied
        self._end(request, McpSession.objects.filter(pk=session.pk))
        gone = session.connection_id is None
        there = reverse("admin:connections_connection_change", args=[session.connection_id]) if not gone else "../.."
        return HttpResponseRedirect(there)

    @admin.action(description="End")
    def end_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """End the chosen sessions."""
        chosen = [session.pk for session in queryset if self._may_end(request, session)]
        self._end(request, McpSession.objects.filter(pk__in=chosen))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the action to those who may end sessions."""
        offered = super().get_actions(request)
        return offered if self._may_end(request, None) else {}

    def _may_end(self, request: HttpRequest, session: McpSession | None) -> bool:
        return self._has_role(request, self.changed_by, session)

    def _end(self, request: HttpRequest, rows: McpSessionQuerySet) -> None:
        with transaction.atomic():
            sessions = list(rows.live().select_related("assignment"))
            for session in sessions:
                self.audit(request, "ended", session, assignment=str(session.assignment))
            ended = rows.end(SessionEnd.ADMIN, timezone.now())
        sentence = f"Sessions ended: {ended}. What the servers remembered for them is given up."
        self.message_user(request, sentence, messages.SUCCESS if ended else messages.INFO)
