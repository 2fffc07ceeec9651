from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from duvo import sample_server
from tests.servers.running import Host, McpServer
from tests.servers.toolbox import Toolbox
from tools import mcp_client

KEY = "key-of-the-sample"
TOOLS = {
    "search_products",
    "get_stock",
    "stock_report",
    "product_image",
    "place_order",
    "cancel_order",
    "put_into_cart",
    "export_ledger",
}


@pytest.fixture(params=["modern", "legacy"])
def shop(request: pytest.FixtureRequest, settings: Any) -> Iterator[mcp_client.Server]:
    """The sample server behind its key, as a client of each era sees it."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()
    running = host.start(McpServer(Toolbox()), sample_server.application(KEY))
    version = "2026-07-28" if request.param == "modern" else "2025-11-25"
    yield mcp_client.Server(
        key=f"shop-{running.port}",
        url=running.url,
        headers=(("Authorization", f"Bearer {KEY}"),),
        era=request.param,
        protocol_version=version,
    )
    host.close()


async def test_every_tool_can_be_used_and_says_what_it_does(shop: mcp_client.Server) -> None:
    listing = await mcp_client.list_tools(shop)
    assert not listing.set_aside
    definitions = {tool.name: tool.definition for tool in listing.tools}
    assert set(definitions) == TOOLS
    hints = {name: definition["annotations"] for name, definition in definitions.items()}
    assert hints["cancel_order"]["destructiveHint"]
    assert hints["get_stock"]["readOnlyHint"]
    assert not hints["place_order"]["idempotentHint"]
    assert all(definition["title"] and definition["description"] for definition in definitions.values())
    assert definitions["get_stock"]["outputSchema"]["properties"]["available"]["type"] == "integer"


async def test_an_order_reserves_pieces_and_its_cancellation_gives_them_back(shop: mcp_client.Server) -> None:
    order = await mcp_client.call_tool(shop, "place_order", {"sku": "TEA-001", "quantity": 20})
    assert order.structured == {"number": 1001, "sku": "TEA-001", "quantity": 20, "total": 250.0, "state": "open"}
    stock = await mcp_client.call_tool(shop, "get_stock", {"sku": "TEA-001"})
    assert stock.structured == {"sku": "TEA-001", "on_hand": 120, "reserved": 20, "available": 100}
    cancelled = await mcp_client.call_tool(shop, "cancel_order", {"number": 1001})
    assert cancelled.structured["state"] == "cancelled"
    stock = await mcp_client.call_tool(shop, "get_stock", {"sku": "TEA-001"})
    assert stock.structured["available"] == 120


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("export_ledger", {"year": 2026}, "the accounting system is closed for the night."),
        ("place_order", {"sku": "POT-001", "quantity": 4}, "Only 3 of POT-001 are available, 4 were ordered."),
        ("get_stock", {"sku": "TEA-999"}, "There is no article TEA-999; search_products lists what there is."),
        ("cancel_order", {"number": 7}, "There is no order 7."),
    ],
)
async def test_a_tool_that_fails_says_why(
    shop: mcp_client.Server, tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    answer = await mcp_client.call_tool(shop, tool, arguments)
    assert answer.is_error
    assert answer.content[0]["text"].endswith(sentence)


async def test_the_report_tells_its_progress(shop: mcp_client.Server) -> None:
    seen: list[mcp_client.Progress] = []
    answer = await mcp_client.call_tool(shop, "stock_report", {"seconds": 0.1}, progress=seen.append)
    assert [step.progress for step in seen] == list(range(1, 11))
    assert seen[-1].message == "Counted aisle 10 of 10"
    assert "POT-001: 3 available" in answer.content[0]["text"]


async def test_the_image_is_a_png(shop: mcp_client.Server) -> None:
    answer = await mcp_client.call_tool(shop, "product_image", {"sku": "CUP-001"})
    image = answer.content[0]
    assert (image["type"], image["mimeType"]) == ("image", "image/png")
    data = base64.b64decode(image["data"])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (64, 64)


async def test_nobody_gets_in_without_the_key(shop: mcp_client.Server) -> None:
    stranger = mcp_client.Server(key="stranger", url=shop.url, era=shop.era, protocol_version=shop.protocol_version)
    with pytest.raises(mcp_client.Unauthorized):
        await mcp_client.list_tools(stranger)
