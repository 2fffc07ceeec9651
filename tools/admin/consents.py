"""Whom the owner of an assignment lets act in their name; only the owner gives and withdraws consent."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from connections.models import ACTING, Membership, Role
from connections.tenancy import TenantAdmin, person
from tools.calls import acting
from tools.models import Assignment, OwnerNotice


class ConsentForm(forms.Form):
    """Which other admin of the organization may act in the owner's name."""

    person = forms.ModelChoiceField(label="Admin", queryset=Membership.objects.none(), empty_label=None)

    def __init__(self, *args: Any, owner: Membership, assignment: Assignment, **kwargs: Any) -> None:
        """Offer the other admins who have no consent yet."""
        super().__init__(*args, **kwargs)
        others = Membership.objects.filter(tenant=owner.tenant_id, role=Role.ADMIN, user__is_active=True)
        others = others.exclude(pk=owner.pk).exclude(pk__in=assignment.consents.filter(owner=owner).values("person"))
        field = self.fields["person"]
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = others.select_related("user")


class ConsentAdmin(TenantAdmin):
    """The part of an assignment's page about the people in whose name it acts."""

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the buttons."""
        view = self.admin_site.admin_view
        buttons = {"consent": self.consent_view, "withdraw": self.withdraw_view, "seen": self.seen_view}
        return [
            *(
                path(f"<path:object_id>/{name}/", view(require_POST(button)), name=f"tools_assignment_{name}")
                for name, button in buttons.items()
            ),
            *super().get_urls(),
        ]

    def consents_of(self, request: HttpRequest, assignment: Assignment) -> dict[str, Any]:
        """Return the context of the page: the owner, whether calls act for them, consents, and unseen notices."""
        owner, viewer = acting.owner_of(assignment), person(request)
        mine = owner if owner is not None and owner.user_id == viewer.pk else None
        reaches = acting.reaches(assignment)
        given = assignment.consents.filter(owner=owner).select_related("person__user") if owner else []
        return {
            "owner": owner,
            "owner_acts": owner is not None and owner.role in ACTING and owner.user.is_active,
            "reaches": reaches,
            "mine": mine,
            "kept_out": acting.refusal_for(viewer, assignment) if reaches else "",
            "consents": given,
            "consent_form": ConsentForm(owner=mine, assignment=assignment, auto_id="consent_%s") if mine else None,
            "told": self._told(request, assignment),
        }

    def consent_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let another admin edit the assignment and issue tokens for it, in the owner's name."""
        assignment, owner = self._get_owned(request, object_id)
        if owner.role not in ACTING or assignment.tenant.suspended_at is not None:
            raise PermissionDenied  # there is nothing to let others do
        form = ConsentForm(request.POST, owner=owner, assignment=assignment)
        if not form.is_valid():
            self.message_user(request, "Choose an admin of your organization who has no consent yet.", messages.ERROR)
            return self._to_its_page(assignment)
        chosen: Membership = form.cleaned_data["person"]
        with transaction.atomic():
            acting.consent(assignment, owner, chosen)
            self.audit(request, "consent_given", assignment, person=chosen.user.get_username())
        self.message_user(request, f"{chosen.user.get_username()} may act in your name here.", messages.SUCCESS)
        return self._to_its_page(assignment)

    def withdraw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Withdraw a consent: tokens that were issued under it act for the owner no longer."""
        assignment, owner = self._get_owned(request, object_id)
        number = request.POST.get("consent", "")
        pk = int(number[:18]) if number.isascii() and number.isdigit() else 0
        given = get_object_or_404(assignment.consents.filter(owner=owner).select_related("person__user"), pk=pk)
        name = given.person.user.get_username()
        with transaction.atomic():
            given.delete()
            self.audit(request, "consent_withdrawn", assignment, person=name)
        self.message_user(request, f"{name} may no longer act in your name here.", messages.SUCCESS)
        return self._to_its_page(assignment)

    def seen_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Mark the owner's notices as seen, which takes them off the start page."""
        assignment, _ = self._get_owned(request, object_id)
        self._told(request, assignment).mark_seen()
        return self._to_its_page(assignment)

    def _get_owned(self, request: HttpRequest, object_id: str) -> tuple[Assignment, Membership]:
        """Return an assignment of this very person; raises PermissionDenied for that of somebody else."""
        assignment: Assignment = self.get_object(request, unquote(object_id))
        owner = acting.owner_of(assignment)
        if owner is None or owner.user_id != person(request).pk:
            raise PermissionDenied
        return assignment, owner

    @staticmethod
    def _told(request: HttpRequest, assignment: Assignment) -> Any:
        return OwnerNotice.objects.filter(assignment=assignment, owner=person(request), seen_at=None)

    @staticmethod
    def _to_its_page(assignment: Assignment) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:tools_assignment_change", args=[assignment.pk]))
