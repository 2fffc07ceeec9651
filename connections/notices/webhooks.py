"""Telling an organization's own systems, by webhooks as the Standard Webhooks specification (1.0) describes them.

A message has an id that stays the same at every try, the time of the try, and a signature over both and the body. The
receiver checks the signature with the organization's secret, refuses old times, and forgets ids it has seen.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from hmac import digest
from typing import Any

from django.utils import timezone

from connections import egress
from connections.errors import DuvoError
from connections.models import Tenant

TIMEOUT = 15.0  # seconds, the most that the specification lets a sender wait
_PREFIX = "whsec_"


class NotTaken(DuvoError):
    """The webhook's receiver did not take the message."""

    code = "webhook_not_taken"


def send(tenant: Tenant, *, message_id: str, kind: str, at: datetime, data: dict[str, Any]) -> None:
    """Send one message to the organization's webhook; returns if it was taken (2xx).

    `at` is when the event happened. Raises NotTaken, Refused, Unreachable and SealBroken; NotTaken, too, while the
    organization is suspended: then nothing is sent.
    """
    if tenant.suspended_at is not None:
        raise NotTaken("The organization is suspended: nothing is sent.")
    egress.check_hop(tenant.webhook_url)  # raised before the secret is opened
    body = json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data}, ensure_ascii=False).encode()
    headers = {
        "content-type": "application/json",
        **signed(tenant.webhook_secret(), message_id, timezone.now(), body),
    }
    sending = egress.fetch(
        "POST", tenant.webhook_url, headers=headers, content=body, timeout=TIMEOUT, head_only=True
    )  # fmt: skip
    answer = egress.run(sending)
    if not 200 <= answer.status < 300:  # noqa: PLR2004
        raise NotTaken(f"The webhook's receiver answered with HTTP status {answer.status}.")


def signed(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent the body, and when."""
    timestamp = str(int(at.timestamp()))
    key = b64decode(secret.removeprefix(_PREFIX))
    signature = digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{b64encode(signature).decode()}",
    }
