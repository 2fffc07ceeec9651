"""The pages of signing in with one's company: the way in, the way back, and what an admin sets up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

from csp.decorators import csp_update
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.sites import site
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from connections import audit, egress, throttle
from connections.clients import address_of, share_of
from connections.errors import DuvoError, TooManyTries
from connections.models import Company, MailDomain, Tenant, User
from connections.people import company, openid, second_factor
from connections.people.account import frame
from connections.tenancy import TenantAdmin, person
from connections.throttle import Bucket

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Company]
else:
    _ModelForm = forms.ModelForm

OF_ADDRESS = (20, 1 / 10)  # visits begun at once, and per second after that
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


# --- the way in, and back ---


class WhoForm(forms.Form):
    """Whose company it is."""

    email = forms.EmailField(
        label="E-mail address", help_text="As your company knows it.",
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )  # fmt: skip


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def way_in(request: HttpRequest) -> HttpResponseBase:
    """Ask for an address, and lead to the provider of its domain."""
    asked = _asked_for(request)
    form = WhoForm(request.POST or None)
    if request.method == "POST" and (asked or form.is_valid()):
        email = "" if asked else form.cleaned_data["email"]
        row = asked or company.of_address(email)
        if row is None:
            form.add_error("email", "No organization signs in with its company at this address. Use your password.")
        else:
            try:
                return HttpResponseRedirect(_begun(request, row, email))
            except DuvoError as failure:
                if isinstance(failure, TooManyTries):
                    raise
                return _failed(request, failure)
    context = {**frame("Sign in with your company"), "form": form, "asked": asked, "next": request.GET.get("next", "")}
    page = render(request, "people/company.html", context)
    # Browsers apply the page's form-action to the redirect after the form, and to the provider's own redirects.
    schemes = ["https:", "http:"] if settings.EGRESS_ALLOWED_NETWORKS else ["https:"]
    answer: HttpResponseBase = csp_update({"form-action": schemes})(lambda _: page)(request)
    return answer


@never_cache
@require_safe
def callback(request: HttpRequest) -> HttpResponseBase:
    """Let in who comes back from the provider, after their second factor here if they have one."""
    try:
        arrived = company.complete(request)
    except DuvoError as failure:
        return _failed(request, failure)
    answer = second_factor.begin(request, arrived.person, arrived.address, through="company")
    company.note(request, arrived)
    return answer


def _asked_for(request: HttpRequest) -> Company | None:
    """Return the provider that the person's own organization requires."""
    user, named = request.user, request.GET.get("organization", "")
    if not isinstance(user, User):
        return None
    mine = [one.tenant for one in user.belongs_to if str(one.tenant) == named]
    return Company.objects.select_related("tenant").filter(tenant__in=mine).first()


