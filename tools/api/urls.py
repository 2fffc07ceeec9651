"""The addresses of the API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from tools.api.assignments import Assignments, AssignmentTokens, RevokeToken
from tools.api.audit import AuditEvents
from tools.api.calls import AnswerCall, CallDetail, CallTool, CancelCall
from tools.api.contents import CallContent
from tools.api.events import CallEvents
from tools.api.me import Me
from tools.api.sessions import NamedSession, Sessions
from tools.api.signing_in import StartSignIn
from tools.api.usage import Usage
from tools.api.views import CallList, Connections, Quotas, ToolDetail, ToolList

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("connections", Connections, basename="connection")
router.register("assignments", Assignments, basename="assignment")

urlpatterns = [
    path("tools", ToolList.as_view(), name="tools"),
    path("tools/<slug:name>", ToolDetail.as_view(), name="tool"),
    path("tools/<slug:name>/call", CallTool.as_view(), name="call-tool"),
    path("me", Me.as_view(), name="me"),
    path("connections/<uuid:id>/sign-in", StartSignIn.as_view(), name="connection-sign-in"),
    path("assignments/<uuid:id>/tokens", AssignmentTokens.as_view(), name="assignment-tokens"),
    path("tokens/<uuid:id>", RevokeToken.as_view(), name="token"),
    path("audit-events", AuditEvents.as_view(), name="audit-events"),
    path("usage", Usage.as_view(), name="usage"),
    path("quotas", Quotas.as_view(), name="quotas"),
    path("sessions", Sessions.as_view(), name="sessions"),
    path("sessions/<path:name>", NamedSession.as_view(), name="session"),
    path("calls", CallList.as_view(), name="calls"),
    path("calls/<uuid:id>", CallDetail.as_view(), name="call"),
    path("calls/<uuid:id>/cancel", CancelCall.as_view(), name="cancel-call"),
    path("calls/<uuid:id>/input", AnswerCall.as_view(), name="answer-call"),
    path("calls/<uuid:id>/events", CallEvents.as_view(), name="call-events"),
    path("calls/<uuid:id>/contents/<int:number>", CallContent.as_view(), name="call-content"),
    *router.urls,
]
