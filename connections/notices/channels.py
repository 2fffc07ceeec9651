"""Telling a channel of a chat, by an incoming webhook as Slack has them; Mattermost and others take them, too.

A message is text with links. Whatever somebody has named is in it as text: it can mention nobody and be no link.
"""

from __future__ import annotations

import json

from connections import egress
from connections.errors import DuvoError
from connections.models import Channel, Tenant
from connections.notices.letters import Letter

MOST_LINKS = 20
TIMEOUT = 15.0  # seconds


class NotPosted(DuvoError):
    """The chat did not take the message."""

    code = "channel_not_told"


def tell(tenant: Tenant, text: str) -> None:
    """Post this text to the organization's channel; returns if it was taken (2xx).

    Raises NotPosted, also while the organization is suspended, Refused, Unreachable and SealBroken; none of them tells
    the address.
    """
    channel = Channel.objects.filter(tenant=tenant).first()
    if channel is None:
        return
    if tenant.suspended_at is not None:
        raise NotPosted("The organization is suspended: nothing is sent.")
    body = json.dumps({"text": text, "unfurl_links": False}, ensure_ascii=False).encode()
    posting = egress.fetch(
        "POST", channel.url(), headers={"content-type": "application/json"}, content=body, timeout=TIMEOUT,
        head_only=True,
    )  # fmt: skip
    answer = egress.run(posting)
    if not 200 <= answer.status < 300:  # noqa: PLR2004
        raise NotPosted(f"The chat answered with HTTP status {answer.status}.")


def text_of(letter: Letter) -> str:
    """Return a letter as a message: what happened, a link to each thing, and what to do."""
    links = [f"\u2022 <{page}|{plain(what)}>" for what, page in letter.links[:MOST_LINKS]]
    more = len(letter.links) - MOST_LINKS
    return "\n".join(
        [
            f"*{plain(letter.subject)}*",
            *links,
            *([f"and {more} more"] if more > 0 else []),
            *([f"What to do: {plain(letter.step)}"] if letter.step else []),
        ]
    )


def plain(text: str) -> str:
    """Return the text so that nothing in it is a link or a mention; `|` would end the address of a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
