"""The OpenAPI 3.1 document, with the problems that each operation may respond with."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, OpenApiResponse

from tools.api.problems import CONTENT_TYPE
from tools.api.serializers import ProblemSerializer

_EVERYWHERE = {
    400: "A query parameter is not known here.",
    401: "No token, or one that is unknown, expired or revoked.",
    429: "Too many unknown tokens came from this address; see `Retry-After`.",
    503: "Too much is asked at this moment, or the database does not answer.",
}
_LIMITED = "A limit or quota is reached, or too many unknown tokens came from this address; the code says which it was."
_WITH_A_BODY = {
    400: "The body is not JSON, or a query parameter is not known here.",
    408: "The body did not arrive within a minute.",
    413: "The body is larger than 5 MB.",
    415: "The body is not application/json.",
    422: "The request has faults; `errors` names each by a JSON Pointer.",
    503: "Too much is being sent at this moment.",
}
_LIST = {400: "`limit` or a filter is out of bounds, or not known here.", 404: "The cursor is made up."}
_CALL = {
    409: "The tool is set aside; the code says why.",
    500: "Something went wrong on our side.",
    502: "The server gave no result; the code says why.",
    503: "The connection is not ready, or the call could not be written down.",
    504: "The server did not answer in time.",
}


_LONGEST_SUMMARY = 80  # characters
_OF_PATHS = {
    "/tools/{name}": {409: _CALL[409]},
    "/sign-in": {409: "Nobody signs in to this connection, or enters anything of their own."},
    "/usage": {403: "Only an assignment's token, or an admin's or auditor's, may ask for this."},
    "/audit-events": {403: "Only an admin's or auditor's token may read this."},
}


class Schema(AutoSchema):
    """Adds the problems to each operation."""

    def get_summary(self) -> str | None:
        """Return the operation's own summary, or the first sentence of what it says of itself."""
        own: str | None = super().get_summary()
        said = str(self.get_description() or "")
        return own or said.partition(". ")[0].partition("\n")[0].rstrip(".")[:_LONGEST_SUMMARY] or None

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        """Return the operation's own responses, also those of `extend_schema`, and its problems."""
        problems = {
            str(status): self._get_response_for_code(  # type: ignore[no-untyped-call]
                OpenApiResponse(ProblemSerializer, description=text), str(status), (CONTENT_TYPE,), direction
            )
            for status, text in self._problems().items()
        }
        return super()._get_response_bodies(direction) | dict(sorted(problems.items()))

    def _problems(self) -> dict[int, str]:
        problems = dict(_EVERYWHERE)
        if "{" in self.path:
            problems[404] = "There is nothing here for you."
        if self._is_list_view():
            problems |= _LIST
        if self.method in {"POST", "PATCH"} and self.get_request_serializer() is not None:
            problems |= _WITH_A_BODY
        if self.method != "GET" or any(part in self.path for part in ("/tools", "/calls", "/sessions", "/assignments")):
            problems[403] = "This token may not do this, or a quota is reached."
        if self.method != "GET" or "/calls/" in self.path:
            problems[429] = _LIMITED
        if any(parameter["name"] == "If-Match" for parameter in self._get_parameters()):
            problems[412] = "It was changed since you looked at it: `If-Match` names another revision."
        if "/connections/{" in self.path and self.method == "PATCH":
            problems[409] = "Others change it all the time; nothing was saved."
        if self.path.endswith("/tokens") and self.method == "POST":
            problems[409] = "A token was made before with this `Idempotency-Key`; `token_id` is its id."
        if self._is_call():
            problems |= _CALL
        return problems | next((more for path, more in _OF_PATHS.items() if self.path.endswith(path)), {})

    def _is_call(self) -> bool:
        return self.path.endswith("/call")


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The bearer token in the document."""

    target_class = "tools.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "A token of an assignment or of a member."}
