"""What is written into the ledger of calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from connections import sealing
from connections.errors import DuvoError
from tools.models import StoredContent
from tools.models.call_states import CallState
from tools.models.calls import seal_context


class LedgerUnavailable(DuvoError):
    """The call could not be written down, so it was not made. Try again in a moment."""

    code = "ledger_unavailable"


class Outdated(LedgerUnavailable):
    """What the call needs was changed while it was opened, so it was not made. Try again in a moment."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A call about to be made (then `started_at` is set, and bytes may leave), queued, or awaiting somebody.

    `version` is that of the offer: the call is opened only if the rows still have it.
    """

    id: UUID
    tenant_id: UUID
    assignment_id: UUID
    token_id: UUID
    connection_id: UUID
    tool_id: UUID
    version: str
    tool_name: str
    tool_digest: str
    server_url: str
    state: str
    arguments: bytes  # JSON, not sealed yet
    request_id: str
    created_at: datetime
    started_at: datetime | None
    lease_until: datetime | None
    waits_until: datetime | None = None
    traceparent: str = ""
    session_name: str = ""
    idempotency_key: str = ""
    body_digest: str = ""
    account: str = ""  # at the provider, of a call that is made now
    waits_for_login: bool = False

    @property
    def awaits_login(self) -> bool:
        """Whether it is queued until the owner of its assignment has connected."""
        return self.state == CallState.QUEUED and self.waits_until is not None

    def sealed(self) -> str:
        """Return the arguments sealed for this call."""
        return _sealed(self.arguments, self.tenant_id, self.id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt of a call ended; it is not written when the call has ended, or a later attempt is under way."""

    id: UUID
    attempt: int
    state: str
    tenant_id: UUID
    result: bytes  # JSON, not sealed yet; empty when there is none
    error_code: str
    error_sentence: str
    finished_at: datetime
    contents: Sequence[StoredContent] = ()  # contents that are too large for the result, as rows to be written

    def sealed(self) -> str:
        """Return the result sealed for this call."""
        return _sealed(self.result, self.tenant_id, self.id)


@dataclass(frozen=True, slots=True)
class Claim:
    """A queued call that a worker begins to make: written only if it is still queued and its offer has this version."""

    # What is asked of an opening at the moment of its creation is asked of a claim at its own moment.
    MEANS: ClassVar[dict[str, str]] = {"created_at": "started_at"}

    id: UUID
    attempt: int
    tenant_id: UUID
    assignment_id: UUID
    token_id: UUID
    connection_id: UUID
    tool_id: UUID
    version: str
    account: str  # at the provider, with which it is made
    started_at: datetime
    lease_until: datetime

    def sealed(self) -> str:
        """Return nothing: it says nothing of what is sealed."""
        return ""

    def values(self) -> dict[str, Any]:
        """Return its members by their names."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Sending:
    """A claimed call of which bytes may leave once this is written: only for the attempt that is under way."""

    id: UUID
    attempt: int
    tenant_id: UUID
    sent_at: datetime

    def sealed(self) -> str:
        """Return nothing: it says nothing of what is sealed."""
        return ""

    def values(self) -> dict[str, Any]:
        """Return its members by their names."""
        return {name: getattr(self, name) for name in self.__slots__}


Row = Opening | Claim | Sending | Outcome


def _sealed(data: bytes, tenant_id: UUID, call_id: UUID) -> str:
    return sealing.seal_bytes(data, context=seal_context(tenant_id, call_id)) if data else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row with its sealed text."""

    row: Row
    sealed: str
