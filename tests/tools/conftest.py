"""A shop with one connection, for tests that call its tools."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from connections.models import Connection
from tests.conftest import House
from tests.live import Api
from tests.servers import kinds
from tests.servers.remembering import RememberingBox, remembering
from tests.servers.running import McpServer
from tests.servers.toolbox import Toolbox, furnished
from tools.calls import offers
from tools.models import Assignment, Call, Probe, Tool

PATIENCE = 20.0  # seconds


@dataclass
class Shop:
    """A server, its probed connection, and an assignment that may call its tools."""

    server: McpServer
    connection: Connection
    assignment: Assignment
    api: Api

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> httpx2.Response:
        return self.api.call(f"orders__{tool}", arguments, **more)

    def post(self, content: bytes, tool: str = "echo", **headers: str) -> httpx2.Response:
        """Call with a body as it is."""
        headers = {"content-type": "application/json", **{key.replace("_", "-"): headers[key] for key in headers}}
        return self.api.request("POST", f"/v1/tools/orders__{tool}/call", content=content, headers=headers)

    def set(self, **members: Any) -> None:
        """Change the connection's row."""
        Connection.objects.filter(pk=self.connection.pk).update(**members)
        offers.forget()

    def set_tool(self, name: str, **members: Any) -> None:
        """Change a tool's row."""
        assert Tool.objects.filter(connection=self.connection, name=name).update(**members) == 1
        offers.forget()

    def answers(self, *rules: Any) -> None:
        """Have the server answer calls in this way, and everything else as before."""
        self.server.behave(kinds.only_modern, *(kinds.only_on("tools/call", rule) for rule in rules))

    @property
    def row(self) -> Call:
        """The only call there is."""
        return Call.objects.get()


OpenShop = Callable[..., Shop]


@pytest.fixture
def open_shop(
    api: Api, acme: House, mcp_server: Callable[..., McpServer], probed: Callable[[Connection], Probe]
) -> OpenShop:
    """Open a shop whose tools are in the given box; of acme, if nobody else is named."""

    def opened(box: Toolbox | None = None, kind: str = "modern", house: House = acme) -> Shop:
        server = mcp_server(kind, box or furnished())
        connection = house.connection("Orders", server.url)
        report = probed(connection)
        assert report.outcome == "passed", report.stages
        assignment = house.assignment()
        return Shop(server, connection, assignment, api.as_(house.token(assignment)))

    return opened


@pytest.fixture
def shop(open_shop: OpenShop) -> Shop:
    """A shop with one tool for every kind of answer."""
    return open_shop()


@pytest.fixture
def box() -> RememberingBox:
    return remembering()


@pytest.fixture
def cart(open_shop: OpenShop, box: RememberingBox) -> Shop:
    """A connection to a server with a cart for each session."""
    return open_shop(box, kind="legacy")


def eventually(found: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return what is found, as soon as it is."""
    deadline = time.monotonic() + patience
    while not (value := found()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
    return value
