"""Tools of a server that remembers: each session of the handshake era has a cart of its own.

`mcp_server("legacy", remembering())` offers:

    put     puts a thing into the cart; answers with what is in it
    cart    answers with what is in the cart
    linger  the same after `seconds`; `box.at_once` is the most calls of one session that ever ran side by side
    ask     asks on the session's own stream for the name of a thing, and puts it into the cart
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from tests.servers.asking import ONE_NAME
from tests.servers.toolbox import Result, Toolbox, schema, text


class RememberingBox(Toolbox):
    """A box with a cart for each session, by its id."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.carts: defaultdict[str, list[str]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self.at_once = 0
        self.order: list[str] = []  # the things in the order in which `linger` was begun with them

    async def put(self, arguments: dict[str, Any], context: Any) -> Result:
        self.carts[_session(context)].append(arguments["thing"])
        return await self.cart({}, context)

    async def cart(self, _: dict[str, Any], context: Any) -> Result:
        return text(", ".join(self.carts[_session(context)]))

    async def linger(self, arguments: dict[str, Any], context: Any) -> Result:
        session = _session(context)
        self.running[session] += 1
        self.at_once = max(self.at_once, self.running[session])
        self.order.append(arguments["thing"])
        try:
            await asyncio.sleep(arguments["seconds"])
        finally:
            self.running[session] -= 1
        return await self.put(arguments, context)

    async def ask(self, _: dict[str, Any], context: Any) -> Result:
        said = await context.session.elicit_form("What shall be put in?", ONE_NAME)
        return await self.put({"thing": f"{said.action} {(said.content or {}).get('name')}"}, context)


def _session(context: Any) -> str:
    return str(context.request.headers.get("mcp-session-id"))


def remembering(**options: Any) -> RememberingBox:
    """Return a box with a cart for each session."""
    box = RememberingBox(**options)
    thing, seconds = {"type": "string"}, {"type": "number"}
    box.add("put", box.put, input_schema=schema(thing=thing))
    box.add("cart", box.cart, input_schema=schema())
    box.add("linger", box.linger, input_schema=schema(thing=thing, seconds=seconds))
    box.add("ask", box.ask, input_schema=schema())
    return box
