"""Fixtures that offer the MCP servers of `tests/servers/` to every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.running import Host, McpServer
from tests.servers.toolbox import Toolbox

StartServer = Callable[..., McpServer]


@pytest.fixture
def mcp_server(settings: Any) -> Iterator[StartServer]:
    """Start servers by kind: `mcp_server("legacy")`, see `tests/servers/kinds.py`; they end with the test."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()

    def start(kind: str = "dual", toolbox: Toolbox | None = None) -> McpServer:
        return kinds.start(host, kind, toolbox)

    yield start
    host.close()
