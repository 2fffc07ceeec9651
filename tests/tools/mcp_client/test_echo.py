"""The bench's raw echo server speaks enough MCP for the whole product."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tools import mcp_client
from tools.mcp_client import Server


@pytest.fixture
def echo_url(settings: Any) -> Iterator[str]:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with subprocess.Popen([sys.executable, "-m", "tests.servers.echo"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


async def test_the_echo_server_is_discovered_listed_and_called(echo_url: str) -> None:
    server = Server(key=echo_url, url=echo_url)
    assert (await mcp_client.discover(server)).era == "modern"
    assert [tool.name for tool in (await mcp_client.list_tools(server)).tools] == ["echo"]
    result = await mcp_client.call_tool(server, "echo", {"text": "x" * 100_000})
    assert result.content == [{"type": "text", "text": "x" * 100_000}]
