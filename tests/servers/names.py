"""A name server on loopback, over UDP and TCP, that answers truthfully, slowly, falsely, too much or not at all."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

A, CNAME, AAAA = 1, 5, 28
NO_ERROR, SERVER_FAILED, NO_SUCH_NAME = 0, 2, 3
_LONGEST_DATAGRAM = 512


@dataclass
class Zone:
    """What is said of one name."""

    addresses: list[str] = field(default_factory=list)
    ttl: int = 60
    aliases: list[str] = field(default_factory=list)  # the chain of names behind it; the last one has the addresses
    status: int = NO_ERROR
    silent: bool = False  # whether nobody ever gets an answer
    another_id: bool = False  # whether the answer is one to a question that nobody asked
    only_by_tcp: bool = False  # whether an answer over UDP says that it is cut off, whatever its size


class NameServer:
    """What the server says, which a test may change at any time, and what it was asked."""

    def __init__(self) -> None:
        self.zones: dict[str, Zone] = {}
        self.asked: Counter[str] = Counter()  # questions by name, A and AAAA together
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def names(self, name: str, *found: str, **more: object) -> Zone:
        """Say what a name is."""
        zone = self.zones[name] = Zone(list(found), **more)  # type: ignore[arg-type]
        return zone

    def answer(self, question: bytes, *, tcp: bool) -> bytes | None:
        """Return the answer to a message; a name that nobody has named does not exist."""
        name, end = _read_name(question, 12)
        [kind] = struct.unpack_from("!H", question, end)
        self.asked[name] += 1
        zone = self.zones.get(name, Zone(status=NO_SUCH_NAME))
        if zone.silent:
            return None
        records = self._records(name, zone, kind)
        ident = struct.pack("!H", struct.unpack_from("!H", question)[0] ^ zone.another_id)
        body = question[12 : end + 4] + b"".join(records)
        cut_off = not tcp and (zone.only_by_tcp or len(body) > _LONGEST_DATAGRAM - 12)
        flags = 0x8180 | zone.status | (0x0200 if cut_off else 0)
        if cut_off:
            return ident + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + question[12 : end + 4]
        return ident + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + body

    def _records(self, name: str, zone: Zone, kind: int) -> list[bytes]:
        records, owner = [], name
        for alias in zone.aliases:
            records.append(_record(owner, CNAME, zone.ttl, _written_name(alias)))
            owner = alias
        for text in zone.addresses:
            address = ip_address(text)
            if kind == (A if address.version == 4 else AAAA):
                records.append(_record(owner, kind, zone.ttl, address.packed))
        return records


def _record(owner: str, kind: int, ttl: int, data: bytes) -> bytes:
    return _written_name(owner) + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def _written_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _read_name(message: bytes, start: int) -> tuple[str, int]:
    labels = []
    while length := message[start]:
        labels.append(message[start + 1 : start + 1 + length].decode().lower())
        start += 1 + length
    return ".".join(labels), start + 1


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (answer := self._server.answer(data, tcp=False)) is not None:
            self._transport.sendto(answer, addr)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Serve names in a thread, on one free port for UDP and TCP."""
    server, loop, ready = NameServer(), asyncio.new_event_loop(), threading.Event()

    async def by_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                [length] = struct.unpack("!H", await reader.readexactly(2))
                if (answer := server.answer(await reader.readexactly(length), tcp=True)) is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
        except asyncio.IncompleteReadError:
            writer.close()

    async def serve() -> None:
        while True:
            listening = await asyncio.start_server(by_tcp, "127.0.0.1", 0)
            server.port = listening.sockets[0].getsockname()[1]
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(server), local_addr=("127.0.0.1", server.port)
                )
            except OSError:  # somebody else has the UDP port
                listening.close()
                continue
            break
        ready.set()
        try:
            await stopped.wait()
        finally:
            transport.close()
            listening.close()

    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="names", daemon=True)
    thread.start()
    assert ready.wait(10), "the name server did not start"
    yield server
    loop.call_soon_threadsafe(stopped.set)
    thread.join(10)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
