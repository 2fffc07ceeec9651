"""Which URLs may be used at all, checked before any name is resolved. No I/O.

A name can still point to a private address: that is checked when the connection is made, see network.py.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv6Address
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import idna
from django.conf import settings

from connections.egress import addresses
from connections.errors import Refused
from connections.secret_forms import JSON_WEB_TOKEN, KEY

PLACE = "{secret}"  # where the sealed part of an address stands, see sealed.py
LONGEST_URL = 2048  # characters
LONGEST_HOST = 253  # characters, RFC 1035
COMMANDS = re.compile(
    r"(npx|npm|pnpm|yarn|node|bunx?|deno|uvx?|pipx?|python[0-9.]*|docker|podman|java|dotnet|go|cargo|ruby|php|cmd|bash|sh|env)(\.exe|\.cmd)?(\s|$)"
    r"|(\.{0,2}/|~/|[a-z]:\\)[^/]|[^\s:/]+\.(py|js|mjs|ts|exe|jar)(\s|$)|stdio:",
    re.IGNORECASE,
)
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(?![0-9])", re.IGNORECASE)
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
BRACKETED = re.compile(r"\[[^\[\]]*\](:[0-9]*)?")
# What a query string's secrets are called, letters only; and how well-known secrets begin, whatever they are called.
SECRET_NAME = re.compile(r"((api|access|auth|private|secret|subscription|functions|app|application|client|server|user|"
                         r"license|signing|master|shared|session|service|personal|mcp)key|token|secret|password|passwd|"
                         r"passphrase|passcode|pwd|credentials?|bearer|authorization|signature)$")  # fmt: skip
SECRET_WORD = re.compile(
    r"(?:^|[^A-Za-z]|[a-z](?=[A-Z]))(pass|pat|pw|psk|jwt|Pass|Pat|Pw|Psk|Jwt|PASS|PAT|PW|PSK|JWT)$"
)
NO_SECRETS = {"pagetoken", "nexttoken", "continuationtoken", "maxtoken"}
SECRET_VALUE = re.compile(rf"{KEY}|{JSON_WEB_TOKEN}\.[\w-]+\.|[Bb]earer[ +]")
JSON_MEMBER = re.compile(r'"([^"]{1,60})"\s{0,9}:\s{0,9}"([^"{]+)"')
SHORTEST_SECRET = 8  # characters of a value whose name alone does not tell
PRIVATE_NAMES = (".local", ".internal", ".home.arpa", ".lan", ".home", ".corp", ".intranet", ".private", ".localdomain")

SENTENCES = {
    "stdio_command": "This looks like a command that starts a server on your own computer (stdio). Enter the server's "
    "https:// URL; if the command contains one, enter only that.",
    "configuration_pasted": "This looks like a configuration file. Enter only the URL that is in it.",
    "url_too_long": f"The URL is longer than {LONGEST_URL} characters.",
    "forbidden_character": "The URL contains a space, a backslash, a line break or an invisible character. Remove it.",
    "scheme_missing": "The URL must start with https://.",
    "https_required": "The URL starts with http://, which anyone on the way can read. Use https://.",
    "scheme_forbidden": "Only URLs that start with https:// can be used.",
    "credentials_in_url": "The URL contains a user name or password before the @. Remove it and choose an "
    "authorization method instead.",
    "fragment_in_url": "The URL contains a part after #, which servers never receive. Remove it.",
    "host_missing": "The URL has no host name. Write it like https://mcp.example.com/mcp.",
    "host_invalid": "The host name in the URL is not valid. Write it like mcp.example.com.",
    "localhost": "localhost is the machine this product runs on, not yours. Enter a public https:// URL.",
    "private_name": "This name exists only inside a private network. Enter a URL that the internet can reach.",
    "private_address": "This server is at a private or reserved network address, which must not be reached from here. "
    "Enter a URL that the internet can reach.",
}


def refused(code: str) -> Refused:
    """Return the refusal with this code and its sentence."""
    return Refused(SENTENCES[code], code=code)


def port_refused(port: int | None) -> Refused:
    """Return the refusal of a port, naming the ports that are allowed."""
    allowed = ", ".join(str(number) for number in settings.EGRESS_ALLOWED_PORTS)
    named = "The port in the URL" if port is None else f"Port {port}"
    return Refused(f"{named} cannot be used. Allowed: {allowed}.", code="port_forbidden")


def check_url(url: str) -> str:
    """Return the server URL that a person entered in its normal form; raises Refused with a sentence for them."""
    if url.lstrip().startswith(("{", "[", '"')):
        raise refused("configuration_pasted")
    if COMMANDS.match(url.strip()):
        raise refused("stdio_command")
    return check_hop(url)


def check_hop(url: str) -> str:
    """Return any URL that we are about to request in its normal form; raises Refused."""
    if len(url) > LONGEST_URL:
        raise refused("url_too_long")
    if "\\" in url or any(unicodedata.category(character)[0] in "CZ" for character in url):
        raise refused("forbidden_character")
    scheme = _scheme(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refused("host_invalid") from None
    if "@" in parts.netloc:
        raise refused("credentials_in_url")
    if "#" in url:
        raise refused("fragment_in_url")
    host = _host(parts, scheme)
    port = _port(parts, host, scheme)
    authority = f"[{host}]" if ":" in host else host
    if port != {"https": 443, "http": 80}[scheme]:
        authority = f"{authority}:{port}"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~[]")
    query = "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~[]") if parts.query else ""
    return f"{scheme}://{authority}{path}{query}"


def secret_in(url: str) -> str:
    """Return where a URL seems to hold a secret, in words for a person and without the secret; "" for nowhere."""
    try:
        parts = urlsplit(url)
        members = parse_qsl(parts.query)
    except ValueError:
        return ""
    for name, value in members:
        if is_secret_member(name, value):
            return f"“{name[:40]}” after the question mark"
    return "a part of the path" if any(map(is_secret_step, parts.path.split("/"))) else ""


def is_secret_step(step: str) -> bool:
    """Whether a part of a path is a secret by how it begins, or by its name: `/key=…/`, `/mcp;token=…`."""
    text = unquote(step)
    named = (part.partition("=") for part in text.split(";"))
    return bool(SECRET_VALUE.match(text)) or any(is_secret_member(name, value) for name, _, value in named)


def is_secret_member(name: str, value: str) -> bool:
    """Whether a member of a query string is a secret, by its name or by how its value begins."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    if not value or PLACE in value:
        return False
    named = SECRET_WORD.search(name) or (SECRET_NAME.search(plain) and plain not in NO_SECRETS)
    if named or SECRET_VALUE.match(value):
        return True
    if value.startswith("{"):  # a configuration as JSON
        return any(is_secret_member(*member) for member in JSON_MEMBER.findall(value))
    return plain in {"key", "code", "sig", "auth"} and len(value) >= SHORTEST_SECRET


