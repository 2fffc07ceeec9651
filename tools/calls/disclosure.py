"""What people read of calls: each read is recorded in the audit log; an assignment's reads of its own calls are not.

Who may read is decided by the page, which takes the call from the rows that this person sees.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from connections import audit
from connections.errors import SealBroken, SealKeyUnknown
from connections.models import User
from tools.calls import contents
from tools.models import Call, StoredContent
from tools.payloads.raw_json import Json

SAME_READ = timedelta(minutes=10)  # an open page reads a call again after each transition


def read_by(user: User, call: Call) -> tuple[Json, dict[str, Any] | None]:
    """Open a call's arguments and its result (None when there is none) for this person; raises SealBroken.

    What the same person opens of the same call within `SAME_READ` is one read.
    """
    try:
        opened = call.arguments_to_send(), call.result()
    except (SealBroken, SealKeyUnknown) as broken:
        _note(user, call, broken.code)
        raise
    _note(user, call)
    return opened


def question_by(user: User, call: Call) -> dict[str, Any] | None:
    """Open what the server of a call asks, None when it asks nothing, for this person; raises SealBroken.

    What the same person opens of the same call within `SAME_READ` is one read.
    """
    try:
        question = call.question()
    except (SealBroken, SealKeyUnknown) as broken:
        _note(user, call, broken.code, question=True)
        raise
    if question is not None:
        _note(user, call, question=True)
    return question


def download_by(user: User, content: StoredContent) -> bytes:
    """Open one stored content of a call for this person; raises SealBroken."""
    call = content.call
    try:
        data = contents.opened(content)
    except (SealBroken, SealKeyUnknown) as broken:
        audit.record(
            user, "call.read", call, tenant=call.tenant, outcome=broken.code, content=content.number,
            **call.whose_account,
        )  # fmt: skip
        raise
    audit.record(user, "call.read", call, tenant=call.tenant, content=content.number, **call.whose_account)
    return data


def _note(user: User, call: Call, outcome: str = "ok", **what: Any) -> None:
    what |= call.whose_account
    noted = call.tenant.audit_events.filter(
        at__gt=timezone.now() - SAME_READ, actor=user.get_username(), action="call.read", object_id=str(call.pk),
        outcome=outcome, data=what,
    )  # fmt: skip
    if not noted.exists():
        audit.record(user, "call.read", call, tenant=call.tenant, outcome=outcome, **what)
