"""The pages behind a link: coming in, and founding an installation's first organization."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from connections.models import Invitation, Membership, Tenant, User
from connections.people import inviting, resetting, second_factor, starting
from connections.people.account import frame
from connections.people.forms import ForgottenForm, FoundForm, JoinForm, NewPasswordForm
from connections.people.inviting import Door, LinkIsOver, Standing

BACKEND = "connections.passwords.Backend"
_STATUS = {Standing.UNKNOWN: 404, Standing.TAKEN: 410, Standing.EXPIRED: 410, Standing.ANOTHER: 403}
_TITLES = {
    Standing.UNKNOWN: "This link opens nothing",
    Standing.TAKEN: "This link was used",
    Standing.EXPIRED: "This link has expired",
    Standing.ANOTHER: "This invitation is for somebody else",
}


@sensitive_post_parameters("password1", "password2")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """Show what a link is for, and let the person for whom it was made come in."""
    visitor = request.user if isinstance(request.user, User) else None
    door = inviting.open_link(request.GET.get("key", ""), visitor, timezone.now())
    match door:
        case Door(standing=Standing.JOIN, invitation=Invitation() as invitation) if visitor is not None:
            return _join_as(request, door, invitation, visitor)
        case Door(standing=Standing.NEW, invitation=Invitation() as invitation):
            return _join_as_new(request, door, invitation)
    return _page(request, door)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def start(request: HttpRequest) -> HttpResponse:
    """Have a superuser who belongs to no organization found one."""
    user = request.user
    if not (isinstance(user, User) and user.is_active):
        return redirect_to_login(request.get_full_path())
    if not user.is_superuser:
        raise PermissionDenied
    if user.roles:
        return redirect("admin:index")
    form = FoundForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        tenant = starting.found(user, form.cleaned_data["name"])
        messages.success(request, f"{tenant} is there, and you are its admin.")
        return redirect("admin:index")
    context = {**frame("Your organization"), "form": form, "step": 2, "others": Tenant.objects.exists()}
    return render(request, "people/start.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def forgotten(request: HttpRequest) -> HttpResponse:
    """Have a link to a new password mailed; the answer is the same whether somebody has the address or not."""
    form = ForgottenForm(request.POST or None)
    asked = request.method == "POST" and form.is_valid()
    if asked:
        resetting.ask(form.cleaned_data["name"], request)
    silent = settings.EMAIL_BACKEND == settings.NO_MAIL
    context = {**frame("Forgotten password"), "form": form, "asked": asked, "silent": silent}
    return render(request, "people/forgotten.html", context)


@sensitive_post_parameters("password1", "password2")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new_password(request: HttpRequest) -> HttpResponse:
    """Set a new password for whom the link was mailed, once."""
    user = resetting.person_of(request.GET.get("key", ""))
    if user is None:
        return render(request, "people/new_password.html", frame("This link opens nothing"), status=410)
    form = NewPasswordForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        form.set_password_and_save(user)
        if user.prove_address():  # who made the account without having the mailbox may have left a second factor
            second_factor.take_away(user)
        messages.success(request, "Your password is the new one. Every browser has to sign in again.")
        return redirect("admin:login")
    return render(request, "people/new_password.html", frame("A new password") | {"form": form, "person": user})


def _join_as(request: HttpRequest, door: Door, invitation: Invitation, person: User) -> HttpResponse:
    if request.method != "POST":
        return _page(request, door)
    try:
        membership = inviting.join(invitation, person, timezone.now())
    except LinkIsOver:
        return _again(request)
    return _welcome(request, membership)


def _join_as_new(request: HttpRequest, door: Door, invitation: Invitation) -> HttpResponse:
    form = JoinForm(request.POST or None, email=invitation.email)
    if request.method != "POST" or not form.is_valid():
        return _page(request, door, form=form)
    person = form.person_with_password()  # half a second, before the transaction begins
    person.address_proved = invitation.mailed_at is not None
    try:
        with transaction.atomic():
            person.save()
            membership = inviting.join(invitation, person, timezone.now())
    except (LinkIsOver, IntegrityError):  # at this moment somebody took the link, or the name to sign in with
        return _again(request)
    login(request, person, backend=BACKEND)
    return _welcome(request, membership)


def _again(request: HttpRequest) -> HttpResponse:
    """Have the page shown as it is now."""
    return HttpResponseRedirect(request.get_full_path())


def _welcome(request: HttpRequest, membership: Membership | None) -> HttpResponse:
    if membership is None:
        return redirect("start")
    messages.success(request, f"Welcome to {membership.tenant}. Your role is {membership.get_role_display().lower()}.")
    return redirect("admin:index")


def _page(request: HttpRequest, door: Door, **more: Any) -> HttpResponse:
    invitation = door.invitation
    founding = invitation is not None and invitation.tenant is None
    title = "You" if founding else f"Join {invitation.tenant}" if invitation else ""
    context = {
        **frame(_TITLES.get(door.standing, title)),
        "standing": door.standing.value,
        "invitation": invitation,
        "here": request.get_full_path(),
        "home": reverse("admin:index"),
        "step": 1 if founding else 0,
    }
    return render(request, "people/join.html", context | more, status=_STATUS.get(door.standing, 200))
