"""Server-sent events, decoded without I/O (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its type (`message` unless the stream names another) and its data."""

    name: bytes
    data: bytes


class Decoder:
    """Turns chunks of a stream, cut anywhere, into events.

    Scans each byte once, whatever the chunks; the caller caps how many bytes it feeds. `last_id` and `retry`
    (seconds) are what the stream said about being resumed.
    """

    __slots__ = ("_after_cr", "_data", "_event", "_line", "_started", "last_id", "retry")

    def __init__(self, last_id: bytes = b"", retry: float | None = None) -> None:
        """Begin a stream, or go on with one that was resumed."""
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._event = b""
        self._after_cr = False
        self._started = False
        self.last_id = last_id
        self.retry = retry

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that this chunk completes; an event without data is none."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        complete = chunk.splitlines()  # at CR, LF and CR LF; of bytes at nothing else
        rest = b"" if chunk.endswith((b"\r", b"\n")) else complete.pop()
        events: list[Event] = []
        for line in complete:
            whole = line
            if self._line:
                whole = b"".join((*self._line, line))
                self._line = []
            self._take(whole, events)
        if rest:
            self._line.append(rest)
        return events

    def finish(self) -> Event | None:
        """Return the event that the end of the stream has left without its blank line, if there is one."""
        events: list[Event] = []
        for line in (b"".join(self._line), b""):
            self._take(line, events)
        self._line = []
        return events[-1] if events else None

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(Event(self._event or b"message", b"\n".join(self._data)))
            self._data, self._event = [], b""
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self.last_id = value
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:9]) / 1000
