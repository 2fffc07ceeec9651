"""The admin site: everybody with a membership may sign in; what they see is decided by `connections.tenancy`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.views.main import ERROR_FLAG
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import DataError
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from connections import moments, statement_timeouts
from connections.logins import note_wrong_password
from connections.models import Tenant, User
from connections.passwords import take_a_try
from connections.people import company, second_factor
from connections.people.account import ORGANIZATION
from connections.tenancy import person

SAFE = {"GET", "HEAD"}
# Views of somebody whose organization requires a second factor and who has none yet.
WITHOUT_SECOND_FACTOR = {"logout", "password_change", "password_change_done", "i18n_javascript"}
SIGNED_OUT = "You were signed out meanwhile, so nothing was changed. Sign in, and do it once more."
PAGES = [
    "Connection", "Tenant", "Membership", "Invitation", "User", "AuditEvent",
    "Notice", "Bulletin", "Tool", "Assignment", "Call", "DailyUse", "Probe", "AccessToken",
]  # fmt: skip


class SignInForm(AuthenticationForm):
    """The name and the password of a person."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Name the field for what most people enter."""
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail address or user name"


class SignInView(LoginView):
    """The way in with a password."""

    template_name = "admin/login.html"
    authentication_form = SignInForm

    def form_valid(self, form: AuthenticationForm) -> Any:
        """Go on with the second factor, or to the page that was asked for."""
        user = form.get_user()
        assert isinstance(user, User)  # noqa: S101 - the one user model there is
        return second_factor.begin(self.request, user, self.get_success_url())


class DuvoAdminSite(AdminSite):
    """The stock admin under our name, open to members, reviewers and superusers."""

    site_header = "Duvo Connections"
    site_title = "Duvo Connections"
    site_url = None
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in active users that have something to see here."""
        user = request.user
        if not (isinstance(user, User) and user.is_active):
            return False
        user.act_in(request.session.get(ORGANIZATION))
        return user.is_superuser or user.is_reviewer or bool(user.roles)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show this person's start page; a superuser of an installation without any organization founds one first."""
        from tools.admin import home  # noqa: PLC0415 - its neighbours register their pages at this site

        if person(request).is_superuser and not Tenant.objects.exists():
            return redirect("start")
        return super().index(request, home.of(request) | (extra_context or {}))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the way in; after the right password the second factor is asked for, of who has one."""
        if request.method == "GET" and self.has_permission(request):
            return redirect("admin:index")
        context = {**self.each_context(request), "title": "Sign in", "app_path": request.get_full_path()}
        context["passkeys"] = second_factor.offers_passkeys()
        if REDIRECT_FIELD_NAME not in request.GET | request.POST:
            context[REDIRECT_FIELD_NAME] = reverse("admin:index")
        return SignInView.as_view(extra_context=context | (extra_context or {}))(request)

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
            here = getattr(view, "__name__", "")
            timezone.activate(moments.zone_of(person(request).time_zone))
            if here not in WITHOUT_SECOND_FACTOR and second_factor.is_missing(person(request)):
                return _led_to_set_one_up(request)
            if here not in WITHOUT_SECOND_FACTOR and (tenant := company.missing(person(request), request)):
                to = urlencode({"organization": tenant, "next": request.get_full_path()})
                return HttpResponseRedirect(f"{reverse('company')}?{to}")
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

        page = super().admin_view(bounded, cacheable)

        @wraps(view)
        def told(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in SAFE and not request.user.is_authenticated:
                messages.warning(request, SIGNED_OUT)
            return page(request, *args, **kwargs)

        return told

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add pages of no rows; leave out "view on site", which tells of ids, and look-ups that no form makes."""
        # Their neighbours register their pages at this site.
        from connections import saved_filters  # noqa: PLC0415
        from connections.notices import choices  # noqa: PLC0415
        from tools.admin import inbox  # noqa: PLC0415

        unwanted = {"view_on_site", "autocomplete"}
        stock = [pattern for pattern in super().get_urls() if getattr(pattern, "name", None) not in unwanted]
        return [*inbox.urls(self), *choices.urls(self), *saved_filters.urls(self), *stock]


def _led_to_set_one_up(request: HttpRequest) -> HttpResponseRedirect:
    messages.info(request, "Your organization requires a second factor. Set one up, and everything is there again.")
    return redirect("account")
