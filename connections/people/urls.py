"""The addresses of people: coming in, one's own account, and django-allauth's pages of second factors.

The names that begin with `account_` and `mfa_` are those that django-allauth looks for.
"""

from __future__ import annotations

from typing import Any

from allauth.account.views import ReauthenticateView
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.base.views import ReauthenticateView as ReauthenticateByCodeView
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.views import (
    AddWebAuthnView,
    LoginWebAuthnView,
    ReauthenticateWebAuthnView,
    RemoveWebAuthnView,
)
from django.contrib import admin
from django.urls import URLPattern, path
from django.views.generic import RedirectView

from connections.people import account, company_pages, views
from connections.people.account import frame
from connections.people.second_factor import limited


def _theirs(address: str, name: str, view: Any, title: str) -> URLPattern:
    """Return the address of a page of django-allauth in our frame, with our limit of tries."""
    return path(f"account/{address}/", limited(view.as_view(extra_context=frame(title))), name=name)


_sign_in = RedirectView.as_view(pattern_name="admin:login", query_string=True)

urlpatterns = [
    path("join/", views.join, name="join"),
    path("start/", views.start, name="start"),
    path("account/", account.show, name="account"),
    path("account/", account.show, name="mfa_index"),
    path("account/", account.show, name="mfa_list_webauthn"),
    path("account/organization/", account.choose_organization, name="choose-organization"),
    path("account/email/", account.change_email, name="change-email"),
    path("account/new-email/", account.new_email, name="new-email"),
    path("account/browsers/<uuid:browser_id>/end/", account.end, name="end-browser"),
    path("account/browsers/end-others/", account.end_others, name="end-other-browsers"),
    path("account/forgotten/", views.forgotten, name="forgotten"),
    path("account/new-password/", views.new_password, name="new-password"),
    path("account/company/", company_pages.way_in, name="company"),
    path("account/company/callback", company_pages.callback, name="company-callback"),
    path(
        "admin/connections/tenant/<uuid:tenant_id>/company/",
        admin.site.admin_view(company_pages.set_up),
        name="company-set-up",
    ),
    path("account/sign-in/", _sign_in, name="account_login"),
    _theirs("confirm", "account_reauthenticate", ReauthenticateView, "Confirm that it is you"),
    _theirs("confirm/code", "mfa_reauthenticate", ReauthenticateByCodeView, "Confirm that it is you"),
    _theirs("confirm/key", "mfa_reauthenticate_webauthn", ReauthenticateWebAuthnView, "Confirm that it is you"),
    _theirs("second-factor", "mfa_authenticate", AuthenticateView, "Second factor"),
    _theirs("app/set-up", "mfa_activate_totp", ActivateTOTPView, "Authenticator app"),
    _theirs("app/remove", "mfa_deactivate_totp", DeactivateTOTPView, "Remove the authenticator app"),
    _theirs("codes", "mfa_view_recovery_codes", ViewRecoveryCodesView, "Recovery codes"),
    _theirs("codes/new", "mfa_generate_recovery_codes", GenerateRecoveryCodesView, "New recovery codes"),
    _theirs("keys/add", "mfa_add_webauthn", AddWebAuthnView, "Add a passkey"),
    _theirs("keys/<int:pk>/remove", "mfa_remove_webauthn", RemoveWebAuthnView, "Remove a passkey"),
    _theirs("keys/sign-in", "mfa_login_webauthn", LoginWebAuthnView, "Sign in"),
]
