"""The admin site: everybody with a membership may sign in; what they see is decided by `connections.tenancy`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.views.main import ERROR_FLAG
from django.contrib.auth.forms import AuthenticationForm
from django.db import DataError
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, URLResolver

from connections import statement_timeouts
from connections.logins import note_wrong_password
from connections.models import Tenant, User
from connections.passwords import take_a_try
from connections.tenancy import person

SAFE = {"GET", "HEAD"}
PAGES = [
    "Connection", "Tenant", "Membership", "Invitation", "User", "AuditEvent",
    "Notice", "Tool", "Assignment", "Call", "Probe", "AccessToken",
]  # fmt: skip


class DuvoAdminSite(AdminSite):
    """The stock admin under our name, open to members, reviewers and superusers."""

    site_header = "Duvo Connections"
    site_title = "Duvo Connections"
    index_title = "Your organization"
    login_form = AuthenticationForm
    site_url = None
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in active users that have something to see here."""
        user = request.user
        if not (isinstance(user, User) and user.is_active):
            return False
        return user.is_superuser or user.is_reviewer or bool(user.roles)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the start page; a superuser of an installation without any organization founds one first."""
        if person(request).is_superuser and not Tenant.objects.exists():
            return redirect("start")
        return super().index(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Change one's own password; raises TooManyTries when the old one was wrong too often."""
        if request.method == "POST":
            take_a_try(person(request))
        answer = super().password_change(request, extra_context)
        form = (getattr(answer, "context_data", None) or {}).get("form")
        if form is not None and "old_password" in form.errors:
            note_wrong_password(person(request), request)
        return answer

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """List the pages in the order in which people need them."""
        apps = super().get_app_list(request, app_label)
        for app in apps:
            app["models"].sort(
                key=lambda page: PAGES.index(page["object_name"]) if page["object_name"] in PAGES else 99
            )
        return apps

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Limit the database time of pages that change nothing, whatever their query string asks for.

        What the database cannot read in a query string, such as a moment with an offset that only Python knows, is
        left out, as Django does with what it cannot read itself.
        """

        @wraps(view)
        def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in SAFE:
                return view(request, *args, **kwargs)
            try:
                with statement_timeouts.at_most(statement_timeouts.PAGE_SECONDS):
                    answer = view(request, *args, **kwargs)
                    # The rows of a list are read when it is rendered.
                    return answer.render() if isinstance(answer, SimpleTemplateResponse) else answer
            except DataError:
                if not request.GET or ERROR_FLAG in request.GET:
                    raise
                return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")

        return super().admin_view(bounded, cacheable)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Leave out "view on site", which tells which ids of any model exist, and look-ups that no form makes."""
        unwanted = {"view_on_site", "autocomplete"}
        return [pattern for pattern in super().get_urls() if getattr(pattern, "name", None) not in unwanted]
