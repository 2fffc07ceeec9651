"""The page Connect: a member enters their own key or headers for a personal connection, or has them forgotten."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from connections import egress, personal
from connections.forms.own import OwnForm
from connections.models import Connection
from connections.tenancy import TenantAdmin, person

CONNECTED = "You are connected: your assignments use what you entered. The connection is being checked with it."


class OwnCredentialAdmin(TenantAdmin):
    """The part of a connection's pages that every member uses for themselves."""

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the page and of its button."""
        view = self.admin_site.admin_view
        connect = never_cache(require_http_methods(["GET", "POST"])(self.connect_view))
        return [
            path("<path:object_id>/connect/", view(connect), name="connections_connection_connect"),
            path(
                "<path:object_id>/disconnect/",
                view(require_POST(self.disconnect_view)),
                name="connections_connection_disconnect",
            ),
            *super().get_urls(),
        ]

    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask this person for their own, and store it; a connection to sign in to is signed in to on its page."""
        connection: Connection = self.get_object(request, unquote(object_id))
        if connection.own_kind is None:
            return HttpResponseRedirect(self._page_of(connection))
        if not personal.may_connect(person(request), connection):
            raise PermissionDenied
        form = OwnForm(request.POST or None, connection=connection)
        if request.method == "POST" and form.is_valid():
            try:
                personal.enter(connection, person(request), form.entered, revision=form.cleaned_data["revision"])
            except personal.NotEntered as late:
                self.message_user(request, late.sentence, messages.ERROR)
                return HttpResponseRedirect(request.path)
            self.message_user(request, CONNECTED, messages.SUCCESS)
            return HttpResponseRedirect(self._page_of(connection))
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"Connect to {connection}",
            "form": form,
            "field": form[str(connection.own_kind)],
            "connection": connection,
            "origin": egress.origin(connection.server_url),
            "back": self._page_of(connection),
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/connections/connection/connect.html", context)

    def disconnect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Forget what this person has entered."""
        connection: Connection = self.get_object(request, unquote(object_id))
        if not personal.may_connect(person(request), connection):
            raise PermissionDenied
        forgotten = personal.forget(connection, person(request))
        sentence = "What you entered is forgotten; your assignments cannot use this connection any more."
        self.message_user(request, sentence if forgotten else "Nothing of yours was stored.", messages.SUCCESS)
        return HttpResponseRedirect(self._page_of(connection))

    @staticmethod
    def _page_of(connection: Connection) -> str:
        return reverse("admin:connections_connection_change", args=[connection.pk])
