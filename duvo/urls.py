"""Every address of the product."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from duvo import document, health, help_pages, metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("connections.people.urls")),
    path("", include("oauth.urls")),
    path("admin/", admin.site.urls),
    path("v1/", include("tools.api.urls")),
    path("v1/schema", document.show, name="schema"),
    path("v1/docs", document.Docs.as_view(), name="docs"),
    path("help", RedirectView.as_view(pattern_name="help")),
    path("help/", help_pages.index, name="help"),
    path("help/<slug:name>/", help_pages.show, name="help-page"),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", metrics.show, name="metrics"),
]

handler404 = "duvo.health.not_found"
handler500 = "duvo.health.failed"
