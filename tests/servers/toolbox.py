"""The tools of a test server: a dictionary that a test may change while the server runs."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

Result = dict[str, Any]
Handler = Callable[[dict[str, Any], Any], Awaitable[Result]]

# One transparent pixel, so that a result carries a real image.
PIXEL = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()


def text(words: str, **members: Any) -> Result:
    return {"content": [{"type": "text", "text": words}], **members}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


async def echo(arguments: dict[str, Any], _: Any) -> Result:
    return text(str(arguments.get("text")))


async def add(arguments: dict[str, Any], _: Any) -> Result:
    total = arguments["a"] + arguments["b"]
    return text(str(total), structuredContent={"total": total})


async def fail(_: dict[str, Any], __: Any) -> Result:
    return text("No such order.", isError=True)


async def picture(_: dict[str, Any], __: Any) -> Result:
    return {"content": [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]}


async def slow(arguments: dict[str, Any], context: Any) -> Result:
    steps = arguments["steps"]
    for step in range(steps):
        await asyncio.sleep(arguments.get("pause", 0.05))
        await context.session.report_progress(step + 1, steps, f"step {step + 1}")
    return text("done")


async def route(arguments: dict[str, Any], context: Any) -> Result:
    return text(context.request.headers.get("mcp-param-region", ""), structuredContent=arguments)


async def ask_back(_: dict[str, Any], context: Any) -> Result:
    """Ask the client something in the middle of the call, as servers of the handshake era may."""
    try:
        await context.session.list_roots()
    except Exception as refusal:  # noqa: BLE001  -- whatever the refusal is, the tool reports it
        return text(f"refused: {refusal}")
    return text("answered")


class Toolbox:
    """Definitions and handlers by name, and how often each tool was run."""

    def __init__(self, *, page_size: int | None = None) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self.handlers: dict[str, Handler] = {}
        self.executions: Counter[str] = Counter()
        self.page_size = page_size
        self.output_cursor: str | None = None

    def add(
        self,
        name: str,
        handler: Handler = echo,
        *,
        input_schema: dict[str, Any] | None = None,
        **members: Any,
    ) -> None:
        """Offer a tool from now on; a tool of the same name is replaced."""
        self.definitions[name] = {
            "name": name,
            "description": f"The tool {name}.",
            "inputSchema": schema(text={"type": "string"}) if input_schema is None else input_schema,
            **members,
        }
        self.handlers[name] = handler

    def change(self, name: str, **members: Any) -> None:
        """Change members of a tool's definition."""
        self.definitions[name] = {**self.definitions[name], **members}

    def remove(self, name: str) -> None:
        """Stop offering a tool."""
        del self.definitions[name], self.handlers[name]

    def server(self) -> Server[Any]:
        """Return an SDK server that offers what is in the box at each moment."""
        return Server("toolbox", version="1.0", title="Toolbox", on_list_tools=self._list, on_call_tool=self._call)

    async def _list(self, _: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        every = list(self.definitions.values())
        if self.page_size is None:
            return ListToolsResult.model_validate({"tools": every})
        start = int(params.cursor) if params is not None and params.cursor else 0
        page = every[start : start + self.page_size]
        following = self.output_cursor or str(start + self.page_size)
        more = start + self.page_size < len(every) or self.output_cursor is not None
        return ListToolsResult.model_validate({"tools": page, "nextCursor": following if more else None})

    async def _call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> Any:
        if params.name not in self.handlers:
            return CallToolResult.model_validate(text(f"Unknown tool: {params.name}", isError=True))
        self.executions[params.name] += 1
        result = await self.handlers[params.name](params.arguments or {}, context)
        return result if "resultType" in result else CallToolResult.model_validate(result)  # a question, or a task


def furnished(**options: Any) -> Toolbox:
    """Return a box with one tool for every kind of answer."""
    box = Toolbox(**options)
    box.add("echo", annotations={"readOnlyHint": True, "idempotentHint": True}, title="Echo")
    number = {"type": "integer"}
    box.add("add", add, input_schema=schema(a=number, b=number))
    box.add("fail", fail, input_schema=schema())
    box.add("picture", picture, input_schema=schema())
    box.add("slow", slow, input_schema={"type": "object", "properties": {"steps": number, "pause": {}}})
    box.add("route", route, input_schema=schema(region={"type": "string", "x-mcp-header": "Region"}))
    box.add("ask_back", ask_back, input_schema=schema())
    return box
