"""The pages of connections and of the audit trail; those of organizations and people have modules of their own."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from csp.decorators import csp_update
from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Case, Count, IntegerField, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Coalesce, Greatest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, resolve, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from connections import audit_pages, checking, redirects
from connections.ages import ago
from connections.columns import shown_address
from connections.filters import HeadlineFilter, TenantFilter
from connections.forms import SHOWN, ConnectionForm, Superseded
from connections.models import Authorization, Bulletin, Connection, Era, Notice, Tenant
from connections.notices.pages import BulletinAdmin, NoticeAdmin
from connections.organizations import OrganizationAdmin
from connections.own_pages import OwnCredentialAdmin
from connections.people import members
from connections.states import TROUBLE, shows
from connections.tenancy import person

__all__ = ["audit_pages", "members"]  # they register themselves

admin.site.unregister([Group, EmailAddress, Authenticator])  # pages of other apps, which know no organization
admin.site.register(Tenant, OrganizationAdmin)
admin.site.register(Notice, NoticeAdmin)
admin.site.register(Bulletin, BulletinAdmin)


class EraFilter(admin.SimpleListFilter):
    """By the protocol era that the server was found to speak."""

    title = "protocol era"
    parameter_name = "era"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return the eras, and one choice for those not known yet."""
        return [(Era.MODERN.value, "Modern"), (Era.LEGACY.value, "Legacy"), ("unknown", "Not known yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list."""
        value = self.value()
        return queryset.filter(era="" if value == "unknown" else value) if value else queryset


@admin.register(Connection)
class ConnectionAdmin(OwnCredentialAdmin):
    """Connections: what works, what does not, and what to do about it."""

    seen_by_reviewers = True
    change_form_template = "admin/connections/connection/change_form.html"
    empty_sentence = "No connections yet. Add the URL of an MCP server, and its tools appear here."
    list_filter = [TenantFilter, HeadlineFilter, "authorization", EraFilter]
    search_fields = ["name", "shown_address"]  # not what is stored: who sees less of an address may not guess the rest
    list_select_related = ["tenant"]
    search_help_text = "Search by name or server"
    actions = ["check_now", "enable", "disable"]
    empty_value_display = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the connections that this person sees, with the number of their tools."""
        # Tools belong to the app `tools`, which may not be imported here; they are reached by name.
        tools = apps.get_model("tools", "Tool").objects
        counts = {
            "tools_in_use": _count(tools.usable()),
            "tools_to_review": _count(tools.to_review()),
            "tools_set_aside": _count(tools.broken()),
        }
        annotated: QuerySet[Any] = super().get_queryset(request).annotate(**counts, shown_address=shown_address())
        return annotated

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        """Let those who see the connections of all organizations search by organization, too."""
        others = ["tenant__name"] if person(request).sees_every_organization else []
        return [*self.search_fields, *others]

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Filter by the protocol's era only for those who look after all organizations."""
        every = super().get_list_filter(request)
        return every if person(request).sees_every_organization else [one for one in every if one is not EraFilter]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Begin with the newest trouble for those who look after all organizations, with the name for others."""
        if not person(request).sees_every_organization:
            return super().get_ordering(request)
        moved = Greatest("credential_since", "reachability_since", "tools_since")
        return [Case(When(shows(*TROUBLE), then=moved)).desc(nulls_last=True), "name"]

    def get_list_display(self, request: HttpRequest) -> Any:
        """Name the organization only to those who see several."""
        user = person(request)
        organization = ["whose"] if user.sees_every_organization else ["tenant"] if len(user.roles) > 1 else []
        return ["title", "status", *organization, "method", "protocol", "tools", "checked"]

    # --- columns ---

    @admin.display(description="connection", ordering="name")
    def title(self, connection: Connection) -> SafeString:
        """Show the name, and where the server is."""
        host = urlsplit(connection.server_url).netloc
        return format_html('{} <span class="host">{}</span>', connection.name, host)

    @admin.display(description="status")
    def status(self, connection: Connection) -> SafeString:
        """Show the headline as a coloured word, since when, and what a person should do."""
        since = max(connection.credential_since, connection.reachability_since, connection.tools_since)
        headline, step = connection.headline, connection.next_step
        if connection.is_personal and not connection.is_not_reached:
            step = f"{connection.credential_sentence} {step}".strip()
        return format_html(
            '<span class="status status-{}">{}</span> <span class="since">{}</span>{}',
            headline.value,
            headline.label,
            f"since {ago(since)}".replace("since just now", "just now"),
            format_html('<span class="step">{}</span>', step) if step and connection.enabled else "",
        )

    @admin.display(description="authorization", ordering="authorization")
    def method(self, connection: Connection) -> str:
        """Show the authorization method."""
        return connection.get_authorization_display()

    @admin.display(description="protocol", ordering="protocol_version")
    def protocol(self, connection: Connection) -> str:
        """Show the protocol version and its era."""
        return f"{connection.protocol_version} ({connection.era})" if connection.era else ""

    @admin.display(description="tools")
    def tools(self, connection: Any) -> SafeString:
        """Show how many tools are in use, how many wait and how many cannot be used; each number leads to these."""
        counted = [
            (connection.tools_in_use, "in use", "usable"),
            (connection.tools_to_review, "to review", "review"),
            (connection.tools_set_aside, "set aside", "broken"),
        ]
        lists = reverse("admin:tools_tool_changelist")
        told = [
            format_html('<a href="{}?{}">{} {}</a>', lists, urlencode(_only(connection, which)), number, words)
            for number, words, which in counted
            if number
        ]
        return format_html_join(", ", "{}", ((one,) for one in told)) or format_html("{}", "0 in use")

    @admin.display(description="last checked", ordering="probed_at")
    def checked(self, connection: Connection) -> str:
        """Show how long ago the last check ended."""
        return ago(connection.probed_at) if connection.probed_at else "never"

    # --- the form ---

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the one form of connections, for this person."""
        return type("Form", (ConnectionForm,), {"user": person(request)})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return something for Django's checks: the template lays the fields out."""
        return [(None, {"fields": ["name"]})]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show or save the form; when somebody else has saved meanwhile, show it again and say so.

        Without Django's transaction around it: the form asks DNS, which may be slow, and saves in one of its own.
        """
        try:
            return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
        except ValidationError:
            pass
        except Superseded as late:
            sent = request.POST.copy()
            sent[SHOWN] = late.shown
            request.POST = sent  # type: ignore[assignment]
        return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show or save the form of a new connection; one whose method was left open is shown with what was found out.

        Then nothing is saved yet: the person sees which method fits the server, and may choose another one.
        """
        if elsewhere := self.without_organization(request):
            return elsewhere
        if request.method == "POST" and not request.POST.get("authorization"):
            form = self.get_form(request)(request.POST)
            if not form.is_valid() and form.is_open:
                return self._with_what_fits(request, form.cleaned_data["server_url"], form_url)
        return super().add_view(request, form_url, extra_context)

    def _with_what_fits(self, request: HttpRequest, server_url: str, form_url: str) -> HttpResponse:
        entered = request.POST.copy()
        entered["server_url"], entered["authorization"] = server_url, ""
        request.POST = entered  # type: ignore[assignment]
        # The look is in `oauth`, which may not be imported here; it is reached by the name of its URL.
        look = resolve(reverse("oauth:check_before_saving")).func(request).context_data
        entered["authorization"], entered["name"] = look["method"], entered.get("name") or look["name"]
        request.method = "GET"
        request.GET = entered  # type: ignore[assignment]  # what Django fills a form in with that nobody has sent yet
        return super().add_view(request, form_url, {"look": look})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the page of one connection; with OAuth, its CSP lets the button Sign in lead to any provider."""
        response = super().change_view(request, object_id, form_url, extra_context)
        connection = (getattr(response, "context_data", None) or {}).get("original")
        if connection is None or connection.authorization != Authorization.OAUTH:
            return response
        # Browsers apply the page's form-action to the redirect after a form, and to the provider's own redirects.
        schemes = ["https:", "http:"] if settings.EGRESS_ALLOWED_NETWORKS else ["https:"]
        return csp_update({"form-action": schemes})(lambda _: response)(request)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        """Save the form with its own method, as the API does; after a new name, say which prefix stays."""
        connection = form.save()
        if change and "name" in form.changed_data:
            sentence = f"The names of its tools begin with “{connection.slug}__” as before, so assignments find them."
            self.message_user(request, sentence, messages.INFO)
        return connection

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has saved."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the form has saved."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Do nothing: the form has recorded it."""

    log_change = log_addition  # type: ignore[assignment]

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Go to the connection's page, where the check is seen live."""
        return self._to_its_page(request, obj, f"{obj} was added. It is being checked.")

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Stay on the connection's page, where the check is seen live."""
        return self._to_its_page(request, obj, "Saved. The connection is being checked." if obj.enabled else "Saved.")

    def _to_its_page(self, request: HttpRequest, connection: Connection, sentence: str) -> HttpResponse:
        self.message_user(request, sentence, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:connections_connection_change", args=[connection.pk]))

    # --- checks ---

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons "Check now" and "Use this address"."""
        check = self.admin_site.admin_view(require_POST(self.check_view))
        move = self.admin_site.admin_view(require_POST(self.use_address_view))
        return [
            path("<path:object_id>/check/", check, name="connections_connection_check"),
            path("<path:object_id>/use-address/", move, name="connections_connection_use_address"),
            *super().get_urls(),
        ]

    def use_address_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the address to which the server sends us, through the form: what it refuses stays refused."""
        connection = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, connection):
            raise PermissionDenied
        if not (address := redirects.offered(connection)):
            return self._to_its_page(request, connection, "The server names no other address now. Nothing was changed.")
        data = ConnectionForm.data_of(connection) | {"server_url": address, "keep_url_secret": True}
        form = ConnectionForm(data, instance=connection, user=person(request))
        try:
            if form.is_valid():
                return self._to_its_page(request, form.save(), f"The address is {address.partition('?')[0]} now.")
        except Superseded as late:
            form.add_error(None, late.sentence)
        faults = (fault for every in form.errors.as_data().values() for fault in every)
        for sentence in (line for fault in faults for line in fault.messages):
            self.message_user(request, sentence, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:connections_connection_change", args=[connection.pk]))

    def check_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for a check of one connection."""
        connection = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, connection):
            raise PermissionDenied
        if not connection.enabled:
            return self._to_its_page(request, connection, "A disabled connection is not checked. Enable it first.")
        checking.request_check(connection)
        self.audit(request, "check_requested", connection)
        return self._to_its_page(request, connection, "The connection is being checked.")

    @admin.action(description="Check now", permissions=["change"])
    def check_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ask for a check of the chosen connections."""
        chosen = list(self.changeable(request, queryset).filter(enabled=True))
        for connection in chosen:
            checking.request_check(connection)
            self.audit(request, "check_requested", connection)
        self.message_user(request, f"Checks requested: {len(chosen)}.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Enable the chosen connections, and check them."""
        chosen = [row for row in self.changeable(request, queryset) if self._set_enabled(request, row, True)]
        self.message_user(request, f"Enabled: {len(chosen)}.", messages.SUCCESS)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Disable the chosen connections."""
        chosen = [row for row in self.changeable(request, queryset) if self._set_enabled(request, row, False)]
        self.message_user(request, f"Disabled: {len(chosen)}.", messages.SUCCESS)

    def _set_enabled(self, request: HttpRequest, connection: Connection, enabled: bool) -> bool:
        """Enable or disable one connection, in a transaction of its own; False if it was so already."""
        with transaction.atomic():
            if not connection.set_enabled(enabled):
                return False
            if enabled:
                checking.request_check(connection)
            self.audit(request, "enabled" if enabled else "disabled", connection)
        return True


def _only(connection: Connection, availability: str) -> dict[str, str]:
    return {"connection__id__exact": str(connection.pk), "availability": availability}


def _count(tools: QuerySet[Any]) -> Coalesce:
    counted = tools.filter(connection=OuterRef("pk")).order_by().values("connection").annotate(count=Count("pk"))
    return Coalesce(Subquery(counted.values("count"), output_field=IntegerField()), 0)
