"""A sample MCP server, an order and stock system in memory: `python -m duvo.sample_server --port 9000 --api-key …`.

It speaks both eras of streamable HTTP at `/mcp`. The demo connects to it as to any other system.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, Any, Literal

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

REPORT_STEPS = 10
IMAGE_SIDE = 64  # pixels
PATH = "/mcp"

Application = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
Sku = Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{3}$", description="Article number, such as TEA-001.")]
Quantity = Annotated[int, Field(ge=1, le=1000, description="How many pieces.")]

READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class Product(BaseModel):
    """An article of the catalogue."""

    sku: str
    name: str
    price: float = Field(description="Euro, without tax.")


class Stock(BaseModel):
    """How much of an article is there."""

    sku: str
    on_hand: int = Field(description="Pieces in the warehouse.")
    reserved: int = Field(description="Pieces promised to open orders.")
    available: int = Field(description="Pieces that can still be ordered.")


class Order(BaseModel):
    """An order and what became of it."""

    number: int
    sku: str
    quantity: int
    total: float = Field(description="Euro, without tax.")
    state: Literal["open", "cancelled"]


@dataclass
class Warehouse:
    """Articles, pieces and orders; they last as long as the process."""

    products: dict[str, Product] = field(default_factory=dict)
    on_hand: dict[str, int] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    numbers: count[int] = field(default_factory=lambda: count(1001))
    carts: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by session

    @classmethod
    def furnished(cls) -> Warehouse:
        """Return a small shop."""
        shelf = [
            ("TEA-001", "Green tea, 250 g", 12.5, 120),
            ("TEA-002", "Black tea, 500 g", 18.0, 64),
            ("CUP-001", "Porcelain cup", 9.9, 40),
            ("POT-001", "Cast iron teapot", 74.0, 3),
        ]
        products = {sku: Product(sku=sku, name=name, price=price) for sku, name, price, _ in shelf}
        return cls(products=products, on_hand={sku: pieces for sku, _, _, pieces in shelf})

    def product(self, sku: str) -> Product:
        """Return an article; ToolError when there is none of that number."""
        if sku not in self.products:
            message = f"There is no article {sku}; search_products lists what there is."
            raise ToolError(message)
        return self.products[sku]

    def stock(self, sku: str) -> Stock:
        """Return the pieces of an article."""
        self.product(sku)
        open_orders = [order for order in self.orders.values() if order.sku == sku and order.state == "open"]
        reserved = sum(order.quantity for order in open_orders)
        pieces = self.on_hand[sku]
        return Stock(sku=sku, on_hand=pieces, reserved=reserved, available=pieces - reserved)

    def place(self, sku: str, quantity: int) -> Order:
        """Reserve pieces; ToolError when there are too few."""
        available = self.stock(sku).available
        if quantity > available:
            message = f"Only {available} of {sku} are available, {quantity} were ordered."
            raise ToolError(message)
        total = round(self.product(sku).price * quantity, 2)
        order = Order(number=next(self.numbers), sku=sku, quantity=quantity, total=total, state="open")
        self.orders[order.number] = order
        return order

    def cancel(self, number: int) -> Order:
        """Give the pieces of an order back; ToolError when there is no such order."""
        if number not in self.orders:
            message = f"There is no order {number}."
            raise ToolError(message)
        cancelled = self.orders[number].model_copy(update={"state": "cancelled"})
        self.orders[number] = cancelled
        return cancelled


def build(warehouse: Warehouse) -> MCPServer[Any]:
    """Return the MCP server of a warehouse."""
    server: MCPServer[Any] = MCPServer(
        "orders-and-stock",
        title="Orders and stock",
        version="1.0",
        instructions="Look up articles and stock before you place an order.",
        log_level="WARNING",
    )
    _offer_looking(server, warehouse)
    _offer_ordering(server, warehouse)
    return server


def _offer_looking(server: MCPServer[Any], warehouse: Warehouse) -> None:
    @server.tool(title="Search products", annotations=READS)
    def search_products(
        words: Annotated[str, Field(description="Part of a name; empty lists everything.")] = "",
    ) -> list[Product]:
        """Find articles by a part of their name."""
        return [product for product in warehouse.products.values() if words.lower() in product.name.lower()]

    @server.tool(title="Get stock", annotations=READS)
    def get_stock(sku: Sku) -> Stock:
        """Tell how many pieces of an article are there, reserved and available."""
        return warehouse.stock(sku)

    @server.tool(title="Stock report", annotations=READS)
    async def stock_report(
        context: Context[Any, Any],
        seconds: Annotated[float, Field(ge=0, le=300, description="How long counting takes.")] = 3,
    ) -> str:
        """Count the whole warehouse; slow, and reports its progress."""
        for step in range(1, REPORT_STEPS + 1):
            await asyncio.sleep(seconds / REPORT_STEPS)
            await context.report_progress(step, REPORT_STEPS, f"Counted aisle {step} of {REPORT_STEPS}")
        lines = [f"{sku}: {warehouse.stock(sku).available} available" for sku in warehouse.products]
        return "\n".join(lines)

    @server.tool(title="Product image", annotations=READS)
    def product_image(sku: Sku) -> Image:
        """Return a picture of an article (a coloured square in this sample)."""
        return Image(data=_square(warehouse.product(sku).sku), format="png")


def _offer_ordering(server: MCPServer[Any], warehouse: Warehouse) -> None:
    @server.tool(
        title="Place an order",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    def place_order(sku: Sku, quantity: Quantity) -> Order:
        """Order pieces of an article; they are reserved at once."""
        return warehouse.place(sku, quantity)

    @server.tool(
        title="Cancel an order",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    def cancel_order(number: Annotated[int, Field(description="The number that place_order gave.")]) -> Order:
        """Cancel an order for good; its pieces can be ordered again."""
        return warehouse.cancel(number)

    @server.tool(title="Put into the cart", annotations=ToolAnnotations(destructive_hint=False, open_world_hint=False))
    def put_into_cart(context: Context[Any, Any], sku: Sku) -> list[str]:
        """Put an article into the cart of this session; needs MCP 2025-11-25 or earlier, which has sessions."""
        request = context.request_context.request
        session = request.headers.get("mcp-session-id") if request is not None else None
        if session is None:
            message = "There is no session, so there is no cart."
            raise ToolError(message)
        cart = warehouse.carts[session]
        cart.append(warehouse.product(sku).name)
        return cart

    @server.tool(title="Export the ledger", annotations=READS)
    def export_ledger(year: Annotated[int, Field(ge=2000, le=2100)]) -> str:
        """Export the ledger of a year; in this sample the accounting system is always closed."""
        message = f"The ledger of {year} cannot be exported: the accounting system is closed for the night."
        raise ToolError(message)


def guarded(application: Application, api_key: str) -> Application:
    """Answer 401 to HTTP requests without `Authorization: Bearer <api_key>`."""
    expected = f"Bearer {api_key}".encode()

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        offered = dict(scope.get("headers", [])).get(b"authorization", b"")
        if scope["type"] != "http" or hmac.compare_digest(offered, expected):
            await application(scope, receive, send)
            return
        headers = [(b"www-authenticate", b'Bearer realm="orders-and-stock"'), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"An API key is needed."})

    return answer


def application(api_key: str = "") -> Application:
    """Return the ASGI application of a furnished warehouse; without a key it is open."""
    app: Application = build(Warehouse.furnished()).streamable_http_app(streamable_http_path=PATH)
    return guarded(app, api_key) if api_key else app


def _square(sku: str) -> bytes:
    """Return a PNG (ISO/IEC 15948) of one colour, which depends on the article."""
    colour = zlib.crc32(sku.encode()).to_bytes(4, "big")[:3]
    header = struct.pack(">IIBBBBB", IMAGE_SIDE, IMAGE_SIDE, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + colour * IMAGE_SIDE) * IMAGE_SIDE)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--api-key", default=os.environ.get("SAMPLE_SERVER_KEY", ""), help="or SAMPLE_SERVER_KEY")
    options = parser.parse_args()
    uvicorn.run(application(options.api_key), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
