"""The admin site: everybody with a membership may sign in; what they see is decided by `connections.tenancy`."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest

from connections.models import User


class DuvoAdminSite(AdminSite):
    """The stock admin under our name, open to members, reviewers and superusers."""

    site_header = "Duvo Connections"
    site_title = "Duvo Connections"
    index_title = "Your organization"
    login_form = AuthenticationForm
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in active users that have something to see here."""
        user = request.user
        if not (isinstance(user, User) and user.is_active):
            return False
        return user.is_superuser or user.is_reviewer or user.memberships.exists()
