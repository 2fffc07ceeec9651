"""The pages of API tokens: one's own, and for admins all of their organizations'."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from connections.columns import stamp
from connections.models import Tenant
from connections.quotas import QuotaReached
from connections.tenancy import ADMINS, TenantAdmin, person, tenants_of
from tools.admin.token_forms import OwnTokenForm, calls_go_on, revoked_message, show_once
from tools.assigning import tokens
from tools.models import AccessToken
from tools.models.assignments import AccessTokenQuerySet, AlreadyIssued


class StateFilter(admin.SimpleListFilter):
    """Valid tokens are shown by default, ended ones only on request."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return the choices other than the default."""
        return [("ended", "Ended"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Name the default choice “Live” instead of Django's “All”."""
        for number, choice in enumerate(super().choices(changelist)):
            yield choice | {"display": "Live"} if number == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list."""
        now = timezone.now()
        if self.value() == "all":
            return queryset
        if self.value() == "ended":
            return queryset.exclude(pk__in=AccessToken.objects.live(now).values("pk"))
        # Not by a subquery: taken for one of a few rows, it was executed anew for each row of the list.
        return cast("AccessTokenQuerySet", queryset).live(now)


@admin.register(AccessToken)
class AccessTokenAdmin(TenantAdmin):
    """One's own tokens, which script the set-up with one's own role; admins see and revoke all of an organization."""

    change_form_template = "admin/tools/accesstoken/change_form.html"
    empty_sentence = "No tokens yet. A token of your own lets your scripts set up connections with your role."
    list_display = [
        "prefix", "whose", "label", "organization", "issued_by", stamp("created_at", "created"),
        stamp("expires_at", "expires"), stamp("last_used_at", "last used"), "state",
    ]  # fmt: skip
    list_filter = [StateFilter]
    list_select_related = ["membership__tenant", "membership__user", "assignment__tenant", "created_by"]
    fields = [
        "prefix", "whose", "label", "organization", "issued_by", "created_at", "expires_at", "last_used_at", "state",
    ]  # fmt: skip
    readonly_fields = (
        "prefix", "whose", "label", "organization", "issued_by", "created_at", "expires_at", "last_used_at", "state",
    )  # fmt: skip
    actions = None

    def tenant_of(self, row: Any) -> Tenant | None:
        """Return the organization that a row belongs to."""
        return row.tenant if isinstance(row, AccessToken) else None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return one's own tokens, and those of the organizations that one is an admin of."""
        user, rows = person(request), AccessToken.objects.all()
        if user.is_superuser:
            return rows
        mine = tenants_of(user, ADMINS)
        own = Q(membership__user=user)
        return rows.filter(own | Q(membership__tenant__in=mine) | Q(assignment__tenant__in=mine))

    def changeable(self, request: HttpRequest, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        """Return no row: a token is never changed, and nothing points at one."""
        return AccessToken.objects.none()

    @admin.display(description="of")
    def whose(self, token: AccessToken) -> str:
        """Show the assignment or the person."""
        return token.whose

    @admin.display(description="organization")
    def organization(self, token: AccessToken) -> str:
        """Show the organization that it is for."""
        return str(token.tenant)

    @admin.display(description="issued by")
    def issued_by(self, token: AccessToken) -> str:
        """Show who made it."""
        return token.created_by.get_username() if token.created_by else "–"

    @admin.display(description="state")
    def state(self, token: AccessToken) -> str:
        """Show whether it is valid."""
        return token.state(timezone.now())

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let everybody who belongs to an organization add a token."""
        return bool(person(request).own_roles)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people see their own, admins those of their organizations, and superusers all."""
        user = person(request)
        return user.is_superuser or (bool(user.roles) if obj is None else self._may_revoke(request, obj))

    def _may_revoke(self, request: HttpRequest, token: AccessToken) -> bool:
        own = token.membership is not None and token.membership.user_id == person(request).pk
        return own or self.is_admin(request, token)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the button to those who may press it."""
        context["may_revoke"] = self._may_revoke(request, context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a token; it can be revoked."""
        return False

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """Ask what the token is for; make it and show it, this once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = OwnTokenForm(request.POST or None, user=person(request))
        if request.method == "POST" and form.is_valid():
            try:
                with transaction.atomic():
                    row, token = AccessToken.issue(
                        membership=form.cleaned_data["membership"],
                        label=form.cleaned_data["label"],
                        expires_at=form.cleaned_data["expires_on"],
                        by=person(request),
                        pk=form.cleaned_data["once"],
                    )
                    self.audit(request, "issued", row, prefix=row.prefix)
                return show_once(request, self, row, token, reverse("admin:tools_accesstoken_changelist"))
            except AlreadyIssued:  # the page was reloaded
                row = self.get_object(request, str(form.cleaned_data["once"]))
                return show_once(request, self, row, "", reverse("admin:tools_accesstoken_changelist"))
            except QuotaReached as full:
                form.add_error(None, full.sentence)
        context = {
            **self.admin_site.each_context(request),
            "title": "New API token",
            "form": form,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/tools/accesstoken/add.html", context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        """Add the URL of the button."""
        revoke = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<path:object_id>/revoke/", revoke, name="tools_accesstoken_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke a token: one's own, or one of an organization that one is an admin of."""
        token: AccessToken = self.get_object(request, unquote(object_id))
        if not self._may_revoke(request, token):
            raise PermissionDenied
        began = tokens.revoke(token, person(request), calls_go_on=calls_go_on(request))
        self.message_user(request, revoked_message(token, began), messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tools_accesstoken_changelist"))
