"""A server's own words: found in what it answers, shortened, and without the secrets that we sent it. No I/O."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from connections import quoting
from connections.quoting import LEFT_OUT, SHORTEST
from tools.mcp_client.shapes import Server

MOST: Final = 500  # characters of a quotation
_MOST_READ: Final = 64 * 1024  # characters that are looked through
_SHORTEST_STEP: Final = 16  # of an address's path that may be a key


def quoted(words: str, server: Server) -> str:
    """Return what a server says as it may be shown: at most 500 characters, none of them of a secret."""
    return quoting.readable(without_secrets(words[:_MOST_READ], server), MOST)


def sentence_of(said: str) -> str:
    """Return a sentence with words that `quoted` has returned, in one line; "" for none."""
    return quoting.sentence("the server's", said)


def without_secrets(text: str, server: Server, *, instead: str = LEFT_OUT) -> str:
    """Return a text with something else in the place of each secret that we send to this server."""
    secrets = _secrets(server)
    return text if secrets is None else secrets.sub(instead, text)


@lru_cache(maxsize=512)
def _secrets(server: Server) -> re.Pattern[str] | None:
    """Return what finds the secrets that we send to a server, as they are and as URLs write them."""
    found = {part for secret in _sent(server) for part in (secret, quote(secret, safe=""), unquote(secret))}
    longest_first = sorted((part for part in found if len(part) >= SHORTEST), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None


def _sent(server: Server) -> Iterator[str]:
    for _, value in server.headers:
        scheme, _, rest = value.strip().partition(" ")
        yield value.strip()
        yield rest.strip()
        if scheme.lower() == "basic":
            try:
                decoded = b64decode(rest.strip(), validate=True).decode("utf-8", "replace")
            except (NotBase64, ValueError):
                continue
            yield decoded
            yield decoded.partition(":")[2]
    address = urlsplit(server.url)
    yield address.query
    yield from (value for _, value in parse_qsl(address.query))
    yield from (step for step in address.path.split("/") if len(step) >= _SHORTEST_STEP)
