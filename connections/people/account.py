"""The pages of one's own account: address, password, second factor, and the browsers in which one is signed in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.sites import site
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from connections import moments
from connections.digests import keyed
from connections.logins import record
from connections.models import BrowserSession, Role
from connections.people import resetting, second_factor
from connections.people.forms import AddressForm
from connections.tenancy import person

ORGANIZATION = "organization"  # in the session: the one of several that was chosen


@never_cache
@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show what there is about oneself."""
    return _page(request, AddressForm())


@never_cache
@login_required
@require_POST
def change_email(request: HttpRequest) -> HttpResponse:
    """Mail a link to a new address."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return _page(request, form)
    if settings.EMAIL_BACKEND == settings.NO_MAIL:
        form.add_error("email", "This installation sends no mail. Ask the staff of the platform to change it.")
        return _page(request, form)
    resetting.ask_about(person(request), form.cleaned_data["email"])
    messages.info(request, f"Open the link in the mail to {form.cleaned_data['email']}. Until then nothing changes.")
    return redirect("account")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_email(request: HttpRequest) -> HttpResponse:
    """Take a new address whose link was opened; opening it changes nothing yet."""
    user = person(request)
    email = resetting.address_in(request.GET.get("key", ""), user)
    if request.method == "POST" and email:
        resetting.take_address(user, email, request)
        messages.success(request, f"You are mailed at {email} from now on.")
        return redirect("account")
    context = {**frame("Your new e-mail address"), "email": email}
    return render(request, "people/new_email.html", context, status=200 if email else 410)


@login_required
@require_POST
def end(request: HttpRequest, browser_id: UUID) -> HttpResponse:
    """Sign out of one browser."""
    user = person(request)
    row = get_object_or_404(BrowserSession, pk=browser_id, user=user)
    user.end_browsers(but=user.browsers.exclude(pk=row.pk).values_list("key", flat=True))
    record(user, "user.session_ended", user, request, browser=row.name)
    messages.success(request, "That browser is signed out.")
    return redirect("account")


@login_required
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """Sign out of every browser but this one."""
    user = person(request)
    ended = user.end_browsers(but=_here(request))
    record(user, "user.session_ended", user, request, browsers=ended)
    messages.success(request, "Only this browser is signed in now.")
    return redirect("account")


@login_required
@require_POST
def choose_organization(request: HttpRequest) -> HttpResponse:
    """Show only one organization in this browser from now on, or all of one's own again."""
    chosen = request.POST.get("organization", "")
    if any(str(one.tenant) == chosen for one in person(request).belongs_to):
        request.session[ORGANIZATION] = chosen
    else:
        request.session.pop(ORGANIZATION, None)
    return redirect("admin:index")


def frame(title: str) -> dict[str, Any]:
    """Return what the admin's templates want to know of a page that is none of the site's."""
    return {"title": title, "site_title": second_factor.PRODUCT, "site_header": second_factor.PRODUCT}


def _here(request: HttpRequest) -> list[str]:
    return keyed("session", request.session.session_key or "")


def _page(request: HttpRequest, form: AddressForm) -> HttpResponse:
    user = person(request)
    timezone.activate(moments.zone_of(user.time_zone))
    factors = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    codes = next((row for row in factors if row.type == Authenticator.Type.RECOVERY_CODES), None)
    context = {
        **site.each_context(request),
        "title": "Your account",
        "form": form,
        "app": next((row for row in factors if row.type == Authenticator.Type.TOTP), None),
        "keys": [row for row in factors if row.type == Authenticator.Type.WEBAUTHN],
        "codes": codes,
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
        "missing": second_factor.is_missing(user),
        "passkeys": second_factor.offers_passkeys(),
        "browsers": user.browsers.all()[:50],
        "here": _here(request),
        "memberships": [(one.name, Role(one.role).label) for one in user.belongs_to],
    }
    return render(request, "people/account.html", context)
