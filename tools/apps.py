"""The room's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig


class ToolsConfig(AppConfig):
    """What a tenant does with a connection."""

    name = "tools"
