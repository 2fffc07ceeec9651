"""How one variable of the environment is read: django-environ, with each value taken exactly as it is written.

The functions are casts for its schemes. Each returns the value, or raises `Unusable` with the rest of a sentence that
begins with the variable's name. No such sentence shows the value, because the value may be a secret; `environment.py`
puts it in front where it is none.
"""

from __future__ import annotations

import difflib
import os
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlparse, urlsplit

import environ
import psycopg
import redis

T = TypeVar("T")

POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"
NEW_KEY = "make one with `manage.py make_seal_key`"
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_SENDER = re.compile(r'(("[^"]*"|[^"<>@,;]*)\s*<\s*)?[^\s"<>@,;]+@([^\s"<>@,;]+?)(\s*>)?')
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NUMBERS = {"connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"}
_NUMBERS |= {"tcp_user_timeout", "prepare_threshold"}
_FILES = ("sslrootcert", "sslcert", "sslkey")
_SYSTEM = "system"  # in place of a file of certificates: those that the machine trusts
DATABASE_SCHEMES = {"postgresql", "postgres", "pgsql", "sqlite"}
NOT_A_DATABASE = (
    "is not an address such as postgresql://duvo:password@db.example.com/duvo or sqlite:////srv/duvo.sqlite3; "
    "write / and ? in a password as %2F and %3F"
)


class Unusable(ValueError):
    """The value of a variable cannot be used; the message says why and does not show the value."""


class Env(environ.Env):  # type: ignore[misc]
    """django-environ on the given variables, without its references from one variable to another.

    It takes a value that begins with `$` as the name of another variable, and a password may well begin with `$`.
    """

    def __init__(self, variables: Mapping[str, str], **scheme: tuple[Callable[[str], Any], Any]) -> None:
        super().__init__(**scheme)
        # It replaces each `\$` by `$` after it has looked for references, so values come out as they went in.
        self.ENVIRON = {name: value.replace("$", r"\$") for name, value in variables.items()}
        self.escape_proxy = True

    @classmethod
    def db_url_config(cls, url: str, engine: str | None = None) -> dict[str, Any]:
        """Return Django's settings of the database at `url`: PostgreSQL, or SQLite in a file or in memory.

        A password may hold `#`, `@`, `[` and the like without being percent-encoded.
        """
        if url == "sqlite://:memory:":
            url = "sqlite:///:memory:"
        url = re.sub(r"(?<=://)[^/?]*@", lambda user: quote(user[0], safe="%:@"), url.replace("#", "%23"))
        try:
            parts = urlparse(url)
            if parts.scheme not in DATABASE_SCHEMES or (parts.scheme == "sqlite" and parts.netloc):
                raise Unusable(NOT_A_DATABASE)
            # It would read `+` in a path as a space, and quote an address without a path once more.
            path = parts.path.replace("+", "%2B") or "/"
            database: dict[str, Any] = super().db_url_config(parts._replace(path=path), engine)
        except ValueError:
            raise Unusable(NOT_A_DATABASE) from None  # the original error may show a part of the password
        database["OPTIONS"] = _options(database.get("OPTIONS", {}))
        if parts.scheme == "sqlite":  # it would divide a path with `cloudsql` in it into host and name
            return database | {"HOST": "", "NAME": unquote(parts.path[1:]) or ":memory:"}
        # A folder of Unix sockets is written postgresql://duvo@%2Frun%2Fpostgresql/duvo.
        return database | {"HOST": unquote(database["HOST"])}


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a database URL with its words true and false and its `currentSchema` translated."""
    words = {"true": True, "false": False}
    options = {name: words.get(str(value).lower(), value) for name, value in options.items()}
    schema = options.pop("currentSchema", None)
    if schema is not None:
        options["options"] = " ".join(filter(None, [f"-c search_path={schema}", options.get("options")]))
    return options


def flag(text: str) -> bool:
    """Return whether `text` says yes; raises Unusable where it says neither yes nor no."""
    word = text.strip().lower()
    if word in {"1", "true", "t", "yes", "y", "on"}:
        return True
    if word in {"0", "false", "f", "no", "n", "off"}:
        return False
    raise Unusable("is neither true nor false")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the cast for a whole number from `least` to `most`."""

    def read(text: str) -> int:
        # int() takes 1_0 and digits of other scripts, too.
        number = int(text) if _WHOLE.fullmatch(text.strip()) else None
        if number is None or not least <= number <= most:
            raise Unusable(f"is not a whole number from {least} to {most}")
        return number

    return read


