"""The addresses of the API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from tools.call_door import CallTool
from tools.views import CallDetail, Connections, ToolDetail, ToolList

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("connections", Connections, basename="connection")

urlpatterns = [
    path("tools", ToolList.as_view(), name="tools"),
    path("tools/<slug:name>", ToolDetail.as_view(), name="tool"),
    path("tools/<slug:name>/call", CallTool.as_view(), name="call-tool"),
    path("calls/<uuid:id>", CallDetail.as_view(), name="call"),
    *router.urls,
]
