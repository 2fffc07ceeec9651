"""Query parameters: one that an address does not know is refused by name, since a filter that is ignored shows all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, ClassVar

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request
from rest_framework.views import APIView

from tools.api import problems

PAGES = ("cursor", "limit")
_LONGEST_NAME = 60  # characters of a parameter's name that are said again


def check(request: HttpRequest | Request, known: Collection[str]) -> None:
    """Raise UnknownParameters for the query parameters that are not known here, and for too many of any kind."""
    if not request.META.get("QUERY_STRING"):
        return
    try:
        given: Iterable[str] = request.GET
    except SuspiciousOperation as error:
        raise problems.UnknownParameters([]) from error
    if strangers := [name for name in given if name not in known]:
        raise problems.UnknownParameters([_fault(name, known) for name in strangers[: problems.MOST_FAULTS]])


def _fault(name: str, known: Collection[str]) -> dict[str, str]:
    said = name[:_LONGEST_NAME]
    near = next(iter(get_close_matches(said.lower(), known, n=1)), None)
    hint = f" Is “{near}” meant?" if near else f" It knows {', '.join(sorted(known))}." if known else ""
    return {"parameter": said, "code": "unknown_parameter", "detail": f"This address knows no “{said}”.{hint}"}


class KnownQuery(APIView):
    """A view that knows these query parameters and no others."""

    parameters: ClassVar[tuple[str, ...]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse unknown parameters, once the caller is known to be let in."""
        super().initial(request, *args, **kwargs)
        check(request, self.parameters)
        # The database takes no NUL in a text, so nothing has a name with one.
        if any("\0" in value for value in kwargs.values() if isinstance(value, str)):
            raise NotFound
        for name, values in request.query_params.lists():
            if any("\0" in value for value in values):
                raise ParseError(f"There is a NUL character in `{name}`, which is in nothing that could be found.")
