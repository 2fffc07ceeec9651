"""An assignment lists a tool, looks at it and calls it, over real sockets all the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connections.models import Connection
from tests.conftest import House
from tests.live import Api
from tools.models import Probe

pytestmark = pytest.mark.smoke


@pytest.fixture
def orders(acme: House, mcp_server: Callable[..., Any], probed: Callable[[Connection], Probe]) -> Connection:
    connection = acme.connection("Orders", mcp_server("modern").url)
    report = probed(connection)
    assert report.outcome == "passed", report.stages
    return connection


def test_an_assignment_lists_and_calls_a_tool(api: Api, acme: House, orders: Connection) -> None:
    api = api.as_(acme.token())
    names = [tool["name"] for tool in api.get("/v1/tools").json()["results"]]
    assert "orders__echo" in names

    answer = api.call("orders__echo", {"text": "hello"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["state"] == "succeeded"
    assert body["content"] == [{"type": "text", "text": "hello"}]
    call = acme.tenant.calls.get(pk=body["id"])
    assert (call.state, call.arguments()) == ("succeeded", {"text": "hello"})
    assert api.get(f"/v1/calls/{call.pk}").json() == body
