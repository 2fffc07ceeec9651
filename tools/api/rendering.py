"""Lists as JSON, written row by row: a writer in C holds the interpreter from its first byte to its last.

A page of 200 tools may have 13 MB, over which Django REST Framework's own renderer keeps every call of the process
waiting for half a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework.renderers import JSONRenderer
from rest_framework.utils import encoders


class RowsRenderer(JSONRenderer):
    """JSON in UTF-8; each row of a list is written for itself, and others have their turn in between."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """Return the bytes; whatever is no page of rows is written in one piece."""
        if data is None:
            return b""
        if not isinstance(data, dict) or not isinstance(data.get("results"), list):
            return _written(data)
        rows = b",".join([_written(row) for row in data["results"]])
        around = [(name, value) for name, value in data.items() if name != "results"]
        members = [_written(name) + b":" + _written(value) for name, value in around]
        return b"{%b}" % b",".join([*members, b'"results":[%b]' % rows])


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a number that is too large for it, as a server's schema may have, or nested too deeply
        text = json.dumps(value, cls=encoders.JSONEncoder, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
