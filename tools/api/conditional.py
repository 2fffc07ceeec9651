"""Conditional requests: the `ETag` of a connection or assignment, and the `If-Match` that names it (RFC 9110, 13.1.1).

The tag is the revision of the settings, secrets included. The states of a connection, which checks and calls change all
the time, are not settings: who changes a connection does not compete with its checks.
"""

from __future__ import annotations

from typing import Protocol

from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from tools.api.problems import PreconditionFailed


class _Revised(Protocol):
    @property
    def revision(self) -> int | str: ...


def tagged(answer: Response, row: _Revised) -> Response:
    """Return the response with the ETag of the row that it shows."""
    answer["ETag"] = _tag(row)
    return answer


def check(request: Request, row: _Revised) -> None:
    """Raise PreconditionFailed if the request has an `If-Match` that is neither `*` nor names this revision.

    The comparison is strong: a weak tag (`W/"7"`), and what is no tag at all, match nothing.
    """
    asked = request.headers.get("If-Match")
    if asked is not None and asked.strip() != "*" and _tag(row) not in parse_etags(asked):
        raise PreconditionFailed


def _tag(row: _Revised) -> str:
    return f'"{row.revision}"'
