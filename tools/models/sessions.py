"""The sessions at servers that remember (`Mcp-Session-Id`, MCP 2025-11-25 and earlier), shared by all processes.

A session belongs to one assignment at one connection and, if the program names its sessions, to one name. Its row is
there from before the handshake until its server was told that it is over. Then the row only says why it ended, until
the program calls again: it has to know that what the server remembered is gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Connection, Credential, Tenant
from oauth.models import SignIn
from tools.models.assignments import Assignment
from tools.models.calls import Call

NAME_LENGTH = 128  # visible ASCII characters


class SessionEnd(models.TextChoices):
    """Why a session is over."""

    PROGRAM = "program", "The program ended it."
    ADMIN = "admin", "An organization admin ended it."
    IDLE = "idle", "It was not used for the connection's session idle time."
    CROWDED_OUT = "crowded_out", "The assignment opened more sessions than it may have at a time."
    CHANGED = "changed", "The connection, its sign-in or the assignment was changed, disabled or deleted."
    FORGOTTEN = "forgotten", "The server no longer knew it."


class McpSessionQuerySet(models.QuerySet["McpSession"]):
    """Sets of sessions, and their transitions: each is one conditional update, so of two who try one succeeds."""

    def live(self) -> McpSessionQuerySet:
        """Return those that have not ended, those that are being opened included."""
        return self.filter(ended_at=None)

    def as_opened(self) -> McpSessionQuerySet:
        """Return those whose connection and sign-in are still the ones with which they were opened."""
        return self.filter(_signed_in(), connection__enabled=True, connection__revision=F("revision"))

    def valid(self) -> McpSessionQuerySet:
        """Return those that calls may go on in: to the server of any other nothing is sent but that it is over."""
        return self.as_opened().filter(tenant__suspended_at=None, assignment__enabled=True)

    def outdated(self) -> McpSessionQuerySet:
        """Return the others, except those of suspended organizations: these wait."""
        another = Q(assignment=None) | Q(assignment__enabled=False) | Q(connection=None) | Q(connection__enabled=False)
        another |= ~Q(connection__revision=F("revision")) | ~_signed_in()
        return self.filter(another, tenant__suspended_at=None)

    def without_task(self) -> McpSessionQuerySet:
        """Return those in which no call goes on as a task of the server, which the server may bind to the session."""
        theirs = {"assignment": OuterRef("assignment"), "connection": OuterRef("connection")}
        return self.exclude(Exists(Call.objects.tasks().filter(**theirs, session_name=OuterRef("name"))))

    def end(self, reason: SessionEnd, now: datetime, *, told: bool = True) -> int:
        """End these sessions; their servers are told afterwards, except those that have surely forgotten theirs."""
        rest: dict[str, Any] = {"due_at": now} if told else {"due_at": None, "sealed_session": ""}
        if reason == SessionEnd.PROGRAM:
            rest["program_knows"] = True
        return self.live().update(ended_at=now, end_reason=reason, current_call=None, **rest)


def _signed_in() -> Q:
    entered = Credential.objects.filter(pk=OuterRef("sign_in"))  # by a member, whose own it is
    signed_in = SignIn.objects.filter(pk=OuterRef("sign_in"), ended_at=None)
    return Q(Q(sign_in=None) | Q(Exists(signed_in)) | Q(Exists(entered)))


class McpSession(models.Model):
    """One session at one server.

    `used_at` is renewed while a call is under way. `due_at` is until when the process that opens it counts as alive,
    and, of an ended one, from when on its server may be told. `current_call` is the one that runs where calls run one
    at a time. `holder` is the process that reads the session's GET stream.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    assignment = models.ForeignKey(Assignment, null=True, on_delete=models.SET_NULL, related_name="sessions")
    connection = models.ForeignKey(Connection, null=True, on_delete=models.SET_NULL, related_name="sessions")
    name = models.CharField(max_length=NAME_LENGTH, blank=True)
    server_key = models.CharField(max_length=120)  # of the connection, its revision and the sign-in
    revision = models.PositiveIntegerField()  # of the connection
    sign_in = models.UUIDField(null=True)  # or what a member has entered, where that takes its place
    sealed_session = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    opened_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    idle_until = models.DateTimeField(null=True)
    calls = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    current_call = models.UUIDField(null=True)
    holder = models.UUIDField(null=True)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=20, choices=SessionEnd, blank=True)
    program_knows = models.BooleanField(default=False)  # that it ended: it was told by the outcome of a call

    objects = McpSessionQuerySet.as_manager()
    sealed_fields = ("sealed_session",)

    class Meta:
        verbose_name = "session"
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["idle_until"], name="session_live", condition=Q(ended_at__isnull=True)),
            models.Index(fields=["holder"], name="session_held", condition=Q(ended_at__isnull=True)),
            models.Index(fields=["due_at"], name="session_to_be_told", condition=~Q(sealed_session="")),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["assignment", "connection", "name", "server_key"],
                condition=Q(ended_at__isnull=True),
                name="an_assignment_has_one_live_session_of_each_name",
            ),
            models.CheckConstraint(
                condition=Q(opened_at=None) | Q(ended_at__isnull=False) | ~Q(sealed_session=""),
                name="an_open_session_has_its_id",
            ),
        ]

    def __str__(self) -> str:
        return self.name or "the assignment's own"

    @property
    def seal_context(self) -> str:
        """The context that the seal is bound to."""
        return f"{self.tenant_id}/session/{self.id}"

    def earlier_untold(self) -> McpSessionQuerySet:
        """Return those in whose place this one is, outdated ones included, of whose end the program does not know."""
        same = McpSession.objects.filter(assignment=self.assignment_id, connection=self.connection_id, name=self.name)
        return same.filter(opened_at__isnull=False, program_knows=False).exclude(pk=self.pk)

    def opened(self) -> dict[str, Any]:
        """Return the session's id, its cookies and with what its server was asked last; raises SealBroken."""
        return dict(sealing.unseal(self.sealed_session, context=self.seal_context))

    def seal(self, value: dict[str, Any]) -> str:
        """Return a value sealed for this session."""
        return sealing.seal(value, context=self.seal_context)


class StreamReader(models.Model):
    """A process that reads GET streams of sessions, and until when it counts as alive."""

    id = models.UUIDField(primary_key=True, editable=False)
    alive_until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)
