"""Which header names and values a person may set, and how they write them. No I/O.

One `Name: value` per line; RFC 9110, section 5. Each fault is a sentence for the person at the form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LONGEST_NAME = 80  # characters
LONGEST_VALUE = 4096  # characters; servers commonly refuse header sections beyond 8 KiB
MOST_HEADERS = 20

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_SCHEME_PREFIX = re.compile(r"(authorization\s*:\s*)?bearer\s+", re.IGNORECASE)
_RESERVED = {
    "accept": "the protocol sets it",
    "accept-encoding": "the protocol sets it",
    "connection": "it belongs to the network connection",
    "content-encoding": "it belongs to the message that is sent",
    "content-length": "it belongs to the message that is sent",
    "content-type": "the protocol sets it",
    "cookie": "cookies belong to browsers",
    "expect": "it belongs to the network connection",
    "forwarded": "it belongs to proxies",
    "host": "it follows from the server URL",
    "keep-alive": "it belongs to the network connection",
    "last-event-id": "the protocol sets it",
    "te": "it belongs to the network connection",
    "trailer": "it belongs to the message that is sent",
    "transfer-encoding": "it belongs to the message that is sent",
    "upgrade": "it belongs to the network connection",
    "user-agent": "it tells the server who we are",
    "via": "it belongs to proxies",
}
_RESERVED_PREFIXES = {
    "mcp-": "the protocol sets it",
    "proxy-": "it belongs to proxies",
    "sec-": "it belongs to browsers",
}


class BadHeader(ValueError):
    """A header name, a header value or an API key cannot be used; the message is a sentence for the person."""


def parse(text: str | Mapping[str, str]) -> dict[str, str]:
    """Return the headers written one `Name: value` per line (or given as a mapping); raises BadHeader."""
    pairs = list(text.items()) if isinstance(text, Mapping) else _pairs(text)
    if len(pairs) > MOST_HEADERS:
        raise BadHeader(f"There are {len(pairs)} headers; at most {MOST_HEADERS} can be set.")
    headers: dict[str, str] = {}
    for name, value in pairs:
        check_name(name)
        if name.lower() in {known.lower() for known in headers}:
            raise BadHeader(f"“{name}” is written twice. Upper and lower case make no difference in header names.")
        headers[name] = _checked_value(name, value)
    return headers


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    # Only real line ends divide lines: other control characters must reach the check of the value.
    for number, line in enumerate(re.split(r"\r\n|\n", text), start=1):
        if not line.strip():
            continue
        if pairs and line[0] in " \t":
            raise BadHeader(
                f"Line {number} starts with a space, as if it continued the line before. Use one line each."
            )
        name, colon, value = line.partition(":")
        if not colon:
            raise BadHeader(f"Line {number} has no colon. Write each header as “Name: value”.")
        pairs.append((name.strip(" \t"), value))
    return pairs


def check_name(name: str) -> None:
    """Return if a person may set this header; raises BadHeader."""
    if not name:
        raise BadHeader("A header has no name before the colon. Write each header as “Name: value”.")
    if "\r" in name or "\n" in name:
        raise BadHeader("A header name contains a line break. Remove it.")
    if len(name) > LONGEST_NAME:
        raise BadHeader(f"A header name is longer than {LONGEST_NAME} characters.")
    if not _TOKEN.fullmatch(name):
        raise BadHeader("A header name may contain only letters, digits and !#$%&'*+-.^_`|~, and no spaces.")
    if not (name[0].isalnum() or name[0] == "_") or not {"'", "`"}.isdisjoint(name):
        raise BadHeader(
            "A header name begins with a letter or a digit and has no quotes. Remove what stands around it."
        )
    why = _RESERVED.get(name.lower()) or next(
        (reason for prefix, reason in _RESERVED_PREFIXES.items() if name.lower().startswith(prefix)), ""
    )
    if why:
        raise BadHeader(f"“{name}” cannot be set here: {why}.")


def _checked_value(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise BadHeader(f"The value of “{name}” is not text.")
    value = value.strip(" \t")
    if not value:
        raise BadHeader(f"“{name}” has no value after the colon.")
    if "\r" in value or "\n" in value:
        raise BadHeader(f"The value of “{name}” contains a line break. Remove it.")
    if not value.isascii():
        raise BadHeader(
            f"The value of “{name}” contains characters other than plain ASCII. Copy it again from its source."
        )
    if not all(character.isprintable() or character == "\t" for character in value):
        raise BadHeader(
            f"The value of “{name}” contains an invisible control character. Copy it again from its source."
        )
    if len(value) > LONGEST_VALUE:
        raise BadHeader(f"The value of “{name}” is longer than {LONGEST_VALUE} characters.")
    return value


def parse_api_key(text: str, *, as_bearer: bool) -> str:
    """Return the API key; a pasted “Bearer ” is dropped when we add it ourselves. Raises BadHeader."""
    key = text.strip()
    if as_bearer:
        key = _SCHEME_PREFIX.sub("", key, count=1)
    if any(character.isspace() for character in key):
        raise BadHeader(
            "An API key has no spaces or line breaks. Paste only the key; for anything else choose Custom headers."
        )
    return _checked_value("API key", key)
