"""The page on which everybody chooses what they are mailed about."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_http_methods

from connections import audit
from connections.forms.telling import MailForm
from connections.tenancy import person


def urls(site: AdminSite) -> list[URLPattern]:
    """Return the address of the page."""
    view = require_http_methods(["GET", "HEAD", "POST"])(lambda request: choose(site, request))
    return [path("mails/", site.admin_view(view), name="mail_choices")]


def choose(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show what this person is mailed about of each of their organizations, or store what they chose."""
    user = person(request)
    sent = request.POST if request.method == "POST" else None
    memberships = user.memberships.select_related("tenant").order_by("tenant__name", "tenant")
    forms = [MailForm(sent, membership=membership) for membership in memberships]
    if sent is not None and all(form.is_valid() for form in forms):
        for form in forms:
            if form.save():
                membership = form.membership
                audit.record(user, "membership.changed", membership, tenant=membership.tenant, fields=["unmailed"])
        messages.success(request, "Saved.")
        return HttpResponseRedirect(reverse("admin:mail_choices"))
    context = {**site.each_context(request), "title": "What you are mailed about", "forms": forms}
    return TemplateResponse(request, "admin/mail_choices.html", context)
