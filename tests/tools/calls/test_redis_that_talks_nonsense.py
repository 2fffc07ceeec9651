"""Whatever Redis says holds up no call: what is none of its answers counts as if it were away."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import LazySettings, settings

from tests.tools.calls.test_limits import acquire, bounds
from tools.calls import limits, pubsub
from tools.calls.limits import BreakerSignal

PATIENCE = 10.0
NONSENSE = {
    "too few answers": b"$2\r\n[]\r\n",
    "too many": b"$5\r\n[0,0]\r\n",
    "no list": b"$1\r\n0\r\n",
    "no refusal": b'$9\r\n[["what"]]\r\n',
    "a refusal that nobody knows": b'$16\r\n[["what",1,1,0]]\r\n',
    "a refusal without numbers": b'$32\r\n[["connection_busy",null,null,{}]]\r\n',
    "an answer that is null": b"$6\r\n[null]\r\n",
    "no JSON": b"$4\r\nwhat\r\n",
    "a number": b":7\r\n",
    "nothing": b"$-1\r\n",
    "an array": b"*2\r\n:1\r\n:2\r\n",
    "arrays in arrays": b"*1\r\n" * 5_000,
    "an error": b"-ERR what\r\n",
    "no number": b":what\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


class _Nonsense(socketserver.ThreadingTCPServer):
    """Answers whatever it is asked with the same bytes."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, said: bytes) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while self.request.recv(65536):
                    self.request.sendall(said)

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"


@pytest.fixture
def nonsense() -> Iterator[Callable[[bytes], str]]:
    """Start a server that says only this, and return its address."""
    servers = list[_Nonsense]()

    def start(said: bytes) -> str:
        servers.append(server := _Nonsense(said))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_calls_go_on_without_limits(said: bytes, nonsense: Any, settings: LazySettings) -> None:
    settings.REDIS_URL = nonsense(said)
    async with asyncio.timeout(PATIENCE):
        slot = await acquire(bounds(connection_concurrency=1))
        limits.release(slot, BreakerSignal.ANSWERED)
        await limits.renew([slot], lease=5.0)
        assert await limits.breakers() is None


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_nobody_fails_who_publishes_or_calls_the_roll(said: bytes, nonsense: Any, settings: LazySettings) -> None:
    settings.REDIS_URL = nonsense(said)
    await asyncio.to_thread(pubsub.publish, uuid4())
    pubsub.publish_soon(uuid4())
    roll = pubsub.RollCall(uuid4())
    async with asyncio.timeout(PATIENCE):
        assert await roll.died([uuid4(), uuid4()]) == set()
        await roll.close()


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_who_listens_hears_again_what_redis_says_later(
    said: bytes, nonsense: Any, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub, "_AGAIN", 0.05)
    good, settings.REDIS_URL = settings.REDIS_URL, nonsense(said)
    heard, call = asyncio.Queue[UUID](), uuid4()
    listening = asyncio.create_task(pubsub.listen(lambda call_id, _: heard.put_nowait(call_id)))
    await asyncio.sleep(0.2)
    settings.REDIS_URL = good
    async with asyncio.timeout(PATIENCE):
        while heard.empty():
            assert not listening.done()
            await asyncio.to_thread(_publish, call)
            await asyncio.sleep(0.05)
    assert heard.get_nowait() == call
    listening.cancel()


def _publish(call: UUID) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.publish(pubsub.CHANNEL, str(call))
