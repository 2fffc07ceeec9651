"""The pages of tools, where changes are reviewed, and of checks."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from connections.columns import stamp
from connections.filters import TenantFilter
from connections.large_lists import LargeList, LightList
from connections.models import Connection
from connections.tenancy import ReadOnlyAdmin, TenantAdmin, person
from tools.admin.descriptions import DescriptionForm
from tools.admin.placement import PlacementForm
from tools.catalog import listing
from tools.catalog.report import AVAILABILITIES, report_of
from tools.definitions import checks, meaning, moving
from tools.definitions.difference import MOST_SHOWN as MOST_OF_ONE
from tools.definitions.difference import Change, differences, pretty, visible
from tools.models import Policy, Probe, Tool

MOST_AT_ONCE = 200  # tools on one page of differences; a form may have 1,000 fields
MOST_SHOWN = 250_000  # bytes of their definitions
MOST_OF_PATTERN = 200  # characters of a pattern that is shown by itself
_DECISIONS = {Policy.ALLOW: "allowed", Policy.ASK: "set_to_ask", Policy.DENY: "denied"}
_MEANING = {
    Policy.ALLOW: "Assignments may call it.",
    Policy.ASK: "Each call waits until an organization admin has approved it.",
    Policy.DENY: "Nobody may call it.",
}
CHANGED_AGAIN = "{} has changed again since this page was shown. Look at the new difference."


class AvailabilityFilter(admin.SimpleListFilter):
    """By whether the tool may be used, and if not, why."""

    title = "availability"
    parameter_name = "availability"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [
            ("usable", "In use"),
            ("review", "To review"),
            ("ask", "Asks first"),
            ("denied", "Denied"),
            ("broken", "Broken"),
            ("gone", "No longer offered"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list."""
        tools: Any = queryset
        match self.value():
            case None:
                return queryset
            case "usable":
                return tools.usable()  # type: ignore[no-any-return]
            case "review":
                return tools.to_review()  # type: ignore[no-any-return]
            case "ask":
                return tools.usable().filter(policy=Policy.ASK)  # type: ignore[no-any-return]
            case "denied":
                return queryset.filter(policy=Policy.DENY)
            case "broken":
                return tools.broken()  # type: ignore[no-any-return]
            case "gone":
                return queryset.filter(gone_at__isnull=False)
        return queryset.none()


