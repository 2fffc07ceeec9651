"""Reading a `WWW-Authenticate` challenge (RFC 9110, section 11.6.1; RFC 6750, section 3). No I/O."""

from __future__ import annotations

import re

from oauth.protocol.metadata import valid_scopes

Challenge = dict[str, str]

LONGEST = 8192  # characters of a challenge that are read
# A "Bearer" inside a quoted value of another scheme does not begin a challenge.
_BEARER = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*?(?:^|(?<=,))\s*Bearer(?=[\s,;]|$)', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)(?=\s*(?:,|$)|\s+[\w~+/.-])")
_NAMED = re.compile(r"\b(?:required|missing) scopes?: *(\S+(?:, *\S+)*)$", re.IGNORECASE)
# Also with a semicolon between two, in single quotes, or as words without any.
_PARAMETER = re.compile(
    r"""[\s,;]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^'"]*)'(?=[\s,;]|$)"""
    r"""|((?:[^\s,;"]|;(?!\s*[A-Za-z0-9_-]+\s*=))+(?:(?:[ \t]+[^\s,;="]+)+(?=\s*(?:[,;]|$)))?))"""
)
_HINT = re.compile(r'\bresource_metadata\s*=\s*(?:"([^"]*)"|([^\s,;"]+))', re.IGNORECASE)


def parse(header: str | None) -> Challenge:
    """Return the parameters of the Bearer challenges by lower-case name; {} for another scheme or none."""
    text = (header or "")[:LONGEST]
    parameters: Challenge = {}
    position = 0
    while start := _BEARER.match(text, position):
        position = start.end()
        while match := _PARAMETER.match(text, position):
            name, quoted, single, plain = match.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain if single is None else single
            parameters.setdefault(name.lower(), value)
            position = match.end()
    return parameters


def metadata_hint(header: str | None) -> str | None:
    """Return the URL of the resource's metadata, which a challenge of any scheme may name (RFC 9728, section 5.1)."""
    hint = parse(header).get("resource_metadata")
    if hint is None and (found := _HINT.search((header or "")[:LONGEST])):
        hint = found[1] or found[2]
    return hint.strip("\t '<>") if hint else hint


def schemes(header: str | None) -> list[str]:
    """Return the names of the schemes by which a server asks who calls, as it writes them, each once."""
    bare = _QUOTED.sub('""', (header or "")[:LONGEST])
    return list(dict.fromkeys(_SCHEME.findall(bare)))


def missing_scopes(header: str | None) -> str | None:
    """Return the scopes that a 403 asks for (may be empty), None if it is not about scopes (RFC 6750, section 3.1)."""
    challenge = parse(header)
    if challenge.get("error", "").lower() != "insufficient_scope":
        return None
    if "scope" not in challenge:  # the Python SDK names it for people only
        named = _NAMED.search(challenge.get("error_description", ""))
        return " ".join(valid_scopes(one.rstrip(".") for one in re.split(r"[\s,]+", named[1]))) if named else ""
    return " ".join(valid_scopes(challenge.get("scope", "").split()))
