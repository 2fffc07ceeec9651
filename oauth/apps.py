"""The room's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class OAuthConfig(AppConfig):
    """How a connection gets, renews and loses its tokens."""

    name = "oauth"
    verbose_name = "Sign-ins"
