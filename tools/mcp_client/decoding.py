"""Undoing the compression of a response to the wire client, with its errors."""

from __future__ import annotations

from functools import partial
from typing import Final

from connections.egress import plain as undone
from tools.mcp_client.errors import AnswerTooLarge, BadAnswer

plain: Final = partial(undone, not_undone=BadAnswer, too_large=AnswerTooLarge)
