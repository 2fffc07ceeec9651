"""The Django app configuration."""

from __future__ import annotations

from django.apps import AppConfig


class ToolsConfig(AppConfig):
    """The app `tools`: what a tenant does with a connection."""

    name = "tools"
