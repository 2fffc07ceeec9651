"""The pages of the admin about people: members and their roles, invitations, and the platform's users."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from connections import moments
from connections.columns import stamp
from connections.errors import DuvoError, TryLater
from connections.filters import TenantFilter
from connections.forms import MembershipForm, NewUserForm, UserForm
from connections.logins import record
from connections.models import Invitation, Membership, User
from connections.people import inviting, leaving, second_factor
from connections.people.forms import InvitationForm
from connections.tenancy import ADMINS, ADMINS_AND_AUDITORS, ReadOnlyAdmin, SuperuserAdmin, TenantAdmin, person

SHOWN = 10  # pending invitations on the page of members


@admin.register(Membership)
class MembershipAdmin(TenantAdmin):
    """Who belongs to an organization, and in which role."""

    form = MembershipForm
    list_display = ["who", "tenant", "role", stamp("created_at", "since")]
    list_filter = [TenantFilter, "role"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__username"]
    actions = None  # one by one: each removal asks whether an admin is left
    change_list_template = "admin/connections/membership/change_list.html"
    change_form_template = "admin/connections/membership/change_form.html"
    delete_confirmation_template = "admin/connections/membership/delete_confirmation.html"

    @admin.display(description="person", ordering="user__username")
    def who(self, membership: Membership) -> SafeString:
        """Show the name that they sign in with, and what they are called."""
        user = membership.user
        return format_html('{} <span class="host">{}</span>', user.get_username(), user.get_full_name())

    @admin.display(description="person")
    def member(self, membership: Membership) -> str:
        """Show who it is; a link would lead to a page that only staff may open."""
        return membership.user.get_username()

    @admin.display(description="organization")
    def organization(self, membership: Membership) -> str:
        """Show where."""
        return membership.tenant.name

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what a person is mailed about to those who may change it."""
        if obj is None:
            return ["user", "tenant", "role", "unmailed"]
        unmailed = ["unmailed"] if self.has_change_permission(request, obj) else []
        return ["member", "organization", "role", *unmailed]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Fix the person and the organization of an existing membership."""
        return ["member", "organization"] if obj else []

    def get_list_display(self, request: HttpRequest) -> Any:
        """Name the organization only to those who see several."""
        user = person(request)
        several = user.sees_every_organization or len(user.roles) > 1
        return [column for column in super().get_list_display(request) if several or column != "tenant"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let superusers add members, of the organization in which they act."""
        return person(request).is_superuser and super().has_add_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the members below the invitations that nobody has taken yet."""
        page = self.admin_site.get_model_admin(Invitation)
        pending: QuerySet[Any] = page.get_queryset(request).filter(accepted_at=None).select_related("tenant")
        shown = list(pending[: SHOWN + 1]) if page.has_view_permission(request) else []
        may_invite = page.has_add_permission(request)
        context = {"pending": shown[:SHOWN], "more_pending": len(shown) > SHOWN, "may_invite": may_invite}
        user = person(request)
        several = user.sees_every_organization or len(user.roles) > 1
        return super().changelist_view(
            request, context | {"several": several, "now": timezone.now()} | (extra_context or {})
        )

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Remove a member, unless nobody could change the organization any more; say first what that ends."""
        row = self.get_object(request, unquote(object_id))
        ends = {"ends": leaving.belongings(row), "title": f"Remove {row.user.get_username()}"}
        try:
            return super().delete_view(request, object_id, ends | (extra_context or {}))
        except ValidationError as refusal:
            self.message_user(request, refusal.message, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:connections_membership_change", args=[row.pk]))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:  # type: ignore[override]
        """Record who was removed, and what ended with that."""
        for row in queryset:
            ends = leaving.belongings(row)
            self.audit(request, "deleted", row, tokens_ended=ends.tokens, sign_ins_ended=ends.sign_ins)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Remove the member; raises ValidationError for the last admin."""
        leaving.remove(obj)


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Who is invited into an organization; a link is sent, sent again, or withdrawn."""

    seen_by = ADMINS_AND_AUDITORS
    empty_sentence = "Nobody is invited at the moment. Invite somebody, and they get a mail with a link."
    list_display = ["email", "tenant", "role", "state", "inviter"]
    list_filter = [TenantFilter, "role"]
    list_select_related = ["tenant", "invited_by"]
    search_fields = ["email"]
    fields = ["email", "organization", "role", "state", "inviter", "created_at", "mailed_at", "accepted_at"]
    readonly_fields = ["organization", "state", "inviter"]
    actions = None
    change_form_template = "admin/connections/invitation/change_form.html"
    add_form_template = "admin/connections/invitation/add.html"

    @admin.display(description="state", ordering="expires_at")
    def state(self, invitation: Invitation) -> str:
        """Show what became of it."""
        if invitation.accepted_at is not None:
            return f"Taken on {timezone.localdate(invitation.accepted_at)}"
        until = moments.shown(invitation.expires_at)
        return f"Expired on {until}" if invitation.has_expired(timezone.now()) else f"Its link works until {until}"

    @admin.display(description="invited by", ordering="invited_by__username")
    def inviter(self, invitation: Invitation) -> str:
        """Show who invited them."""
        return invitation.invited_by.get_username() if invitation.invited_by else "–"

    @admin.display(description="organization")
    def organization(self, invitation: Invitation) -> str:
        """Show where to."""
        return invitation.tenant.name if invitation.tenant else "–"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the invitations into organizations; the one that starts everything is nobody's to see."""
        return super().get_queryset(request).filter(tenant__isnull=False)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let admins invite."""
        return self._may_invite(request, None)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes the row: an invitation is withdrawn, or forgotten after 90 days."""
        return False

    def _may_invite(self, request: HttpRequest, row: Invitation | None) -> bool:
        return self._has_role(request, ADMINS, row)

    # --- inviting ---

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """Ask whom to invite and as what, and send the link."""
        if elsewhere := self.without_organization(request):
            return elsewhere
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = InvitationForm(request.POST or None, user=person(request))
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            tenant = form.tenant or data["tenant"]
            by, now = person(request), timezone.now()
            try:
                link = inviting.invite(tenant, data["email"], data["role"], data["days"], by=by, now=now)
            except inviting.NotSent as failure:
                return self._back(request, f"{data['email']} is invited. {failure.sentence}", messages.WARNING)
            return self._sent(request, data["email"], link)
        context = {"title": "Invite somebody", "form": form, "opts": self.opts}
        frame = self.admin_site.each_context(request)
        return TemplateResponse(request, self.add_form_template, frame | context | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False,
        form_url: str = "", obj: Any = None,
    ) -> HttpResponse:  # fmt: skip
        """Show the buttons to those who may press them."""
        context["may_invite"] = self._may_invite(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/send/", view(require_POST(self.send_view)), name="connections_invitation_send"),
            path(
                "<path:object_id>/withdraw/",
                view(require_POST(self.withdraw_view)),
                name="connections_invitation_withdraw",
            ),
            *super().get_urls(),
        ]

    def send_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a new link; every earlier one opens nothing any more."""
        invitation = self._changed(request, object_id)
        try:
            link = inviting.send_again(invitation, by=person(request), now=timezone.now())
        except TryLater:
            raise
        except DuvoError as failure:
            return self._back(request, failure.sentence, messages.WARNING)
        return self._sent(request, invitation.email, link)

    def withdraw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Withdraw an invitation."""
        invitation = self._changed(request, object_id)
        inviting.withdraw(invitation, person(request))
        return self._back(request, f"The link of {invitation.email} opens nothing any more.", messages.SUCCESS)

    def _changed(self, request: HttpRequest, object_id: str) -> Invitation:
        invitation: Invitation = self.get_object(request, unquote(object_id))
        if not self._may_invite(request, invitation):
            raise PermissionDenied
        return invitation

    def _sent(self, request: HttpRequest, email: str, link: str) -> HttpResponse:
        """Say that the mail is on its way; without a mail server show the link itself, this once."""
        if not link:
            return self._back(request, f"The mail with the link is on its way to {email}.", messages.SUCCESS)
        context = {
            **self.admin_site.each_context(request),
            "title": "Hand this link over yourself",
            "email": email,
            "link": link,
            "opts": self.opts,
        }
        response = TemplateResponse(request, "admin/connections/invitation/link.html", context)
        add_never_cache_headers(response)
        return response

    def _back(self, request: HttpRequest, sentence: str, level: int) -> HttpResponse:
        self.message_user(request, sentence, level)
        return HttpResponseRedirect(reverse("admin:connections_membership_changelist"))


@admin.register(User)
class UserAdmin(SuperuserAdmin, StockUserAdmin):  # type: ignore[type-arg]
    """People of the platform; what they see follows from their memberships."""

    form = UserForm
    add_form = NewUserForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Platform", {"fields": ("is_active", "is_reviewer", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_reviewer", "is_superuser", "is_active")
    list_filter = ("is_reviewer", "is_superuser", "is_active")
    filter_horizontal = ()
    change_form_template = "admin/connections/user/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        view = self.admin_site.admin_view(require_POST(self.without_factor_view))
        return [
            path("<path:object_id>/without-factor/", view, name="connections_user_without_factor"),
            *super().get_urls(),
        ]

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Record the change for the platform, and for each organization whose person it is."""
        super().log_change(request, obj, message)
        entries = message if isinstance(message, list) else []
        fields = [field for entry in entries for field in entry.get("changed", {}).get("fields", [])]
        if fields and obj.memberships.exists():
            record(person(request), "user.changed", obj, request, fields=fields)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the button to take a second factor away where there is one."""
        row = context.get("original")
        context["has_factor"] = row is not None and second_factor.is_set_up(row)
        return super().render_change_form(request, context, *args, **kwargs)

    def without_factor_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the second factor of a person away who has lost it; with the password they set up another one."""
        user: User = self.get_object(request, unquote(object_id))
        removed = second_factor.take_away(user)
        record(person(request), "user.second_factor_taken_away", user, request, removed=removed)
        self.message_user(request, f"{user.get_username()} signs in with the password alone now.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:connections_user_change", args=[user.pk]))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Keep people without whom an organization would have no admin."""
        rows, counts, lacking, protected = super().get_deleted_objects(objs, request)
        alone = [f"{tenant} has no other admin" for tenant in leaving.without_admin([user.pk for user in objs])]
        return rows, counts, lacking, [*protected, *alone]
