"""The pages of notices and messages: who was told what, whether it was delivered, and trying again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, NullIf
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from connections import moments
from connections.columns import stamp
from connections.filters import TenantFilter
from connections.models import Bulletin, Kind, Matter, Notice, User
from connections.notices.delivering import MOST_TRIES
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin

SENT_AGAIN = "What has failed is tried again within the minute. Whoever has got it does not get it twice."
NOTHING_FAILED = "There is nothing to send again: it was delivered, or is no longer so."


class DeliveryAdmin(ReadOnlyAdmin):
    """What both lists share: how far a message has come, and the button to try it again."""

    seen_by = ADMINS_AND_AUDITORS
    change_form_template = "admin/connections/delivery.html"
    actions = None
    empty_value_display = ""

    @admin.display(description="delivered")
    def delivered(self, row: Notice | Bulletin) -> SafeString | str:
        """Say in one word how far it has come; what went wrong is beside it."""
        if row.trouble and row.deliver_at is None:
            word, code = "Given up", "failed"
        elif row.trouble:
            word, code = "Tried again", "busy"
        elif row.deliver_at is not None:
            word, code = "To be sent", "checking"
        else:
            word, code = ("Sent", "succeeded") if row.attempts else ("Not needed", "disabled")
        return format_html('<span class="status status-{}">{}</span> {}', code, word, row.trouble)

    @admin.display(description="mailed to")
    def mailed_to(self, row: Notice | Bulletin) -> str:
        """Name who was mailed."""
        names = User.objects.filter(pk__in=row.emailed_to).order_by("username").values_list("username", flat=True)
        return ", ".join(names) or "nobody"

    @admin.display(description="tries")
    def tries(self, row: Notice | Bulletin) -> str:
        """Say how often it was tried, and when it is tried next."""
        if row.deliver_at is None or not row.attempts:
            return str(row.attempts)
        return f"{row.attempts} of {MOST_TRIES}, the next at {moments.shown(row.deliver_at)}"

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        again = self.admin_site.admin_view(require_POST(self.again_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_again"
        return [path("<path:object_id>/again/", again, name=name), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show how far it has come, with the button for whoever may press it."""
        row = self.get_object(request, unquote(object_id))
        may_send = bool(row.trouble) and self._has_role(request, self.changed_by, row)
        again = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_again", args=[row.pk])
        more = {"may_send_again": may_send, "again_url": again, "title": str(row)}
        return super().change_view(request, object_id, form_url, more | (extra_context or {}))

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have what has failed tried again."""
        row = self.get_object(request, unquote(object_id))
        if not self._has_role(request, self.changed_by, row):
            raise PermissionDenied
        if row.send_again(timezone.now()):
            self.audit(request, "sent_again", row)
            self.message_user(request, SENT_AGAIN, messages.SUCCESS)
        else:
            self.message_user(request, NOTHING_FAILED, messages.WARNING)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        )


class NoticeAdmin(DeliveryAdmin):
    """Notices of sign-ins that will end or have ended; the product writes them."""

    tenant_path = "connection__tenant"
    empty_sentence = "No notices. When a sign-in will end or has died, it is said here, by mail and by webhook."
    list_display = [
        "connection", "sentence", "owner", stamp("created_at", "since"), stamp("resolved_at", "resolved"), "delivered",
    ]  # fmt: skip
    list_filter = [TenantFilter]
    list_select_related = ["connection__tenant", "owner"]
    search_fields = ["connection__name"]
    fields = [
        "connection", "owner", "reason", "sentence", "until", "created_at", "resolved_at",
        "mailed_to", "emailed_at", "delivered_at", "posted_at", "tries", "trouble",
    ]  # fmt: skip
    readonly_fields = ["mailed_to", "tries"]


class BulletinAdmin(DeliveryAdmin):
    """Messages about what else needs somebody: to whom, when, and what went wrong."""

    empty_sentence = "No messages yet. What needs somebody is told here, by mail, by webhook and in the chat."
    list_display = ["about", stamp("created_at", "since"), "told", "delivered"]
    list_filter = [TenantFilter, "kind"]
    list_select_related = ["tenant"]
    fields = [
        "kind", "about", "created_at", "mailed_to", "emailed_at", "delivered_at", "posted_at", "tries", "trouble",
    ]  # fmt: skip
    readonly_fields = ["about", "mailed_to", "tries"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the messages with the name and the number of what each tells of."""
        matters = Matter.objects.filter(bulletin=OuterRef("pk"))
        named = Coalesce(NullIf("name", Value("")), "connection__name")
        first = matters.order_by("created_at", "pk").values_list(named)[:1]
        # A subquery, which is asked of the rows that are shown; grouped, all rows would be counted first.
        number = matters.order_by().values("bulletin").values_list(Count("pk"))
        told = {"first": Subquery(first), "number": Coalesce(Subquery(number), 0)}
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**told)
        return rows

    @admin.display(description="what")
    def about(self, row: Any) -> str:
        """Name what it tells of: the first, and how many more."""
        if row.kind == Kind.AUDIT:
            count = len(row.events)
            return f"{row.get_kind_display()}: {count} event{'' if count == 1 else 's'}"
        more = f" and {row.number - 1} more" if row.number > 1 else ""
        return f"{row.get_kind_display()}: {row.first}{more}" if row.first else str(row.get_kind_display())

    @admin.display(description="told")
    def told(self, row: Bulletin) -> str:
        """Say by which ways it has arrived."""
        ways = {
            f"{len(row.emailed_to)} by mail": bool(row.emailed_to),
            "webhook": row.delivered_at is not None,
            "channel": row.posted_at is not None,
        }
        return ", ".join(way for way, arrived in ways.items() if arrived)
