"""Strangers: wrong passwords, guessed tokens, bodies without end, requests that never end, and upgrades."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from itertools import count, cycle

from tests.neighbours.pages import log_in
from tests.neighbours.plan import PAUSE, Attack, Ground
from tests.neighbours.visitor import CHUNK, NO_ANSWER, Visitor, read

PASSWORDS, GUESSERS, UPGRADES = 30, 40, 2  # at once
UPLOADS = 2  # at once, each to one address after the other
UPLOAD = 300 * 1024 * 1024  # bytes
SLOW = 200  # sockets, half of them with slow heads and half with slow bodies
ADDRESSES = ("/admin/login/", "/v1/connections", "/v1/tools/orders__echo/call", "/v1/oauth/mcp/callback", "/healthz")


async def _run(ground: Ground) -> None:
    await ground.all_of(
        *(_wrong_passwords(ground) for _ in range(PASSWORDS)),
        *(_unknown_tokens(ground) for _ in range(GUESSERS)),
        *(_large_bodies(ground, first) for first in range(UPLOADS)),
        *(_slow_request(ground, number) for number in range(SLOW)),
        *(_upgrades(ground) for _ in range(UPGRADES)),
    )


async def _wrong_passwords(ground: Ground) -> None:
    """Try passwords, in turn for a person of acme's and for one whom nobody knows."""
    async with ground.visitor("password") as visitor:
        for number in count():
            name = "admin@acme.example" if number % 2 else f"{secrets.token_hex(4)}@acme.example"
            await log_in(visitor, name, secrets.token_hex(8))
            await asyncio.sleep(PAUSE)


async def _unknown_tokens(ground: Ground) -> None:
    async with ground.visitor("unknown token") as visitor:
        while True:
            guess = f"Bearer duvo_{secrets.token_urlsafe(32)}"
            await visitor.ask("POST", "/v1/tools/orders__echo/call", b'{"arguments":{}}', Authorization=guess)
            await asyncio.sleep(PAUSE)


async def _large_bodies(ground: Ground, first: int) -> None:
    """Send as much of a body as is taken, to one address after the other."""
    for address in cycle(ADDRESSES[first:] + ADDRESSES[:first]):
        async with ground.visitor("large body") as visitor:
            headers = {"Content_Length": str(UPLOAD), "Content_Type": "application/x-www-form-urlencoded"}
            ground.answers[f"large body {await _upload(visitor, visitor.head('POST', address, **headers))}"] += 1
        await asyncio.sleep(0.5)


async def _upload(visitor: Visitor, head: bytes) -> int:
    with suppress(OSError, EOFError):
        reader, writer = await visitor.open()
        writer.write(head)
        answer = asyncio.ensure_future(read(reader))
        try:
            for _ in range(UPLOAD // CHUNK):
                if answer.done():
                    break
                writer.write(bytes(CHUNK))
                await writer.drain()
            return (await answer).status
        finally:
            answer.cancel()
    return NO_ANSWER


async def _slow_request(ground: Ground, number: int) -> None:
    """Send a request one byte a second, and note how many of these are open."""
    async with ground.visitor("slow request") as visitor:
        address = ADDRESSES[number % len(ADDRESSES)]
        head = visitor.head("POST", address, Content_Length="1000000")
        first, again = (head, b" ") if number % 2 else (head.removesuffix(b"\r\n\r\n"), b"x")
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await visitor.open()
                ground.answers["slow requests open"] += 1
                writer.write(first)
                while not reader.at_eof():
                    await asyncio.sleep(1)
                    writer.write(again)
                    await writer.drain()
            ground.answers["slow requests open"] -= 1
            visitor.hang_up()
            await asyncio.sleep(1)


async def _upgrades(ground: Ground) -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": key}
    for address in cycle(ADDRESSES):
        async with ground.visitor("upgrade") as visitor:
            await visitor.send(visitor.head("GET", address, **upgrade))
        await asyncio.sleep(0.5)


ATTACK = Attack(
    name="anonymous",
    number=13,
    sentence=f"{PASSWORDS} guess passwords, {GUESSERS} tokens; bodies of 300 MB, {SLOW} slow requests, upgrades",
    run=_run,
)
