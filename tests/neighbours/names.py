"""A name server of a row's own, and processes that ask it instead of the machine's: `python -m tests.neighbours.names`.

Names below `.acme.test` are 127.0.0.1 at once; so are those below `.rival.test` until somebody asks for
`slow.control.test`: from then on they are answered after 20 s. Everything else does not exist. The argument is the
address to answer at.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ACME, RIVAL = ".acme.test", ".rival.test"
SLOW_SECONDS = 20.0
PORT = 53
TTL = 1  # seconds
_CONTROL = b"slow.control.test"
_A, _IN = 1, 1
_NO_ERROR, _NO_SUCH_NAME = 0, 3
_HEADER = struct.Struct("!6H")
# The processes of the product see this file in the place of the machine's; nobody else does (mount_namespaces(7)).
_OWN_NAMES = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def an_address() -> str:
    """Return an address of loopback that hardly anybody else answers at."""
    return f"127.{secrets.randbelow(200) + 10}.{secrets.randbelow(200) + 10}.53"


def asking(address: str, folder: Path) -> list[str]:
    """Return the beginning of a command whose process looks names up at this address."""
    path = folder / "resolv.conf"
    path.write_text(f"nameserver {address}\noptions timeout:5 attempts:2\n")
    return ["unshare", "--mount", "sh", "-c", _OWN_NAMES, str(path)]


def why_not(folder: Path) -> str:
    """Return why this machine cannot give processes a name server of their own, or nothing."""
    if os.geteuid() != 0:
        return "only root may give processes a name server of their own"
    address = an_address()
    with suppress(OSError):
        done = subprocess.run([*asking(address, folder), "cat", "/etc/resolv.conf"], capture_output=True, check=False)
        if address in done.stdout.decode():
            return ""
    return "this machine does not let a process mount a resolv.conf of its own"


def begin_to_be_slow(address: str) -> tuple[bytes, tuple[str, int]]:
    """Return the packet that makes the server at an address slow, and where to send it."""
    labels = b"".join(bytes([len(label)]) + label for label in _CONTROL.split(b"."))
    return _HEADER.pack(1, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _A, _IN), (address, PORT)


class _Names(asyncio.DatagramProtocol):
    """DNS over UDP (RFC 1035, section 4) as far as one question in a packet needs it."""

    def __init__(self) -> None:
        self._slow = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _name(data)
        self._slow = self._slow or name == _CONTROL
        delay = SLOW_SECONDS if self._slow and name.endswith(RIVAL.encode()) else 0.0
        asyncio.get_running_loop().call_later(delay, self._transport.sendto, _answer(data, name, end), addr)


def _name(packet: bytes) -> tuple[bytes, int]:
    """Return the name that is asked for, and where the question ends."""
    labels, at = [], _HEADER.size
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].lower())
        at += 1 + length
    return b".".join(labels), at + 5


def _answer(packet: bytes, name: bytes, end: int) -> bytes:
    known = name.endswith((ACME.encode(), RIVAL.encode()))
    (asked,) = struct.unpack_from("!H", packet, end - 4)
    found = known and asked == _A  # there is no other record, and that is no error
    flags = 0x8580 | (_NO_ERROR if known else _NO_SUCH_NAME)  # an authoritative answer
    record = struct.pack("!HHHIH", 0xC00C, _A, _IN, TTL, 4) + socket.inet_aton("127.0.0.1")
    (number,) = struct.unpack_from("!H", packet)
    return _HEADER.pack(number, flags, 1, int(found), 0, 0) + packet[_HEADER.size : end] + (record if found else b"")


async def serve(address: str) -> None:
    """Answer until cancelled."""
    await asyncio.get_running_loop().create_datagram_endpoint(_Names, local_addr=(address, PORT))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