port = whole(1, 65_535)


def one_of(*words: str, change: Callable[[str], str]) -> Callable[[str], str]:
    """Return the cast for one of these words, whose spelling is made theirs by `change`."""

    def read(text: str) -> str:
        word = change(text.strip())
        if word not in words:
            raise Unusable(f"is none of {', '.join(words)}")
        return word

    return read


def several(cast: Callable[[str], T], entry: str = "entry") -> Callable[[str], list[T]]:
    """Return the cast for a list with commas, whose entries are read with `cast`; a fault names its entry by number."""

    def read(text: str) -> list[T]:
        values = []
        for position, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
            try:
                values.append(cast(part))
            except Unusable as fault:
                raise Unusable(f"has a fault: {entry} {position} {fault}") from None
        if not values:
            raise Unusable("has nothing but commas; leave it empty, or put something between them")
        return values

    return read


def network(text: str) -> str:
    """Return the network in `text` in CIDR notation, which is not the whole internet; raises Unusable."""
    try:
        found = ip_network(text)
    except ValueError:
        raise Unusable("is not an address or a network such as 10.0.0.0/8") from None
    if not found.prefixlen:
        raise Unusable("is every address there is; name your own, such as 10.0.0.0/8")
    return str(found)


def seal_key(text: str) -> str:
    """Return `text` if it is a key of 256 bits or more in URL-safe base64; raises Unusable."""
    try:
        key = b64decode(text, altchars=b"-_", validate=True)
    except ValueError:
        fault = f"is not URL-safe base64: it has {len(text)} characters, where a key of 256 bits has 44"
        raise Unusable(f"{fault}; {NEW_KEY}") from None
    if len(key) < 32:  # noqa: PLR2004 - 256 bits
        raise Unusable(f"is shorter than 32 bytes: a character may have been lost; {NEW_KEY}")
    return text