def _begun(request: HttpRequest, row: Company, email: str) -> str:
    if wait := throttle.take(Bucket(f"company:{share_of(address_of(request)) or 'unknown'}", *OF_ADDRESS)):
        raise TooManyTries("Visits were begun too often.", retry_after=wait)
    to = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(to, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return company.begin(row, request, email=email, address=to if safe else reverse("admin:index"))


def _failed(request: HttpRequest, failure: DuvoError) -> HttpResponse:
    return render(
        request, "people/company_failed.html", frame("You are not signed in") | {"failure": failure}, status=403
    )


# --- what an admin sets up ---


class CompanyForm(_ModelForm):
    """An organization's provider."""

    client_secret = forms.CharField(
        label="Client secret", required=False, max_length=2_000, help_text="Sealed, and never shown again.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    domains = forms.CharField(
        label="Mail domains", required=False, max_length=5_000,
        help_text="Whose addresses sign in there, separated by spaces. Make sure that they are this organization's.",
    )  # fmt: skip

    class Meta:
        model = Company
        fields = ["issuer", "client_id", "default_role", "required"]
        labels = {
            "issuer": "Issuer", "client_id": "Client ID", "default_role": "Role of who comes in for the first time",
            "required": "Nobody comes in without it",
        }  # fmt: skip
        help_texts = {
            "issuer": "As the provider's configuration has it, such as https://login.acme.example.",
            "required": "Sign in with it yourself first: then it works. Staff of the platform can undo this.",
        }

    def __init__(self, *args: Any, by_staff: bool, came_in: bool, **kwargs: Any) -> None:
        """Take whether staff fill it in, who alone say whose a domain is, and whether it has let this person in."""
        super().__init__(*args, **kwargs)
        self.came_in = came_in or by_staff
        if by_staff:
            mine = self.instance.domains.values_list("name", flat=True) if self.instance.pk else []
            self.fields["domains"].initial = " ".join(mine)
        else:
            del self.fields["domains"]

    def clean_domains(self) -> list[str]:
        """Return the domains; raises ValidationError for what is none, or another organization's."""
        names = sorted(
            {name.lower().removeprefix("@") for name in self.cleaned_data["domains"].replace(",", " ").split()}
        )
        if wrong := [name for name in names if not _DOMAIN.fullmatch(name)]:
            raise ValidationError(f"{wrong[0]} is not a mail domain such as acme.example.")
        theirs = MailDomain.objects.filter(name__in=names).exclude(company=self.instance.pk).first()
        if theirs is not None:
            raise ValidationError(f"{theirs.name} is another organization's: {theirs.company.tenant.told_apart}.")
        return names

    def clean_required(self) -> bool:
        """Refuse to shut everybody out by a provider that has never let in the person who asks for it."""
        required = bool(self.cleaned_data["required"])
        if required and not self.came_in and not self.initial.get("required"):
            raise ValidationError("Sign out and in again with your company first, so that it is sure to work.")
        return required

    def clean(self) -> dict[str, Any]:
        """Have the provider answer, and the secret be there for it."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        issuer = data.get("issuer")
        if not issuer:
            return data
        moved = egress.origin(issuer) != egress.origin(self.initial.get("issuer") or "")
        if moved and not data.get("client_secret"):
            self.add_error("client_secret", "Enter the secret that this provider gave you.")
        if issuer != self.initial.get("issuer"):
            try:
                openid.discover(issuer)
            except DuvoError as refusal:
                self.add_error("issuer", ValidationError(refusal.sentence, code=refusal.code))
        return data

    def save(self, commit: bool = True) -> Company:
        """Write the row with its secret, and its domains where staff say them."""
        row: Company = super().save(commit=False)
        if self.cleaned_data["client_secret"]:
            row.seal_secret(self.cleaned_data["client_secret"])
        with transaction.atomic():
            row.save()
            if "issuer" in self.changed_data:
                row.identities.all().delete()  # a subject is somebody of one issuer
            if "domains" in self.cleaned_data:
                row.domains.exclude(name__in=self.cleaned_data["domains"]).delete()
                for name in self.cleaned_data["domains"]:
                    MailDomain.objects.get_or_create(name=name, company=row)
        return row


@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    """Show and change an organization's provider; `remove` has it forgotten."""
    page = site.get_model_admin(Tenant)
    assert isinstance(page, TenantAdmin)  # noqa: S101 - as it was registered
    tenant: Tenant = page.get_object(request, str(tenant_id))
    if not page.is_admin(request, tenant):
        raise PermissionDenied
    user = person(request)
    row = Company.objects.filter(tenant=tenant).first()
    if request.method == "POST" and "remove" in request.POST and row is not None:
        with transaction.atomic():
            audit.record(user, "company.deleted", row, tenant=tenant)
            row.delete()
        messages.success(request, "People sign in with their passwords now.")
        return redirect("admin:connections_tenant_change", tenant.pk)
    came_in = str(tenant.pk) in company.came_through(user, request)
    form = CompanyForm(
        request.POST or None, instance=row or Company(tenant=tenant), by_staff=user.is_superuser, came_in=came_in
    )
    if request.method == "POST" and form.is_valid():
        try:
            saved = form.save()
        except IntegrityError:  # somebody has taken a domain at this moment
            return redirect(request.get_full_path())
        audit.record(
            user, "company.changed" if row else "company.created", saved, tenant=tenant, fields=form.changed_data
        )
        messages.success(request, "Saved.")
        return redirect(request.get_full_path())
    context = {
        **site.each_context(request),
        "title": "Sign in with your company",
        "tenant": tenant,
        "form": form,
        "row": row,
        "domains": list(row.domains.all()) if row else [],
        "redirect_uri": company.redirect_uri(),
    }
    return render(request, "people/company_set_up.html", context)
