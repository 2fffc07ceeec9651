"""Tools that ask a person something in the middle of a call, each in the way of the era that it is called in.

`asking()` is a box with one tool for every way of asking; `mcp_server("modern", asking())` or `("legacy", asking())`:

    ask_form     one form with a field of every kind; answers with the response, as JSON
    ask_aside    legacy only: one form on the session's own stream, that is, without a word about the call
    ask_visit    one address; the same
    ask_both     both at once, under the keys `form` and `visit` (handshake era: two requests on one stream)
    ask_twice    first a name, then a confirmation that names it; answers with both responses
    ask_state    modern only: wants its state back `times` times before it answers
    visit_first  refuses with error -32042 until a test adds the tenant to `box.visited`
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import ElicitRequestURLParams

from tests.servers.toolbox import Result, Toolbox, schema, text

VISIT = "https://billing.example/connect?order=7"
STATE = '{"nonce": "ü", "step": %d}'
CHOICES = ["red", "green", "blue"]
TITLED = [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}]
EVERY_FIELD: dict[str, Any] = {
    "name": {"type": "string", "title": "Name", "description": "Who orders", "minLength": 2, "maxLength": 40},
    "email": {"type": "string", "format": "email"},
    "site": {"type": "string", "format": "uri"},
    "day": {"type": "string", "format": "date"},
    "at": {"type": "string", "format": "date-time"},
    "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
    "weight": {"type": "number", "minimum": 0},
    "gift": {"type": "boolean", "default": False},
    "color": {"type": "string", "enum": CHOICES, "default": "red"},
    "grade": {"type": "string", "enum": ["a", "b"], "enumNames": ["Best", "Good"]},
    "size": {"type": "string", "oneOf": TITLED},
    "extras": {"type": "array", "items": {"type": "string", "enum": CHOICES}, "minItems": 1, "maxItems": 2},
    "sizes": {"type": "array", "items": {"anyOf": TITLED}, "default": ["s"]},
}
FORM: dict[str, Any] = {"type": "object", "properties": EVERY_FIELD, "required": ["name", "color"]}
ONE_NAME: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CONFIRMATION: dict[str, Any] = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


def form(message: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Return an elicitation request of form mode."""
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": requested}}


def visit(message: str, url: str = VISIT) -> dict[str, Any]:
    """Return an elicitation request of URL mode."""
    params = {"mode": "url", "message": message, "url": url, "elicitationId": "visit-7"}
    return {"method": "elicitation/create", "params": params}


class AskingBox(Toolbox):
    """A box whose tools ask; `visited` is what a test says was visited, `seen` each set of responses that came."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.visited: set[str] = set()
        self.seen: list[dict[str, Any]] = []

    async def put(self, context: Any, step: int, **requests: dict[str, Any]) -> dict[str, Any] | Result:
        """Ask in the way of the era, and return the responses by key, or the result that asks for them."""
        if context.protocol_version < "2026":
            return await self._on_the_stream(context, requests)
        params = context.params or {}
        if params.get("requestState") != STATE % step:
            state = {"requestState": STATE % step}
            return {"resultType": "input_required", "inputRequests": requests, **state}
        self.seen.append(params["inputResponses"])
        return dict(params["inputResponses"])

    async def _on_the_stream(self, context: Any, requests: dict[str, dict[str, Any]]) -> dict[str, Any]:
        async def one(params: dict[str, Any]) -> dict[str, Any]:
            about = context.request_id
            if params.get("mode") == "url":
                said = await context.session.elicit_url(
                    params["message"], params["url"], params["elicitationId"], related_request_id=about
                )
            else:
                said = await context.session.elicit_form(
                    params["message"], params["requestedSchema"], related_request_id=about
                )
            return said.model_dump(by_alias=True, exclude_none=True, include={"action", "content"})

        answered = await asyncio.gather(*(one(request["params"]) for request in requests.values()))
        self.seen.append(dict(zip(requests, answered, strict=True)))
        return self.seen[-1]

    async def ask_form(self, _: dict[str, Any], context: Any) -> Result:
        return _told(await self.put(context, 1, form=form("What do you want to order?", FORM)))

    async def ask_aside(self, _: dict[str, Any], context: Any) -> Result:
        said = await context.session.elicit_form("What is your name?", ONE_NAME)
        self.seen.append(said.model_dump(by_alias=True, exclude_none=True, include={"action", "content"}))
        return _told(self.seen[-1])

    async def ask_visit(self, _: dict[str, Any], context: Any) -> Result:
        return _told(await self.put(context, 1, visit=visit("Please connect your billing account.")))

    async def ask_both(self, _: dict[str, Any], context: Any) -> Result:
        asked = {"form": form("What do you want to order?", FORM), "visit": visit("Please connect your account.")}
        return _told(await self.put(context, 1, **asked))

    async def ask_twice(self, _: dict[str, Any], context: Any) -> Result:
        if context.protocol_version >= "2026" and (context.params or {}).get("requestState") == STATE % 2:
            return _told(await self.put(context, 2))
        first = await self.put(context, 1, name=form("What is your name?", ONE_NAME))
        if "resultType" in first or first["name"]["action"] != "accept":
            return _told(first)
        name = first["name"]["content"]["name"]
        return _told(await self.put(context, 2, sure=form(f"Are you sure, {name}?", CONFIRMATION)))

    async def ask_state(self, arguments: dict[str, Any], context: Any) -> Result:
        state = (context.params or {}).get("requestState")
        step = json.loads(state)["step"] if state else 0
        if step >= arguments["times"]:
            return text(f"after {step}")
        return {"resultType": "input_required", "requestState": STATE % (step + 1)}

    async def visit_first(self, arguments: dict[str, Any], _: Any) -> Result:
        if arguments["tenant"] in self.visited:
            return text("connected")
        raise UrlElicitationRequiredError(
            [ElicitRequestURLParams(message="Connect your account first.", url=VISIT, elicitation_id="visit-7")]
        )


def asking(**options: Any) -> AskingBox:
    """Return a box with one tool for every way of asking."""
    box = AskingBox(**options)
    for handler in (box.ask_form, box.ask_aside, box.ask_visit, box.ask_both, box.ask_twice):
        box.add(handler.__name__, handler, input_schema=schema())
    box.add("ask_state", box.ask_state, input_schema=schema(times={"type": "integer"}))
    box.add("visit_first", box.visit_first, input_schema=schema(tenant={"type": "string"}))
    return box


def _told(said: dict[str, Any]) -> Result:
    return said if "resultType" in said else text(json.dumps(said), structuredContent=said)
