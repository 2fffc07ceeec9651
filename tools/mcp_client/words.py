"""What a server says about a refusal, as people may read it: capped, in one line, marked as the server's words."""

from __future__ import annotations

from typing import Final

from tools.mcp_client.shapes import Server

MOST: Final = 160  # characters
_SHORTEST_SECRET: Final = 6  # characters; what is shorter may be in a text by chance


def of_status(status: int, words: str, server: Server) -> str:
    """Return a sentence about the HTTP status, and the words if there are any."""
    return f"It answered HTTP {status}. {quoted(words, server)}".strip()


def quoted(words: str, server: Server) -> str:
    """Return a sentence with the server's words, without those of our secrets that they repeat; "" for none."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words[:4000]).split())
    for secret in _sent(server):
        line = line.replace(secret, "…")
    return f"In the server's own words: “{line[:MOST]}{'…' if len(line) > MOST else ''}”." if line else ""


def _sent(server: Server) -> list[str]:
    """Return what we sent that may be secret, the longest first."""
    values = {part for _, value in server.headers for part in (value, *value.split())} - {"Bearer"}
    return sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
