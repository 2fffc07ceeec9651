"""The Django app configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_delete


class ConnectionsConfig(AppConfig):
    """Who may reach what, with which secret."""

    name = "connections"

    def ready(self) -> None:
        """Register the deploy checks, and the handlers that record sign-ins and forget what leavers have entered."""
        from connections import checks, logins, personal  # noqa: F401, PLC0415 - Django wants them once apps are ready

        post_delete.connect(
            personal.forget_leaver, sender="connections.Membership", dispatch_uid="connections.forget_leaver"
        )
