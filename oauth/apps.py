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
        """Connect the handlers that revoke tokens: of what is deleted, however that is done, and what a change ends."""
        from connections.forms.connection import changing  # noqa: PLC0415 - as below

        pre_delete.connect(_revoke_tokens, sender="connections.Connection", dispatch_uid="oauth.revoke")
        pre_delete.connect(_revoke_tokens_of, sender="connections.User", dispatch_uid="oauth.revoke_of")
        changing.connect(_end_sign_ins, dispatch_uid="oauth.end")


def _revoke_tokens(instance: Any, **_: Any) -> None:
    from oauth import revoking  # noqa: PLC0415 - models are not loaded yet when this module is

    revoking.revoke_on_delete(instance)


def _revoke_tokens_of(instance: Any, **_: Any) -> None:
    from oauth import revoking  # noqa: PLC0415 - as above

    revoking.revoke_of(instance)


def _end_sign_ins(connection: Any, before: Any, **_: Any) -> None:
    from oauth import revoking  # noqa: PLC0415 - as above

    revoking.end_unfit(connection, before)