def origin(url: str) -> str:
    """Return scheme, host and port of a URL in normal form (RFC 6454, section 4); "" for what has none."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().removesuffix("."), parts.port
    except ValueError:
        return ""
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    if not host or usual is None:
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" if port in {None, usual} else f"{parts.scheme}://{host}:{port}"


def _scheme(url: str) -> str:
    match = SCHEME.match(url)
    if match is None or "." in match[1]:
        raise refused("scheme_missing")
    scheme = match[1].lower()
    if scheme not in {"https", "http"}:
        raise refused("scheme_forbidden")
    if scheme == "http" and not settings.EGRESS_ALLOWED_NETWORKS:
        raise refused("https_required")
    return scheme


def _host(parts: SplitResult, scheme: str) -> str:
    host = parts.hostname or ""
    if not host:
        raise refused("host_missing")
    if parts.netloc.startswith("["):
        if not BRACKETED.fullmatch(parts.netloc):
            raise refused("host_invalid")
        return _literal(_ipv6(host), scheme)
    host = _ascii(host)
    if addresses.ends_in_a_number(host):
        try:
            address = addresses.parse_loose(host)
        except ValueError:
            raise refused("host_invalid") from None
        _literal(address, scheme)
        if str(address) != host:  # what one parser takes for a public address another may read differently
            raise refused("host_invalid")
        return host
    if not settings.EGRESS_ALLOWED_NETWORKS:
        _refuse_private_name(host)
    return host


def _ascii(host: str) -> str:
    """Return the host name as browsers send it (UTS 46), without a trailing dot."""
    try:
        if not host.isascii():
            mapped = idna.uts46_remap(host[: LONGEST_HOST + 1], std3_rules=True)
            host = mapped if mapped.isascii() else idna.encode(mapped).decode()
    except idna.IDNAError:
        raise refused("host_invalid") from None
    host = host.lower().removesuffix(".")
    if len(host) > LONGEST_HOST or not all(LABEL.fullmatch(label) for label in host.split(".")):
        raise refused("host_invalid")
    return host


def _ipv6(host: str) -> IPv6Address:
    try:
        address = addresses.parse(host)
    except ValueError:
        raise refused("host_invalid") from None
    if not isinstance(address, IPv6Address):
        raise refused("host_invalid")
    if "%" in host:
        raise refused("host_invalid" if addresses.is_public(address) else "private_address")
    return address


def _literal(address: addresses.Address, scheme: str) -> str:
    opened = addresses.is_within(address, addresses.networks(settings.EGRESS_ALLOWED_NETWORKS))
    if not opened and not addresses.is_public(address):
        raise refused("private_address")
    if not opened and scheme == "http":
        raise refused("https_required")
    return str(address)


def _refuse_private_name(host: str) -> None:
    if host == "localhost" or host.endswith(".localhost"):
        raise refused("localhost")
    if "." not in host or host.endswith(PRIVATE_NAMES):
        raise refused("private_name")


def _port(parts: SplitResult, host: str, scheme: str) -> int:
    try:
        port = parts.port
    except ValueError:
        raise port_refused(None) from None
    port = port if port is not None else {"https": 443, "http": 80}[scheme]
    # Any port is right inside the opened networks; whether a name leads there is known only when it is resolved.
    if port == 0 or (port not in settings.EGRESS_ALLOWED_PORTS and not _may_be_opened(host)):
        raise port_refused(port)
    return port


def _may_be_opened(host: str) -> bool:
    opened = addresses.networks(settings.EGRESS_ALLOWED_NETWORKS)
    try:
        return addresses.is_within(addresses.parse(host), opened)
    except ValueError:
        return bool(opened)