def origin(text: str) -> str:
    """Return scheme, host and port of the web address in `text`, as browsers write them; raises Unusable.

    They compare letter by letter: with a capital or a needless `:443` no form would be taken from its own page.
    """
    parts = _web_address(text)
    if parts is None or parts.username is not None:
        raise Unusable("is not a web address such as https://duvo.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Unusable("has something after its host; the product needs a host of its own: https://duvo.example.com")
    name = (parts.hostname or "").removesuffix(".")
    port = f":{parts.port}" if parts.port not in {None, _DEFAULT_PORTS[parts.scheme]} else ""
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{port}"


def public_address(text: str) -> str:
    """Return `text` without slashes at its end if the product can be reached there outside debug; raises Unusable."""
    address = origin(text)
    parts = urlsplit(address)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise Unusable("must begin with https://")
    return address


def is_loopback(name: str) -> bool:
    """Whether this host is the machine itself."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def document(text: str) -> str:
    """Return `text` if a client ID metadata document can be at such an address; raises Unusable."""
    parts = _web_address(text)
    steps = parts.path.split("/") if parts else []
    if parts is None or parts.username is not None or parts.fragment or not any(steps) or {".", ".."} & {*steps}:
        raise Unusable("is not the web address of a document such as https://duvo.example.com/client.json")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise Unusable("must begin with https://: at another address nobody takes it for a client ID")
    return text


def _web_address(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _DEFAULT_PORTS and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return None
    return parts if usable and text.isprintable() and " " not in text else None


def _is_host(text: str) -> bool:
    """Whether this is the name of a host as the network knows it, or an address without brackets."""
    try:
        return ip_address(text) is not None
    except ValueError:
        return bool(_NAME.fullmatch(text))


def allowed_host(text: str) -> str:
    """Return `text` if it is the name of a host, or a wildcard for several; raises Unusable."""
    bracketed = text.startswith("[") and text.endswith("]")
    name = text[1:-1] if bracketed else text.removeprefix(".")
    if text != "*" and (not _is_host(name) or bracketed != (":" in name)):
        raise Unusable("is not the name of a host, without scheme and port, such as duvo.example.com")
    return text


def server(text: str) -> str:
    """Return the name or address of the server in `text`, an address without its brackets; raises Unusable."""
    name = text.strip()
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not _is_host(name):
        raise Unusable("is not the name of a host, without scheme and port, such as mail.example.com")
    return name


def redis_address(text: str) -> str:
    """Return `text` if Redis or Valkey can be at such an address; raises Unusable."""
    expected = "is not an address such as redis://:password@valkey:6379/0, rediss://… or unix:///path"
    try:
        parts = urlsplit(text)
        network = parts.scheme in {"redis", "rediss"} and _is_host(parts.hostname or "") and parts.port != 0
        usable = network and (parts.path.strip("/") or "0").isdecimal()
        usable = usable or (parts.scheme == "unix" and len(parts.path) > 1)
    except ValueError:
        usable = False
    if not usable:
        raise Unusable(f"{expected}; write /, ? and # in a password as %2F, %3F and %23")
    try:
        redis.ConnectionPool.from_url(text).make_connection()  # which connects at its first command only
    except (ValueError, TypeError, redis.RedisError):
        raise Unusable("has an option after its ? that is unknown, or has a value that it cannot have") from None
    return text


def database_faults(database: Mapping[str, Any]) -> Iterator[str]:
    """Give what is wrong with the settings of a PostgreSQL database, as far as its client would say it.

    No sentence shows what was written: behind a `?` that is not percent-encoded stands the rest of a password.
    """
    options = database.get("OPTIONS", {})
    if not (database["NAME"] or options.keys() & {"service", "dbname"}):
        yield "names no database: postgresql://duvo:password@db.example.com/duvo"
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    known |= {"assume_role", "prepare_threshold", "server_side_binding"}  # Django's and psycopg's
    for name in options.keys() - known:
        meant = difflib.get_close_matches(name, known, n=1)
        yield "has an option after its ? that is unknown" + (f": did you mean {meant[0]}?" if meant else "")
    if options.get("sslmode", _SSL_MODES[0]) not in _SSL_MODES:
        yield f"has an sslmode that is none of {', '.join(_SSL_MODES)}"
    for name in sorted(_NUMBERS & options.keys()):
        if type(options[name]) is not int:
            yield f"has a {name} that is not a whole number"
    for name in _FILES:
        if options.get(name, _SYSTEM) != _SYSTEM and not os.access(str(options[name]), os.R_OK):
            yield f"has a {name} that is not a file that can be read"


def certificates(text: str) -> Path:
    """Return the file in `text` if it holds certificates in PEM; raises Unusable."""
    try:
        ssl.create_default_context(cafile=text)
    except (OSError, ValueError):
        raise Unusable("is not a file that can be read and holds certificates in PEM") from None
    return Path(text)


def folder(text: str) -> Path:
    """Return the folder in `text` if this process may write into it; raises Unusable."""
    path = Path(text)
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise Unusable("is not a folder that exists and that this process may write into")
    return path


def touchable(text: str) -> Path:
    """Return the file in `text` if this process may make it or change it; raises Unusable."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Unusable("is not a file that this process may write")
    return path


def sender(text: str) -> str:
    """Return `text` if mails can come from it; raises Unusable."""
    found = _SENDER.fullmatch(text.strip())
    if not found or bool(found[1]) != bool(found[4]) or not _is_host(found[3]) or not text.isprintable():
        raise Unusable("is not an address such as Duvo <duvo@example.com>")
    return text


def bearer(text: str) -> str:
    """Return `text` without what surrounds it if a header can carry it as a token; raises Unusable."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Unusable("has a space or a character that no header carries; take letters and digits")
    return token
