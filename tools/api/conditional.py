"""Conditional requests: a connection's `ETag`, and the `If-Match` that names it (RFC 9110, section 13.1.1).

The tag is the revision of the settings, secrets included. The states, which checks and calls change all the time, are
not settings: who changes a connection does not compete with its checks.
"""

from __future__ import annotations

from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import Connection
from tools.api.problems import PreconditionFailed


def tagged(answer: Response, connection: Connection) -> Response:
    """Return the response with the ETag of the connection that it shows."""
    answer["ETag"] = _tag(connection)
    return answer


def check(request: Request, connection: Connection) -> None:
    """Raise PreconditionFailed if the request has an `If-Match` that is neither `*` nor names this revision.

    The comparison is strong: a weak tag (`W/"7"`), and what is no tag at all, match nothing.
    """
    asked = request.headers.get("If-Match")
    if asked is not None and asked.strip() != "*" and _tag(connection) not in parse_etags(asked):
        raise PreconditionFailed


def _tag(connection: Connection) -> str:
    return f'"{connection.revision}"'
