"""What people paste where an address, a key or headers belong, and what is meant by it. Pure.

addresses_in("claude mcp add shop https://mcp.example.com/mcp")  the addresses that can be meant
is_link("cursor://…/mcp/install?config=…")      a link that installs a server, which holds its address
leftovers_in("curl -H 'X-Key: 1' https://...")  whether it holds credentials, which are not taken over
unquoted("'abc'")                               a key without the quotes around it
placeholder_in("<your-api-key>")                what in a text stands for something else
header_lines('-H "X-Key: 1"')                   headers of a command or of JSON, one in a line
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote

LONGEST = 20_000  # characters of a paste; a configuration file of a few servers has 2,000
_MOST_NODES = 2_000  # of JSON that are looked at
_KEYS = {"url", "serverurl", "httpurl", "server", "endpoint", "uri", "address", "href", "baseurl", "mcpurl"}
# Commands whose argument is the address of the server itself; with others it may be anything, such as an API's.
_BRIDGES = re.compile(
    r"\b(mcp-remote|supergateway|mcp-proxy|mcp-client|mcp\s+add|--add-mcp|curl|wget|https?\s+post)\b", re.IGNORECASE
)
_TAKES_VALUE = {  # options whose value may be an address, and not that of the server
    "-H", "--header", "-d", "--data", "--data-raw", "--data-binary", "--json", "-e", "--referer", "-A", "--user-agent",
    "-x", "--proxy", "-u", "--user", "-b", "--cookie", "-o", "--output", "--env", "--oauth2Issuer", "--callback-url",
}  # fmt: skip
_URL = r"(?:https?:/+)*https?://[^\s\"'`<>«»“”‘’„|\\]+"
_LABELLED = re.compile(rf"[\"']?\b([A-Za-z_-]{{2,12}})[\"']?\s*[:=]\s*[\"'<`]?({_URL})")
_LAST = re.compile(rf"(?:^|[\s\"'`<>(\[«“‘„*|=:])({_URL})[\"'`<>»”’|]{{0,9}}[.,;)\]*]{{0,9}}\s*$", re.MULTILINE)
_WRAPPED = re.compile(rf"[\"'`<(\[«“‘„*|]({_URL})[\"'`>»”’|*)\]]")
_TRAILING = ".,;:!)]}*\"'`"
_STARTERS = re.compile(
    r"(npx|npm|pnpm|yarn|node|bunx?|deno|uvx?|pipx?|python[0-9.]*|docker|podman|java)\b", re.IGNORECASE
)
_BARE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}(?::\d{1,5})?(?:/[^\s\"'`<>\\]*)?", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "”": "”", "’": "’"}
_MARKED = (  # as documentation marks what stands for something else
    re.compile(r"<[^<>\n:]{1,60}>"),
    re.compile(r"\$?\{\{?[^{}\n]{1,60}\}\}?"),
    re.compile(r"\$[A-Z][A-Z0-9_]{2,40}\b|\$\([^()\n]{1,60}\)"),
    re.compile(r"%[A-Z_]{4,40}%"),
    re.compile(r"\[[A-Za-z][A-Za-z0-9 _-]{0,40}\]"),
    re.compile(r"\bYOUR[_-][A-Z0-9_-]{1,60}"),
    re.compile(r"\byour[_-](api|instance|workspace|domain|server|company|account|tenant|subdomain|org|organization|team|"
               r"site|project|region|key|token|id)\b[a-z0-9_-]{0,40}", re.IGNORECASE),
)  # fmt: skip
_KEYS_MARKED = (  # what stands for a key, when there is nothing else
    re.compile(r"<[^<>\n]{1,60}>"),
    re.compile(r"(YOUR|INSERT|ENTER|REPLACE|PASTE)[_-][A-Za-z0-9_-]{0,60}", re.IGNORECASE),
    re.compile(r"your[ _-]?(api|access|secret)?[ _-]?(key|token|secret|password)", re.IGNORECASE),
    re.compile(r"(api|access|secret|auth)?[_-]?(key|token|secret)[_-](goes[_-])?here", re.IGNORECASE),
    re.compile(r"(process\.env|os\.environ|env|secrets|vars)[.\[(:][A-Za-z_\"'][^\n]{0,60}"),
    re.compile(r"[A-Za-z0-9_.-]{0,80}?(?:\*{3,}|\.{3}|…|•{3,})[A-Za-z0-9_-]{0,80}|null|undefined|none", re.IGNORECASE),
    re.compile(
        r"(?:[A-Za-z]{2,8}[-_])?(?:x{4,}|\*{3,}|\.{3,}|…+|•{3,}|(?:x{3,}-)+x{3,})|change[-_ ]?me", re.IGNORECASE
    ),
)
# A name before the key, as in a file of settings or a header.
_NAMED_KEY = re.compile(
    r"(?:export\s+|set\s+)?((?:[A-Za-z][A-Za-z0-9_.-]{0,60}?)?(?:key|token|secret|password|authorization))\s*[=:]\s*(?=[^\s=])",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(?:cursor|vscode|vscode-insiders|https?):[^\s?]{0,200}\b(?:mcp/install|install-mcp|vscode\.dev/redirect)\b"
    r"[^\s?]{0,100}\?(\S+)",
    re.IGNORECASE,
)
_HEADER_OPTION = re.compile(r"(?:^|\s)(?:-H|--header)(?:=|\s*)(\"[^\"\n]*\"|'[^'\n]*')")
_CREDENTIALS = re.compile(
    r"authorization|bearer|api[_-]?key|headers|token|secret|password|(?:^|\s)(-H|--header|-u)\b", re.IGNORECASE
)


def addresses_in(text: str) -> list[str]:
    """Return the different addresses that the text can mean, in its order; none for one that is no address."""
    if is_link(text):
        return list(dict.fromkeys(url for url in map(_tidy, _addresses_of(_linked(text))) if url))
    text = _without_edges(text[:LONGEST]).replace("\\\n", " ").replace("\\\r\n", " ")
    found = [] if text.startswith(("{", "[", '"')) else list(_of_command(text))
    if not found:
        read = _json_in(text)
        found = list(_addresses_of(read)) if read is not None else list(_of_labels(text)) or list(_of_text(text))
    return list(dict.fromkeys(url for url in map(_tidy, found) if url))


def is_link(text: str) -> bool:
    """Whether the text is a link by which a program installs a server, as documentation has on a button."""
    return _LINK.fullmatch(_without_edges(text[:LONGEST])) is not None


def name_before(key: str) -> str:
    """Return the name that was pasted before a key (`API_KEY=…`, `x-api-key: …`), "" for none."""
    found = _NAMED_KEY.match(key.strip())
    return found[1] if found else ""


def leftovers_in(text: str) -> bool:
    """Whether the text seems to hold credentials beside the address."""
    if is_link(text):
        return bool(_CREDENTIALS.search(re.sub(_URL, " ", json.dumps(_linked(text)))))
    return bool(_CREDENTIALS.search(re.sub(_URL, " ", text[:LONGEST])))


def unquoted(text: str) -> str:
    """Return the text without blanks and pairs of quotes around it, and without the comma behind a line of JSON."""
    text = text.strip()
    if text[1:] and text[-1] in ",;" and _QUOTES.get(text[0]) == text[:-1].rstrip()[-1:]:
        text = text[:-1].rstrip()
    while text[1:] and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def placeholder_in(text: str, *, whole: bool = False) -> str:
    """Return the placeholder in a text, "" for none; with `whole` only if it is all there is, as of a key."""
    text = text.strip()
    if whole:
        return text if any(pattern.fullmatch(text) for pattern in (*_MARKED, *_KEYS_MARKED)) else ""
    return next((match[0] for pattern in _MARKED if (match := pattern.search(text))), "")


def header_lines(text: str) -> str:
    """Return headers that were copied out of a command or of JSON as one “Name: value” per line; others as they are."""
    stripped = text.strip()
    if options := _HEADER_OPTION.findall(stripped):
        return "\n".join(option[1:-1] for option in options)
    if stripped.startswith(("{", '"')):
        body = stripped.rstrip(",") if stripped.startswith("{") else "{" + stripped.rstrip(",") + "}"
        try:
            read = json.loads(body)
        except (ValueError, RecursionError):
            return text
        if isinstance(read, dict) and isinstance(inner := read.get("headers"), dict) and len(read) == 1:
            read = inner
        if isinstance(read, dict) and all(isinstance(value, str) and "\n" not in value for value in read.values()):
            return "\n".join(f"{name}: {value}" for name, value in read.items())
    return text


def _linked(text: str) -> Any:
    """Return the configuration that a link holds, as JSON or Base64 of it; None for none."""
    match = _LINK.fullmatch(_without_edges(text[:LONGEST]))
    query = match[1] if match else ""
    if unquote(query).startswith("{"):
        return _json_in(unquote(query))
    members = dict(parse_qsl(query))
    if members.get("url", "").startswith("vscode"):
        return _linked(members["url"])
    config = members.get("config", "")
    if config.lstrip().startswith("{"):
        return _json_in(config)
    plain = config.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return _json_in(b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode())
    except ValueError:
        return None


def _json_in(text: str) -> Any:
    """Return the object that the text holds, also one without its braces or with a comma too many; None for none."""
    start = text.find("{")
    if start < 0:
        return None
    for candidate in (text[start:], text[start : text.rfind("}") + 1], "{" + text.strip().rstrip(",") + "}"):
        try:
            return json.loads(re.sub(r",(\s*[}\]])", r"\1", candidate))
        except (ValueError, RecursionError):
            continue
    return None


def _addresses_of(read: Any) -> Iterator[str]:
    nodes, seen = [read], 0
    while nodes and seen < _MOST_NODES:
        node, seen = nodes.pop(0), seen + 1
        if isinstance(node, list):
            nodes.extend(node)
        elif isinstance(node, dict):
            arguments = node.get("args")
            if isinstance(arguments, list):
                yield from _of_command(" ".join(shlex.quote(str(one)) for one in [node.get("command"), *arguments]))
            for name, value in node.items():
                plain = re.sub(r"[^a-z]", "", str(name).lower())
                if isinstance(value, str) and plain in _KEYS and re.match(r"\s*https?:", value):
                    yield value
                elif isinstance(value, dict | list) and plain not in {"args", "env", "headers", "oauth", "auth"}:
                    nodes.append(value)


def _of_command(text: str) -> Iterator[str]:
    if not _BRIDGES.search(text):
        return
    try:
        words = shlex.split(text)
    except ValueError:
        return
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _TAKES_VALUE:
            skip = True
        elif re.match(r"https?://", word):
            yield word
        elif word.startswith("{"):
            yield from _addresses_of(_json_in(word))
        elif word.startswith(("--url=", "--streamableHttp=", "--sse=")):
            yield word.partition("=")[2]


def _of_labels(text: str) -> Iterator[str]:
    for label, url in _LABELLED.findall(text):
        if re.sub(r"[^a-z]", "", label.lower()) in _KEYS:
            yield url


def _of_text(text: str) -> Iterator[str]:
    """Yield addresses that end a line or are wrapped; what follows one after a blank might belong to it."""
    if _STARTERS.match(text.lstrip()):
        return
    if re.match(r"https?:", text) and not re.fullmatch(rf"{_URL}\W*", text):
        return
    yield from _LAST.findall(text)
    yield from _WRAPPED.findall(text)
    if _BARE.fullmatch(text):
        yield f"https://{text}"


def _tidy(url: str) -> str:
    """Return the address without what a sentence puts behind it; "" if something invisible is in the middle of it."""
    url = re.sub(r"^(?:https?:/+)+(?=https?://)", "", _without_edges(url).rstrip(_TRAILING))
    if any(unicodedata.category(character)[0] in "CZ" for character in url):
        return ""
    return url


def _without_edges(text: str) -> str:
    """Return the text without what nobody sees at its ends: blanks of all kinds, byte order marks, zero widths."""
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start])[0] in "CZ":
        start += 1
    while end > start and unicodedata.category(text[end - 1])[0] in "CZ":
        end -= 1
    return text[start:end]
