"""The Django app configurations: commands and static files, and the admin with our site."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class DuvoConfig(AppConfig):
    """The frame: commands and static files."""

    name = "duvo"


class DuvoAdminConfig(AdminConfig):
    """Django's admin with our site as the default one."""

    default_site = "duvo.admin.DuvoAdminSite"
