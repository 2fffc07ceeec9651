"""The Django app configuration."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import pre_delete


class OAuthConfig(AppConfig):
    """How a connection gets, renews and loses its tokens."""

    name = "oauth"
    verbose_name = "Sign-ins"

    def ready(self) -> None:
        """Connect the handler that revokes the tokens of a connection, however it is deleted."""
        pre_delete.connect(_revoke_tokens, sender="connections.Connection", dispatch_uid="oauth.revoke")


def _revoke_tokens(instance: Any, **_: Any) -> None:
    from oauth import revoking  # noqa: PLC0415 - models are not loaded yet when this module is

    revoking.revoke_on_delete(instance)
