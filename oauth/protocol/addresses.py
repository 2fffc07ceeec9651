"""When two spellings are one address (RFC 3986, sections 6.2.2 and 6.2.3), and where a document may have moved. No I/O.

For the documents in which servers name each other. The `iss` of an authorization response never passes here: it must
be the recorded issuer, character by character (RFC 9207, section 2.4).
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, urlsplit

from oauth.protocol import providers

_USUAL = {"https": 443, "http": 80}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_WELL_KNOWN = "/.well-known/"


def same(one: str, other: str) -> bool:
    """Whether two URLs are spellings of one, without asking anybody."""
    return normal(one) == normal(other)


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have one scheme, host and port (RFC 6454)."""
    first, second = normal(one), normal(other)
    return first is not None and second is not None and first[:3] == second[:3]


def names(said: str, asked: str) -> bool:
    """Whether the issuer that a document says is the one that was asked for (RFC 8414, section 3.3).

    Microsoft Entra writes `{tenantid}` where the issuer of its shared endpoints has a word such as `common`: such a
    template names no other server, and the issuer stays the one that was asked for.
    """
    return same(said, asked) or is_template_of(said, asked)


def is_template_of(said: str, asked: str) -> bool:
    """Whether it is the asked issuer with the provider's `{tenantid}` in place of the tenant, which comes first."""
    template, issuer, provider = _split(said), _split(asked), providers.recognized(asked)
    if template is None or issuer is None or provider is None or not provider.tenant_template:
        return False
    written = re.escape(quote(provider.tenant_template))
    segments = re.sub(written, provider.tenant_template, template.path, flags=re.IGNORECASE).split("/")
    tenant = next(iter(issuer.path.split("/")[1:]), "")
    if segments.count(provider.tenant_template) != 1 or segments[1] != provider.tenant_template or not tenant:
        return False
    segments[1] = tenant
    return same(template._replace(path="/".join(segments)).geturl(), asked)


def is_document(url: str) -> bool:
    """Whether it is the address of a metadata document, and not an issuer (RFC 8615)."""
    return _WELL_KNOWN in url


def issuer_of_document(url: str) -> str:
    """Return the issuer whose document is found here by the standards (RFC 8414, section 3.1); "" for none."""
    parts = _split(url)
    before, well_known, after = parts.path.partition(_WELL_KNOWN) if parts else ("", "", "")
    if parts is None or not well_known:
        return ""
    path = f"{before}{after.partition('/')[1]}{after.partition('/')[2]}"
    return parts._replace(path=path, query="").geturl()


def may_move(asked: str, target: str) -> bool:
    """Whether a document that is asked for here may be fetched there: at the same origin, or by https at its host."""
    before, after = normal(asked), normal(target)
    if before is None or after is None:
        return False
    return same_origin(asked, target) or (after[0] == "https" and before[1] == after[1])


def normal(url: str) -> tuple[str, str, int, str, str] | None:
    """Return scheme, host, port, path and query in normal form, None for what is no URL of a server."""
    parts = _split(url)
    if parts is None or parts.scheme not in _USUAL or not parts.hostname or "@" in parts.netloc:
        return None
    port = parts.port if parts.port is not None else _USUAL[parts.scheme]
    path = _without_dots(_escapes(parts.path)) or "/"
    return parts.scheme, _escapes(parts.hostname).lower(), port, path, _escapes(parts.query)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for what is none
    except ValueError:
        return None
    return None if parts.fragment else parts


def _escapes(text: str) -> str:
    """Return the text with escapes in capitals, and none for what needs none (RFC 3986, section 6.2.2.2)."""

    def usual(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.fullmatch(character) else match[0].upper()

    return _ESCAPE.sub(usual, text)


def _without_dots(path: str) -> str:
    """Return the path without `.` and `..` (RFC 3986, section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == ".." and len(kept) > 1:
            kept.pop()
        elif segment not in {".", ".."}:
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/".join(kept)
