"""The Django app configuration."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_save


class ToolsConfig(AppConfig):
    """The app `tools`: what a tenant does with a connection."""

    name = "tools"

    def ready(self) -> None:
        """Let calls that wait for a login go on when a sign-in, or a key of somebody's own, is stored."""
        for sender in ("oauth.SignIn", "connections.Credential"):
            post_save.connect(_let_go_on, sender=sender, dispatch_uid=f"tools.logins.{sender}")


def _let_go_on(instance: Any, **_: Any) -> None:
    from tools.calls import logins  # noqa: PLC0415 - models are not loaded yet when this module is

    logins.connected_later(instance)
