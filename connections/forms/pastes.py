"""What people paste where an address belongs, and what is meant by it. Pure.

addresses_in("claude mcp add shop https://mcp.example.com/mcp")  the addresses that can be meant
is_link("cursor://…/mcp/install?config=…")      a link around the address: one that installs, or a mail filter's
leftovers_in("curl -H 'X-Key: 1' https://...")  whether it holds credentials, which are not taken over
"""

from __future__ import annotations

import html
import json
import re
import shlex
import unicodedata
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote

from connections.forms.keys import LONGEST, without_edges

_MOST_NODES = 2_000  # of JSON that are looked at
_KEYS = {"url", "serverurl", "httpurl", "server", "endpoint", "uri", "address", "href", "baseurl", "mcpurl", "raw"}
# Commands whose argument is the address of the server itself; with others it may be anything, such as an API's.
_BRIDGES = re.compile(
    r"(?<![\w./-])(mcp-remote|supergateway|mcp[- ](?:proxy|client|add|cli|connect|bridge|http|inspector)|"
    r"(?:add|install)-mcp|"
    r"@modelcontextprotocol/inspector|mcporter|fastmcp|curl|wget|xh|https?\s+post|invoke-(?:restmethod|webrequest)|iwr|irm)"
    r"(?=[\s@\"']|$)",
    re.IGNORECASE,
)
_TAKES_VALUE = {  # options whose value may be an address, and not that of the server
    "-H", "--header", "-d", "--data", "--data-raw", "--data-binary", "--json", "-e", "--referer", "-A", "--user-agent",
    "-x", "--proxy", "-u", "--user", "-b", "--cookie", "-o", "--output", "--env", "--oauth2Issuer", "--callback-url",
    "--resource", "--authorize-resource", "--issuer", "--auth-url", "--auth-server", "--redirect-uri", "--cwd",
}  # fmt: skip
_TAGS = r"(?!/|(?:br|p|li|td|tr|a|b|i|u|url|div|span|code|pre|em|strong|https?)\b)"  # of HTML, and no placeholders
_URL = rf"(?i:(?:https?:/+)*https?://(?:[^\s\"'`<>«»“”‘’„|\\]|<{_TAGS}[\w ._-]{{1,40}}>)+)"
_LABELLED = re.compile(rf"[\"']?\b([A-Za-z_-]{{2,12}})[\"']?\s*[:=：]\s*[\"'<`]?({_URL})")
_ANYWHERE = re.compile(rf"(?<![A-Za-z0-9+./-])({_URL})")
_FIRST = re.compile(
    rf"{_URL}(?=\W*$|[\"'`<>«»”’|]|\s*\n|\s+https?://|\s+[^\w\s/?&=%.,;:])"
)  # with nothing that might belong to it
_TWICE = re.compile(r"(?<=[^/=?&:#%\s])(?=https?://)", re.IGNORECASE)
_MARKDOWN = re.compile(
    r"!?\[([^\[\]\n]{0,2000})\]\(\s*<?(https?://[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s[^()\n]*)?\)"
)
_ENTITY = re.compile(r"&(?:amp|quot|apos|lt|gt|nbsp|#\d{1,5}|#x[0-9a-f]{1,4});", re.IGNORECASE)
_SPACED = re.compile(r"(\{\{?) *([\w.:-]{1,60}) *(\}\}?)")  # a placeholder with blanks in it
_PATHS = ("path", "endpoint", "mcpEndpoint", "mcp-endpoint")
_PATH_LINE = re.compile(r"^\s*(?:path|(?:mcp-?)?endpoint)\s*[:=]\s*[\"']?(/[\w./-]*)", re.IGNORECASE | re.MULTILINE)
_CLOSERS = {")": "(", "]": "[", "}": "{"}
_AROUND = re.compile(r"([_~]{1,2})(https?://\S+?)\1")  # marks of Markdown around all of it
_TRAILING = ".,;:!?*\"'`([{<>"
PROMPT = re.compile(r"^(?:[$>#]\s+|sudo\s+|cmd\s+/c\s+)+", re.IGNORECASE)  # what stands before a command
_STARTERS = re.compile(
    r"(npx|npm|pnpm|yarn|node|bunx?|deno|uvx?|pipx?|python[0-9.]*|docker|podman|java)\b",
    re.IGNORECASE,
)
_BARE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}(?::\d{1,5})?(?:/[^\s\"'`<>\\]*)?", re.IGNORECASE)
_LINK = re.compile(
    r"(?:(?!https?:|wss?:|s?ftp:|file:|data:|mailto:)[a-z][a-z0-9+.-]{2,30}:|"
    r"https?://[^\s?]{0,200}(?:mcp/install|install-mcp|kiro\.dev/launch/mcp/add|vscode\.dev/redirect|goose/extension|"
    r"claude\.ai/settings/connectors|safelinks\.protection\.outlook\.com/|/safelinks/|google\.[a-z.]{2,6}/url|"
    r"slack-redir\.net/link|linkprotect\.cudasvc\.com/url|linkedin\.com/redir/|l\.facebook\.com/l\.php))"
    r"[^\s?]{0,100}\?(\S+)",
    re.IGNORECASE,
)
_GUARDED = re.compile(r"https://urldefense\.com/v3/__(https?:/+\S+?)__;\S*", re.IGNORECASE)
_TARGETS = ("url", "q", "u", "a", "uri", "server", "server_url", "serverUrl")  # members of a link that hold the address
_CREDENTIALS = re.compile(
    r"authorization|bearer|api[_-]?key|headers|token|secret|password|(?:^|\s)(-H|--header|-u)\b", re.IGNORECASE
)


def addresses_in(text: str) -> list[str]:
    """Return the different addresses that the text can mean, in its order; none for one that is no address."""
    if is_link(text):
        return list(dict.fromkeys(url for url in map(_seen, _addresses_of(_linked(text))) if url))
    text = _plain(text[:LONGEST])
    if around := _AROUND.fullmatch(text):
        text = around[2]
    if re.fullmatch(_URL, text):
        return _told([text])
    found = [] if text.startswith(("{", "[", '"')) else list(_of_command(text))
    if found:
        return _told(found)
    read = _json_in(text)
    if read is not None:  # as it is written there: nothing of a sentence stands behind it
        found = list(dict.fromkeys(url for url in map(_seen, _addresses_of(read)) if url))
        if found or text.startswith(("{", "[", '"')):
            return found
    return _told(list(_of_labels(text)) or list(_of_text(text)))


def is_link(text: str) -> bool:
    """Whether the text is a link around an address: one that installs a server, or that a mail filter has written."""
    return _linked(text) is not None


def leftovers_in(text: str) -> bool:
    """Whether the text seems to hold credentials beside the address."""
    if is_link(text):
        return bool(_CREDENTIALS.search(re.sub(_URL, " ", json.dumps(_linked(text)))))
    return bool(_CREDENTIALS.search(re.sub(_URL, " ", text[:LONGEST])))


def _linked(text: str) -> Any:
    """Return the configuration that a link holds, as JSON or Base64 of it; None for a text that is no such link."""
    text = without_edges(text[:LONGEST])
    if guarded := _GUARDED.fullmatch(text):
        return {"url": guarded[1]}
    if (match := _LINK.fullmatch(text)) is None:
        return None
    query = _unescaped(match[1])
    if unquote(query).startswith("{"):
        return _json_in(unquote(query))
    members = parse_qs(query)
    for target in (members[name][0] for name in _TARGETS if name in members):
        if (inner := _linked(target)) is not None:
            return inner
        if re.match(r"https?://", target):
            return {"url": target}
    if "arg" in members:
        return {"command": members.get("cmd", [""])[0], "args": members["arg"]}
    config = members.get("config", [""])[0]
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
                if isinstance(value, str) and plain in _KEYS and re.match(r"\s*https?:", value, re.IGNORECASE):
                    yield _with_path(value, next((node[each] for each in _PATHS if each in node), None))
                elif isinstance(value, dict | list) and plain not in {"args", "env", "headers", "oauth", "auth"}:
                    nodes.append(value)


def _with_path(url: str, path: Any) -> str:
    """Return the address with the path that a configuration names beside it, where it has none itself."""
    alone = re.fullmatch(r"https?://[^/?#]+/?", url.strip(), re.IGNORECASE)
    return f"{url.strip().rstrip('/')}{path}" if alone and isinstance(path, str) and path.startswith("/") else url


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
    path = _PATH_LINE.search(text)
    for label, url in _LABELLED.findall(text):
        if re.sub(r"[^a-z]", "", label.lower()) in _KEYS:
            yield _with_path(url, path[1] if path else None)


def _of_text(text: str) -> Iterator[str]:
    """Yield the addresses in prose; none if what follows the first after a blank might belong to it."""
    if _STARTERS.match(PROMPT.sub("", text)):
        return
    if re.match(r"https?:", text, re.IGNORECASE) and not _FIRST.match(text):
        return
    yield from _ANYWHERE.findall(text)
    if _BARE.fullmatch(text):
        yield f"https://{text}"


def _plain(text: str) -> str:
    """Return the text without the marks of HTML and Markdown, and its commands in one line."""
    text = _unescaped(without_edges(text))
    text = _SPACED.sub(r"\1\2\3", text.replace("\\\n", " ").replace("\\\r\n", " "))
    return without_edges(_MARKDOWN.sub(_link_of, text)) if "](" in text else text


def _unescaped(text: str) -> str:
    """Return the text without the marks of HTML that end in a semicolon; `&copy=1` is a member of a query."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _link_of(link: re.Match[str]) -> str:
    """Return the address of a link in Markdown, with its words where they are an address, too."""
    words, url = link.groups()
    return f"\n{words}\n{url}\n" if re.match(r"\W*https?://", words) else f"\n{url}\n"


def _told(found: list[str]) -> list[str]:
    """Return the different addresses without what a sentence puts behind them."""
    pieces = (piece for url in found for piece in _TWICE.split(url))
    return list(dict.fromkeys(url for url in map(_tidy, pieces) if url))


def _tidy(url: str) -> str:
    """Return the address without what a sentence puts behind it; a bracket stays if it was opened in the address."""
    url = _cut(re.sub(r"^(?:https?:/+)+(?=https?://)", "", without_edges(url), flags=re.IGNORECASE))
    while url:
        last, kind = url[-1], unicodedata.category(url[-1])
        open_too = last in _CLOSERS and url.count(_CLOSERS[last]) >= url.count(last)
        if open_too or (last == ">" and "<" in url):
            break
        if last not in _CLOSERS and last not in _TRAILING and (last.isascii() or kind[0] not in "PSCZ"):
            break
        url = url[:-1]
    return _seen(url)


def _cut(url: str) -> str:
    """Return the address without a bracket that closes what was opened before it, and what follows that."""
    opened = dict.fromkeys(_CLOSERS.values(), 0)
    url = url.partition("[/url]")[0]
    for at, letter in enumerate(url):
        if letter in opened:
            opened[letter] += 1
        elif letter in _CLOSERS:
            opened[_CLOSERS[letter]] -= 1
            if opened[_CLOSERS[letter]] < 0:
                return url[:at]
    return url


def _seen(url: str) -> str:
    """Return the address; "" if something that nobody sees is in the middle of it."""
    url = without_edges(url)
    return (
        ""
        if any(unicodedata.category(character)[0] in "CZ" for character in re.sub(r"<[^<>]*>|\{[^{}]*\}", "", url))
        else url
    )
