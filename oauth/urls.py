"""The URLs of this package: what browsers and authorization servers request, and the buttons of the admin."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpResponse
from django.urls import URLPattern, path

from oauth import views

app_name = "oauth"


def _button(name: str, view: Callable[..., HttpResponse]) -> URLPattern:
    """Return the URL pattern of a button on a connection's page, for people who are signed in to the admin."""
    address = f"admin/connections/connection/<uuid:connection_id>/{name}/"
    return path(address, admin.site.admin_view(view), name=name.replace("-", "_"))


urlpatterns = [
    path("v1/oauth/mcp/callback", views.callback, name="callback"),
    path("v1/oauth/mcp/client.json", views.client_metadata, name="client"),
    path("v1/oauth/mcp/keys/<uuid:connection_id>.json", views.key_set, name="keys"),
    _button("sign-in", views.sign_in),
    _button("sign-out", views.sign_out),
    _button("check-sign-in", views.check_sign_in),
    _button("register-again", views.register_again),
    _button("take-offered-method", views.take_offered_method),
    path(
        "admin/connections/connection/check-sign-in/",
        admin.site.admin_view(views.check_before_saving),
        name="check_before_saving",
    ),
]