@admin.register(Tool)
class ToolAdmin(LightList, TenantAdmin):
    """Tools: what the server offers, what was approved, and the difference between the two."""

    tenant_path = "connection__tenant"
    seen_by_reviewers = True
    change_form_template = "admin/tools/tool/change_form.html"
    empty_sentence = "No tools yet. They appear here as soon as a connection has been checked."
    list_display = ["public_name", "availability", "connection", "about", stamp("last_seen_at", "last seen")]
    list_filter = [TenantFilter, AvailabilityFilter, "connection"]
    list_select_related = ["connection__tenant"]
    unlisted = ("definition", "approved_definition")
    search_fields = ["public_name", "name"]
    actions = ["approve_chosen", "allow_chosen", "ask_chosen", "deny_chosen"]
    fields = ["public_name"]
    readonly_fields = ["public_name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the tools that this person sees; the approved definition is loaded only where it is shown."""
        rows: QuerySet[Any] = super().get_queryset(request).defer("approved_definition")
        worded: QuerySet[Any] = rows.annotate(words=KeyTextTransform("description", "definition"))
        return worded

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tools come from servers, not from people."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tools that are gone are kept, with what was approved."""
        return False

    @admin.display(description="availability")
    def availability(self, tool: Tool) -> SafeString:
        """Show the availability as a coloured word; the sentence is its title."""
        return availability_badge(tool)

    @admin.display(description="description")
    def about(self, tool: Any) -> str:
        """Show the beginning of the description, or why the tool cannot be used."""
        return visible(tool.availability.sentence if tool.broken else (tool.words or "")[:120])

    # --- one tool ---

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the definition last seen beside the one approved."""
        return self._page(request, self.get_object(request, unquote(object_id)))

    def _page(self, request: HttpRequest, tool: Tool, **more: Any) -> HttpResponse:
        changes, form = changes_of(tool), DescriptionForm(tool=tool)
        context = {
            **self.admin_site.each_context(request),
            "title": str(tool),
            "original": tool,
            "opts": self.opts,
            "change": True,
            "availability": tool.availability,
            "badge": availability_badge(tool),
            "changes": changes,
            "only_description": [change.path for change in changes] == ["description"],
            "changed_lines": moving.changed_lines(tool.approved_definition or {}, tool.definition)
            if "lines" in form.fields
            else [],
            "description_form": form,
            "moving": moving.in_words(tool.moving) if tool.moving else "",
            "seen": pretty(tool.definition),
            "unchecked": [visible(pattern, most=MOST_OF_PATTERN) for pattern in checks.unchecked(tool.definition)],
            "description": visible(tool.description, keep="\n", most=MOST_OF_ONE),
            "versions": list(tool.versions.defer("definition")[:20]),
            "may_decide": self.has_change_permission(request, tool),
            "policies": [(policy.value, policy.label, _MEANING[policy]) for policy in Policy],
            "placement": PlacementForm(instance=tool),
            "slow_until": tool.slow_until if tool.runs_in_queue(timezone.now()) else None,
            "may_approve": not tool.broken and tool.approved_digest != tool.digest,
        }
        return TemplateResponse(request, self.change_form_template, context | more)

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the buttons."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/approve/", view(require_POST(self.approve_view)), name="tools_tool_approve"),
            path(
                "<path:object_id>/description/",
                view(require_POST(self.description_view)),
                name="tools_tool_description",
            ),
            path("<path:object_id>/policy/", view(require_POST(self.policy_view)), name="tools_tool_policy"),
            path("<path:object_id>/placement/", view(require_POST(self.placement_view)), name="tools_tool_placement"),
            *super().get_urls(),
        ]

    def approve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approve the definition whose digest the page showed."""
        tool = self._get_changeable(request, object_id)
        if self._approve(request, tool, request.POST.get("digest", "")):
            self.message_user(request, f"{tool} is approved.", messages.SUCCESS)
        else:
            self.message_user(request, CHANGED_AGAIN.format(tool), messages.WARNING)
        return HttpResponseRedirect(reverse("admin:tools_tool_change", args=[tool.pk]))

    def description_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let all or some lines of the description that the page showed change by itself, or review it again."""
        with transaction.atomic():
            tool = self._get_changeable(request, object_id)
            listing.lock(tool.connection)
            tool = self._get_changeable(request, object_id)
            if request.POST.get("digest") != tool.digest:
                self.message_user(request, CHANGED_AGAIN.format(tool), messages.WARNING)
                return HttpResponseRedirect(reverse("admin:tools_tool_change", args=[tool.pk]))
            form = DescriptionForm(request.POST, tool=tool)
            if not form.is_valid():
                return self._page(request, tool, description_form=form)
            tool.let_change(form.cleaned_data["moving"], by=person(request).get_username())
            verb = "description_let_change" if tool.moving else "description_reviewed_again"
            self.audit(request, verb, tool, part=moving.in_words(tool.moving), digest=tool.digest)
            listing.refresh_state(tool.connection)
        self.message_user(request, "Saved.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tools_tool_change", args=[tool.pk]))

    def policy_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Allow the tool, have each call of it approved, or deny it."""
        tool = self._get_changeable(request, object_id)
        if request.POST.get("policy") not in Policy.values:
            raise Http404
        self._set_policy(request, tool, Policy(request.POST["policy"]))
        self.message_user(request, "Saved.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tools_tool_change", args=[tool.pk]))

    def placement_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say where calls of the tool run and how long they may take."""
        with transaction.atomic():
            tool = self._get_changeable(request, object_id)
            form = PlacementForm(request.POST, instance=tool)
            if not form.is_valid():
                return self._page(request, tool, placement=form)
            tool.set_placement(**form.cleaned_data)
            self.audit(request, "placement_set", tool, **form.cleaned_data)
        self.message_user(request, "Saved.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tools_tool_change", args=[tool.pk]))

    def _get_changeable(self, request: HttpRequest, object_id: str) -> Tool:
        tool: Tool = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, tool):
            raise PermissionDenied
        return tool

    def _approve(self, request: HttpRequest, tool: Tool, digest: str) -> bool:
        with transaction.atomic():
            listing.lock(tool.connection)
            if digest != tool.digest or not tool.approve(by=person(request).get_username(), digest=digest):
                return False
            self.audit(request, "approved", tool, digest=digest)
            listing.refresh_state(tool.connection)
        return True

    def _set_policy(self, request: HttpRequest, tool: Tool, policy: Policy) -> None:
        with transaction.atomic():
            tool.set_policy(policy)
            self.audit(request, _DECISIONS[policy], tool)

    # --- many tools ---

    @admin.action(description="Review and approve…", permissions=["change"])
    def approve_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Show the differences of the chosen tools first; then approve exactly what was shown."""
        chosen: Any = self.changeable(request, queryset).select_related("connection__tenant")
        waiting = chosen.to_review()
        if "confirmed" in request.POST:
            tools = list(waiting.defer("definition", "approved_definition"))
            late = [
                tool for tool in tools if not self._approve(request, tool, request.POST.get(f"digest_{tool.pk}", ""))
            ]
            for tool in late:
                self.message_user(request, CHANGED_AGAIN.format(tool), messages.WARNING)
            self.message_user(request, f"Approved: {len(tools) - len(late)}.", messages.SUCCESS)
            return None
        tools, total = shown_together(waiting), waiting.count()
        if not tools:
            self.message_user(request, "None of these tools waits for a review.", messages.INFO)
            return None
        if len(tools) < total:
            self.message_user(request, f"These are the first {len(tools)} of {total}.", messages.INFO)
        context = {
            **self.admin_site.each_context(request),
            "title": "Approve these tools?",
            "tools": [{"tool": tool, "changes": changes_of(tool), "seen": pretty(tool.definition)} for tool in tools],
            "opts": self.opts,
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/tools/tool/approve.html", context)

    @admin.action(description="Allow", permissions=["change"])
    def allow_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Allow the chosen tools."""
        self._decide(request, queryset, Policy.ALLOW)

    @admin.action(description="Ask before each call", permissions=["change"])
    def ask_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Have each call of the chosen tools approved."""
        self._decide(request, queryset, Policy.ASK)

    @admin.action(description="Deny", permissions=["change"])
    def deny_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Deny the chosen tools."""
        self._decide(request, queryset, Policy.DENY)

    def _decide(self, request: HttpRequest, queryset: QuerySet[Any], policy: Policy) -> None:
        tools = list(self.changeable(request, queryset))
        for tool in tools:
            self._set_policy(request, tool, policy)
        self.message_user(request, f"{policy.label}: {len(tools)}.", messages.SUCCESS)


@admin.register(Probe)
class ProbeAdmin(LargeList, ReadOnlyAdmin):
    """The history of checks, each with its report."""

    tenant_path = "connection__tenant"
    seen_by_reviewers = True
    change_form_template = "admin/tools/probe/change_form.html"
    empty_sentence = "No checks yet. Each connection is checked when it is saved, and then every few minutes."
    list_display = [stamp("started_at", "started"), "result", "connection", "duration", "stopped_at"]
    list_filter = [TenantFilter, "outcome", "connection", "started_at"]
    list_select_related = ["connection__tenant"]
    fields = ["connection"]

    @admin.display(description="result", ordering="outcome")
    def result(self, probe: Probe) -> SafeString:
        """Show the outcome as a coloured word."""
        return format_html('<span class="status status-{}">{}</span>', probe.outcome, probe.get_outcome_display())

    @admin.display(description="duration")
    def duration(self, probe: Probe) -> str:
        """Show how long the check took, in seconds."""
        return f"{(probe.finished_at - probe.started_at).total_seconds():.1f} s" if probe.finished_at else ""

    @admin.display(description="why it failed")
    def stopped_at(self, probe: Probe) -> str:
        """Show the sentence of the stage that failed."""
        return next((stage["sentence"] for stage in probe.stages if stage["outcome"] == "failed"), "")

    def get_urls(self) -> list[URLPattern]:
        """Add the URL that a connection's page polls while it is being checked."""
        report = self.admin_site.admin_view(self.report_view)
        return [path("report/<path:connection_id>/", report, name="tools_probe_report"), *super().get_urls()]

    def report_view(self, request: HttpRequest, connection_id: str) -> JsonResponse:
        """Return the report of a connection that this person sees, as JSON."""
        connection: Any = self.admin_site.get_model_admin(Connection).get_object(request, unquote(connection_id))
        return JsonResponse(report_of(connection, timezone.now()))


def shown_together(waiting: QuerySet[Any]) -> list[Tool]:
    """Return the first of the tools: as many as one page can show with their definitions, and at least one."""
    tools, size = list[Tool](), 0
    for tool in waiting.defer(None)[:MOST_AT_ONCE].iterator(chunk_size=10):
        size += len(json.dumps([tool.definition, tool.approved_definition]))
        if tools and size > MOST_SHOWN:
            break
        tools.append(tool)
    return tools


def changes_of(tool: Tool) -> list[Change]:
    """Return how the definition last seen differs in meaning from the one approved; nothing when none was approved."""
    if tool.approved_digest in {"", tool.digest}:
        return []
    return differences(meaning.of(tool.approved_definition or {}), meaning.of(tool.definition))


def availability_badge(tool: Tool) -> SafeString:
    """Return the availability as a coloured word with its sentence as title."""
    availability = tool.availability
    word = AVAILABILITIES.get(availability.code, availability.code)
    return format_html(
        '<span class="status status-{}" title="{}">{}</span>', availability.code, availability.sentence, word
    )
