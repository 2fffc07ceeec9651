"""The same request twice is one call: idempotency keys (draft-ietf-httpapi-idempotency-key-header).

A key belongs to one assignment for 24 hours. A second request with it gets the call of the first, also while that call
is under way; the unique constraint in the database decides which is first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction

from connections import sealing
from connections.errors import DuvoError
from tools.definitions.schemas import Fault
from tools.errors import ArgumentsRefused, KeyReused
from tools.models import Call

KEPT_FOR = timedelta(hours=24)
LONGEST = 255  # characters


class BadKey(DuvoError):
    """Send an Idempotency-Key of 1 to 255 visible ASCII characters."""

    code = "idempotency_key_invalid"


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key, and what it was sent with: tool, arguments in one order of members, and named session."""

    value: str
    body: bytes = field(repr=False)

    def digest(self, tenant_id: UUID, assignment_id: UUID) -> str:
        """Return what the row of its call keeps of the body."""
        return sealing.keyed_digest(self.body, context=_context(tenant_id, assignment_id))


def key_of(header: str | None, tool: str, arguments: Any, session: str = "") -> Key | None:
    """Return the key of a request, None without one. It may be in quotes, as in the draft.

    Raises BadKey, and ArgumentsRefused for arguments that are nested too deeply.
    """
    value = value_of(header)
    return None if value is None else Key(value, _body(tool, arguments, session))


def value_of(header: str | None) -> str | None:
    """Return the value of the header, None without one; raises BadKey."""
    if header is None:
        return None
    value = header.strip()
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = value[1:-1]
    if not 0 < len(value) <= LONGEST or not all("!" <= character <= "~" for character in value):
        raise BadKey
    return value


def find_call(assignment_id: UUID, key: Key, now: datetime) -> Call | None:
    """Return the call that was made with this key, if there is one; raises KeyReused when it was another request."""
    mine = Call.objects.filter(assignment=assignment_id, idempotency_key=key.value)
    forget(now, mine)
    first = mine.first()
    if first is not None and not _is_same(first, key):
        raise KeyReused
    return first


def forget(now: datetime, calls: Any = None) -> None:
    """Release the keys that are older than 24 hours; the calls stay."""
    calls = Call.objects.exclude(idempotency_key="") if calls is None else calls
    with transaction.atomic():
        calls.filter(created_at__lt=now - KEPT_FOR).unlocked().update(idempotency_key="", body_digest="")


def _body(tool: str, arguments: dict[str, Any], session: str) -> bytes:
    named = [session] if session else []
    try:
        return orjson.dumps([tool, arguments, *named], option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # orjson parses deeper nesting than it serializes
        raise ArgumentsRefused([Fault("", "The arguments are nested too deeply.")]) from error


def _is_same(first: Call, key: Key) -> bool:
    """Whether a call was made with this body; if a rotation removed the key of the digest, arguments are compared."""
    same = sealing.same_digest(first.body_digest, key.body, context=_context(first.tenant_id, first.assignment_id))
    return _body(first.tool_name, first.arguments(), first.session_name) == key.body if same is None else same


def _context(tenant_id: UUID, assignment_id: UUID | None) -> str:
    return f"{tenant_id}/assignment/{assignment_id}/body"
