"""The room's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class ConnectionsConfig(AppConfig):
    """Who may reach what, with which secret."""

    name = "connections"

    def ready(self) -> None:
        """Register the deploy checks."""
        from connections import checks  # noqa: F401, PLC0415 - Django wants checks imported once apps are ready
