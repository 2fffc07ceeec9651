"""Tables as CSV that a spreadsheet opens without running anything: names in them were chosen by strangers."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from typing import Any

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> str:
    """Return a value as a cell: a number stays one, and a text that a spreadsheet would run begins with an apostrophe.

    See OWASP, CSV Injection.
    """
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_BEGINS_A_FORMULA) else text


class _Line:
    """A file of one line: what is written is given back."""

    @staticmethod
    def write(line: str) -> str:
        """Return the line."""
        return line


def lines(heads: Sequence[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield the lines of a CSV file (RFC 4180), row by row."""
    writer: Any = csv.writer(_Line())
    if heads:
        yield writer.writerow(heads)
    for row in rows:
        yield writer.writerow([cell(value) for value in row])


def download(
    name: str, parts: Iterable[str] | AsyncIterable[str], kind: str = "text/csv; charset=utf-8"
) -> HttpResponseBase:
    """Return a file that the browser saves; one whose parts are made on the event loop is sent as it is made."""
    response: HttpResponseBase
    if isinstance(parts, AsyncIterable):
        response = StreamingHttpResponse(parts, content_type=kind)
    else:
        response = HttpResponse("".join(parts), content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response
