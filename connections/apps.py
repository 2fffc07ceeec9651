"""The Django app configuration."""

from __future__ import annotations

from django.apps import AppConfig


class ConnectionsConfig(AppConfig):
    """Who may reach what, with which secret."""

    name = "connections"

    def ready(self) -> None:
        """Register the deploy checks, and the signal handlers that record sign-ins."""
        from connections import checks, logins  # noqa: F401, PLC0415 - Django wants them imported once apps are ready
