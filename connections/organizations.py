"""The pages of an organization: its name, the webhook to its own systems, and the limits of its calls."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_POST
from uuid_utils.compat import uuid7

from connections import deleting, egress, visits
from connections.columns import stamp
from connections.errors import DuvoError
from connections.forms import OrganizationForm
from connections.forms.fields import NameField
from connections.models import Matter, Tenant
from connections.notices import audit_feed, webhooks
from connections.notices.channel_page import ChannelPages
from connections.tenancy import person

QUICKER = "Somebody else has made a new secret, or has changed the webhook, at this moment. Nothing was done."
BEING_DELETED = "It is being deleted: that goes on."
_QUOTAS = (
    "max_concurrency", "max_connections", "max_assignments", "max_tokens", "max_open_calls", "max_sessions",
    "max_stored",
)  # fmt: skip
_BOUNDS = ("retention_days", "decision_hours", "max_token_days", *_QUOTAS)


class OrganizationAdmin(ChannelPages):
    """Organizations: their admins rename them and set all but their quotas; superusers make and delete them.

    Quotas and suspension are the platform's own; for anything else superusers act in the organization first.
    """

    tenant_path = "pk"
    form = OrganizationForm
    change_form_template = "admin/connections/tenant/change_form.html"
    list_display = ["name", stamp("created_at", "since")]
    search_fields = ["name"]
    actions = ["delete_selected"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let superusers add."""
        return person(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let superusers delete."""
        return person(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let its admins change it, and superusers its quotas."""
        return person(request).is_superuser or super().has_change_permission(request, obj)

    # --- deleting ---

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Return how much is deleted with these organizations, without reading it: it may be millions of rows."""
        rows = Tenant.objects.filter(pk__in=[row.pk for row in objs])
        if not deleting.takes_long(rows):
            return super().get_deleted_objects(objs, request)
        kept = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return [str(row) for row in objs], deleting.counts(rows), kept, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the organization, or leave it to a worker if that takes long, and say which of the two."""
        if not deleting.takes_long(Tenant.objects.filter(pk=obj.pk)):
            super().delete_model(request, obj)
            self.message_user(request, f"{obj} was deleted.", messages.SUCCESS)
            return
        with transaction.atomic():
            _locked(obj).begin_deletion()
        sentence = f"{obj} has much to delete: a worker does that now, and until then it is suspended."
        self.message_user(request, sentence, messages.WARNING)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:  # type: ignore[override]
        """Record that they were deleted, or that this has begun."""
        for tenant in queryset:
            long = deleting.takes_long(Tenant.objects.filter(pk=tenant.pk))
            self.audit(request, "deletion_begun" if long else "deleted", tenant)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        """Go back to the list, where it is said what became of the organization."""
        return HttpResponseRedirect(reverse("admin:connections_tenant_changelist"))

    @admin.action(permissions=["delete"], description="Delete selected organizations")
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask as everywhere, and delete each of the chosen organizations as if it were the only one."""
        if not request.POST.get("post"):
            return delete_selected(self, request, queryset)
        self.log_deletions(request, queryset)
        for tenant in queryset:
            self.delete_model(request, tenant)
        return None

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the webhook's URL, which may itself be a secret, only to its admins; to staff who look, the quotas."""
        is_admin = obj is None or self.is_admin(request, obj)
        if not is_admin and person(request).is_superuser:
            return list(_QUOTAS)
        webhook = ["webhook_url", "unposted", "audit_to_webhook"] if is_admin else ["webhook"]
        return ["name", "time_zone", "require_second_factor", *webhook, "members_own", *_BOUNDS]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Only say whether there is a webhook where its URL is not shown; quotas are the platform's, and only they."""
        if not person(request).is_superuser:
            return ["webhook", *_QUOTAS]
        is_admin = obj is None or self.is_admin(request, obj)
        # Declared fields, too: what a page does not show would be taken for left blank.
        return ["webhook"] if is_admin else [name for name in self.form.base_fields if name not in _QUOTAS]

    def get_list_display(self, request: HttpRequest) -> Any:
        """Tell organizations of one name apart for those who see all of them."""
        name, *others = super().get_list_display(request)
        return [name, "slug", *others] if person(request).is_superuser else [name, *others]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Tell the page what of it may be changed."""
        row = context.get("original")
        context["is_admin"] = row is None or self.is_admin(request, row)
        context["longest_reason"] = visits.LONGEST_REASON
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="webhook")
    def webhook(self, tenant: Tenant) -> str:
        """Show whether there is one."""
        return "Set" if tenant.webhook_url else "Not set"

    # --- saving ---

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, forget the secret of a webhook that is gone or leads elsewhere, and end tokens that live too long."""
        if change:  # and leave alone what others do to it at this moment, such as suspending it
            columns = {column.name for column in obj._meta.concrete_fields}  # noqa: SLF001 - Django's public API
            obj.save(update_fields=[name for name in form.changed_data if name in columns])
        else:
            super().save_model(request, obj, form, change)
        if change and "max_token_days" in form.changed_data:
            # Tokens belong to the app `tools`, which may not be imported here; they are reached by name.
            shortened = apps.get_model("tools", "AccessToken").objects.cap_lifetimes(obj)
            self.audit(request, "tokens_shortened", obj, count=shortened)
        wanted = form.cleaned_data.get("audit_to_webhook")  # None where the page does not show it
        if wanted is not None and wanted != audit_feed.is_on(obj):
            (audit_feed.start if wanted else audit_feed.stop)(obj)
        moved = "webhook_url" in form.cleaned_data and (
            egress.origin(obj.webhook_url) != egress.origin(form.initial.get("webhook_url") or "")
        )
        if moved and obj.sealed_webhook_secret:
            obj.forget_webhook_secret()

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the secret of a new webhook."""
        return self._first_secret(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Show the secret of a new webhook, else stay on the organization's page."""
        shown = self._first_secret(request, obj) if self.is_admin(request, obj) else None
        return shown or self.to_its_page(request, obj, "Saved.", messages.SUCCESS)

    def _first_secret(self, request: HttpRequest, tenant: Tenant) -> HttpResponse | None:
        return self._new_secret(request, tenant) if tenant.webhook_url and not tenant.sealed_webhook_secret else None

    # --- buttons ---

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        secret = self.admin_site.admin_view(require_POST(self.secret_view))
        test = self.admin_site.admin_view(require_POST(self.test_view))
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/act/", view(require_POST(self.act_view)), name="connections_tenant_act"),
            path("<path:object_id>/leave/", view(require_POST(self.leave_view)), name="connections_tenant_leave"),
            path("<path:object_id>/suspend/", view(require_POST(self.suspend_view)), name="connections_tenant_suspend"),
            path("<path:object_id>/resume/", view(require_POST(self.resume_view)), name="connections_tenant_resume"),
            path("<path:object_id>/webhook-secret/", secret, name="connections_tenant_webhook_secret"),
            path("<path:object_id>/webhook-test/", test, name="connections_tenant_webhook_test"),
            *super().get_urls(),
        ]

    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a new secret and show it, this once; the one before signs nothing any more."""
        tenant = self.changed(request, object_id)
        if not tenant.webhook_url:
            return self.to_its_page(request, tenant, "Enter the webhook's URL first.", messages.ERROR)
        return self._new_secret(request, tenant)

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a message of the type "webhook.test" and say how that went."""
        tenant = self.changed(request, object_id)
        if not tenant.webhook_url:
            return self.to_its_page(request, tenant, "Enter the webhook's URL first.", messages.ERROR)
        level, sentence, outcome = messages.SUCCESS, "The webhook's receiver has taken the test.", "ok"
        try:
            webhooks.send(
                tenant,
                message_id=str(uuid7()),
                kind="webhook.test",
                at=timezone.now(),
                data={"organization": tenant.name, "sent_by": person(request).get_username()},
            )
        except DuvoError as failure:
            level, sentence, outcome = messages.ERROR, failure.sentence, failure.code
        self.audit(request, "webhook_tested", tenant, outcome=outcome)
        return self.to_its_page(request, tenant, sentence, level)

    def suspend_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Suspend an organization for a reason that its admins read; for superusers."""
        tenant = self._by_staff(request, object_id)
        try:
            reason = _reason(request)
        except ValidationError as refusal:
            return self.to_its_page(request, tenant, str(refusal.message), messages.ERROR)
        with transaction.atomic():
            tenant = _locked(tenant)
            if tenant.deletion_begun_at is not None:
                return self.to_its_page(request, tenant, BEING_DELETED, messages.ERROR)
            tenant.suspend(reason)
            self.audit(request, "suspended", tenant, reason=reason)
        return self.to_its_page(request, tenant, "Suspended: nothing runs for it any more.", messages.SUCCESS)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Resume an organization; calls that wait for a person wait longer by the time it was suspended."""
        tenant = self._by_staff(request, object_id)
        with transaction.atomic():
            tenant = _locked(tenant)
            if tenant.deletion_begun_at is not None:
                return self.to_its_page(request, tenant, BEING_DELETED, messages.ERROR)
            if tenant.suspended_at is not None:
                pause = tenant.resume()
                # Calls belong to the app `tools`, which may not be imported here; the organization leads to them.
                waiting = tenant.calls.filter(waits_until__isnull=False, finished_at=None)
                waiting.update(waits_until=F("waits_until") + pause)
                told = Matter.objects.open().filter(connection__tenant=tenant, until__isnull=False)
                told.update(until=F("until") + pause)
                due = tenant.calls.filter(state="queued", finished_at=None, waits_until=None)  # and no login
                due.update(lease_until=timezone.now())
                self.audit(request, "resumed", tenant)
        return self.to_its_page(request, tenant, "Resumed: everything goes on.", messages.SUCCESS)

    def act_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have a superuser act in the organization for an hour, for a reason that its admins read."""
        tenant = self._by_staff(request, object_id)
        try:
            reason = _reason(request)
        except ValidationError as refusal:
            return self.to_its_page(request, tenant, str(refusal.message), messages.ERROR)
        visits.begin(request, person(request), tenant, reason)
        return self.to_its_page(request, tenant, f"You act in {tenant} now, as its admins do.", messages.SUCCESS)

    def leave_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have a superuser act there no longer."""
        tenant = self._by_staff(request, object_id)
        visits.stop(request, person(request))
        return self.to_its_page(request, tenant, "You only look at it again.", messages.SUCCESS)

    def _by_staff(self, request: HttpRequest, object_id: str) -> Tenant:
        tenant: Tenant = self.get_object(request, unquote(object_id))
        if not person(request).is_superuser:
            raise PermissionDenied
        return tenant

    def _new_secret(self, request: HttpRequest, tenant: Tenant) -> HttpResponse:
        """Answer with the secret itself; no cache, session or message keeps it."""
        secret = tenant.make_webhook_secret()
        if not secret:
            return self.to_its_page(request, tenant, QUICKER, messages.WARNING)
        self.audit(request, "webhook_secret_made", tenant)
        context = {
            **self.admin_site.each_context(request),
            "title": "Copy this signing secret now",
            "secret": secret,
            "back": self._page(tenant),
            "opts": self.opts,
        }
        response = TemplateResponse(request, "admin/connections/tenant/secret.html", context)
        add_never_cache_headers(response)
        return response

    def changed(self, request: HttpRequest, object_id: str) -> Tenant:
        """Return the organization, for somebody who may change it."""
        tenant: Tenant = self.get_object(request, unquote(object_id))
        if not self.is_admin(request, tenant):
            raise PermissionDenied
        return tenant

    def to_its_page(self, request: HttpRequest, tenant: Tenant, sentence: str, level: int) -> HttpResponse:
        """Say this on the organization's page."""
        self.message_user(request, sentence, level)
        return HttpResponseRedirect(self._page(tenant))

    @staticmethod
    def _page(tenant: Tenant) -> str:
        return reverse("admin:connections_tenant_change", args=[tenant.pk])


def _locked(tenant: Tenant) -> Tenant:
    """Return the organization as it is now, which nobody else changes before this transaction ends."""
    return get_object_or_404(Tenant.objects.select_for_update(no_key=True), pk=tenant.pk)


def _reason(request: HttpRequest) -> str:
    """Return why staff do something to an organization; raises ValidationError."""
    try:
        return str(NameField(max_length=visits.LONGEST_REASON).clean(request.POST.get("reason")))
    except ValidationError as refusal:
        raise ValidationError(f"Say why, as its admins read it. {refusal.messages[0]}") from refusal
