"""A mail server that takes mail, or refuses some addresses (RFC 5321)."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class MailServer(socketserver.ThreadingTCPServer):
    """What was taken, by address, and the replies to addresses that are refused."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[tuple[str, EmailMessage]] = []
        self.refusals: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Session)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def readers(self) -> list[str]:
        return [address for address, _ in self.taken]


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.reply(b"220 mail.example.com")
        to: list[str] = []
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                address = line.decode().partition("<")[2].partition(">")[0]
                refusal = self.server.refusals.get(address)
                to += [] if refusal else [address]
                self.reply(refusal or b"250 OK")
            elif verb == b"DATA":
                self.reply(b"354 Go on")
                self.take(to)
                self.reply(b"250 OK")
            elif verb == b"QUIT":
                self.reply(b"221 Bye")
                return
            else:
                to = [] if verb in {b"MAIL", b"RSET"} else to
                self.reply(b"250 OK")

    def take(self, to: list[str]) -> None:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.server.taken += [(address, message) for address in to]

    def reply(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")


@contextmanager
def serving() -> Iterator[MailServer]:
    """Run a mail server on a free port of loopback."""
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
