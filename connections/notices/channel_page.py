"""The buttons for the channel of an organization, on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from connections.errors import DuvoError
from connections.forms.telling import ChannelForm
from connections.models import Channel, Tenant
from connections.notices import channels
from connections.tenancy import TenantAdmin, person

NO_CHANNEL = "Enter the channel's address first."


class ChannelPages(TenantAdmin):
    """Setting, testing and removing the channel; only admins of the organization may."""

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        view = self.admin_site.admin_view
        buttons = {"channel": self.channel_view, "channel-test": self.try_view, "channel-remove": self.remove_view}
        return [
            *(
                path(
                    f"<path:object_id>/{name}/",
                    view(require_POST(button)),
                    name=f"connections_tenant_{name.replace('-', '_')}",
                )
                for name, button in buttons.items()
            ),
            *super().get_urls(),
        ]

    def channel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Store the channel; a fault is shown at its field."""
        tenant = self.changed(request, object_id)
        form = ChannelForm(request.POST, tenant=tenant)
        if not form.is_valid():
            request.method = "GET"
            page: HttpResponse = self.change_view(request, object_id, extra_context={"channel": form})
            return page
        with transaction.atomic():
            form.save()
            fields = ["untold", *(["url"] if form.cleaned_data["url"] else [])]
            self.audit(request, "channel_set", tenant, fields=fields)
        return self.to_its_page(request, tenant, "Saved. Send a test to see that it works.", messages.SUCCESS)

    def try_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say something in the channel, and say how that went."""
        tenant = self.changed(request, object_id)
        if not Channel.objects.filter(tenant=tenant).exists():
            return self.to_its_page(request, tenant, NO_CHANNEL, messages.ERROR)
        level, sentence, outcome = messages.SUCCESS, "The chat has taken the test.", "ok"
        who = person(request).get_username()
        try:
            channels.tell(tenant, channels.plain(f"A test of {tenant.name}'s channel, sent by {who}."))
        except DuvoError as failure:
            level, sentence, outcome = messages.ERROR, failure.sentence, failure.code
        self.audit(request, "channel_tested", tenant, outcome=outcome)
        return self.to_its_page(request, tenant, sentence, level)

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Forget the channel."""
        tenant = self.changed(request, object_id)
        with transaction.atomic():
            removed, _ = Channel.objects.filter(tenant=tenant).delete()
            if removed:
                self.audit(request, "channel_removed", tenant)
        return self.to_its_page(request, tenant, "The channel is told nothing any more.", messages.SUCCESS)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the organization's page with the form of its channel."""
        tenant = self.get_object(request, object_id)
        shown = {"channel": ChannelForm(tenant=tenant)} if self.is_admin(request, tenant) else {}
        return super().change_view(request, object_id, form_url, shown | (extra_context or {}))

    def changed(self, request: HttpRequest, object_id: str) -> Tenant:
        """Return the organization, for somebody who may change it."""
        raise NotImplementedError

    def to_its_page(self, request: HttpRequest, tenant: Tenant, sentence: str, level: int) -> HttpResponse:
        """Say this on the organization's page."""
        raise NotImplementedError
