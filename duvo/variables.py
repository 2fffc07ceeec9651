"""How one variable of the environment is read: django-environ, with each value taken exactly as it is written.

The functions are casts for its schemes. Each returns the value, or raises `Unusable` with the rest of a sentence that
begins with the variable's name. No such sentence shows the value, because the value may be a secret; `environment.py`
puts it in front where it is none.
"""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlparse, urlsplit

import environ

T = TypeVar("T")

POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"
NEW_KEY = "make one with `manage.py make_seal_key`"
_HOST = re.compile(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
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
        try:
            number = int(text)
        except ValueError:
            number = None
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
        return values

    return read


def network(text: str) -> str:
    """Return the network in `text` in CIDR notation; raises Unusable."""
    try:
        return str(ip_network(text))
    except ValueError:
        raise Unusable("is not an address or a network such as 10.0.0.0/8") from None


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
    """Return `text` without slashes at its end if it is scheme and host of a web address; raises Unusable."""
    parts = _web_address(text)
    if parts is None or parts.username is not None:
        raise Unusable("is not a web address such as https://duvo.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Unusable("has something after its host; the product needs a host of its own: https://duvo.example.com")
    return text.rstrip("/")


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
    if parts is None or parts.username is not None or parts.fragment or not parts.path.strip("/"):
        raise Unusable("is not the web address of a document such as https://duvo.example.com/client.json")
    return text


def _web_address(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and text.isprintable() and " " not in text else None


def host(text: str) -> str:
    """Return `text` if it is the name of a host, or a wildcard for several; raises Unusable."""
    if not _HOST.fullmatch(text):
        raise Unusable("is not the name of a host, without scheme and port, such as duvo.example.com")
    return text


def redis_address(text: str) -> str:
    """Return `text` if Redis or Valkey can be at such an address; raises Unusable."""
    expected = "is not an address such as redis://:password@valkey:6379/0, rediss://… or unix:///path"
    try:
        parts = urlsplit(text.replace("#", "%23"))
        network = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        usable = network and (parts.path.strip("/") or "0").isdecimal()
        usable = usable or (parts.scheme == "unix" and len(parts.path) > 1)
    except ValueError:
        usable = False
    if not usable:
        raise Unusable(f"{expected}; write / and ? in a password as %2F and %3F")
    return text


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
    if "@" not in text or not text.isprintable():
        raise Unusable("is not an address such as Duvo <duvo@example.com>")
    return text
