"""What persons read of calls: each read is written down, and only assignments read their own without that.

Who may read is decided by the page: it takes the call from the rows that this person sees.
"""

from __future__ import annotations

from typing import Any

from connections import audit
from connections.errors import SealBroken
from connections.models import User
from tools import contents
from tools.models import Call, StoredContent


def read_by(user: User, call: Call) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Open a call's arguments and its result (None when there is none) for this person; raises SealBroken."""
    try:
        opened = call.arguments(), call.result()
    except SealBroken as broken:
        audit.record(user, "call.read", call, tenant=call.tenant, outcome=broken.code)
        raise
    audit.record(user, "call.read", call, tenant=call.tenant)
    return opened


def download_by(user: User, content: StoredContent) -> bytes:
    """Open one stored content of a call for this person; raises SealBroken."""
    call = content.call
    try:
        data = contents.opened(content)
    except SealBroken as broken:
        audit.record(user, "call.read", call, tenant=call.tenant, outcome=broken.code, content=content.number)
        raise
    audit.record(user, "call.read", call, tenant=call.tenant, content=content.number)
    return data
