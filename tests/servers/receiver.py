"""A receiver of webhooks that verifies signatures by itself, from the text of the Standard Webhooks specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.servers import kinds
from tests.servers.running import Incoming, Receive, Send, Served


@dataclass(kw_only=True)
class Receiver(Served):
    """What came in, and the statuses to answer with before the 204s."""

    statuses: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.origin}/hook?team=a"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [request.message for request in self.requests]

    def verified(self, secret: str) -> list[bool]:
        """Whether each request was signed with this secret, not long ago."""
        return [verify(request, secret) for request in self.requests]


async def answer(receiver: Receiver, _: Incoming, __: Receive, send: Send) -> bool:
    return await kinds.respond(send, receiver.statuses.pop(0) if receiver.statuses else 204)


def verify(request: Incoming, secret: str) -> bool:
    kind, _, encoded = secret.partition("_")
    assert kind == "whsec"
    key = base64.b64decode(encoded, validate=True)
    assert 24 <= len(key) <= 64
    message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert abs(time.time() - int(timestamp)) < 300
    content = b".".join([message_id.encode(), timestamp.encode(), request.body])
    right = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    offered = [entry.partition(",") for entry in request.headers["webhook-signature"].split(" ")]
    assert json.loads(request.body).keys() == {"type", "timestamp", "data"}
    return any(version == "v1" and hmac.compare_digest(signature, right) for version, _, signature in offered)
