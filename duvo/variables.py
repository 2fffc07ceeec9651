"""How one variable of the environment is read: django-environ, with each value taken exactly as it is written.

The functions are casts for its schemes. Each returns the value, or raises `Unusable` with the rest of a sentence that
begins with the variable's name. No such sentence shows the value, because the value may be a secret.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlparse, urlsplit

import environ

T = TypeVar("T")

POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"
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


def whole(text: str) -> int:
    """Return the whole number in `text`; raises Unusable."""
    try:
        return int(text)
    except ValueError:
        raise Unusable("is not a whole number") from None


def seconds(text: str) -> int:
    """Return the whole number in `text`, 0 or more; raises Unusable."""
    number = whole(text)
    if number < 0:
        raise Unusable("is less than 0")
    return number


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
        long_enough = len(urlsafe_b64decode(text)) >= 32  # noqa: PLR2004 - 256 bits
    except ValueError:
        raise Unusable("is not URL-safe base64; make one with `manage.py make_seal_key`") from None
    if not long_enough:
        raise Unusable("is shorter than 32 bytes; make one with `manage.py make_seal_key`")
    return text


def web_address(text: str) -> str:
    """Return `text` without slashes at its end if it is an http(s) address; raises Unusable."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise Unusable("is not a web address such as https://duvo.example.com")
    return text.rstrip("/")


def redis_address(text: str) -> str:
    """Return `text` if Redis or Valkey can be at such an address; raises Unusable."""
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise Unusable("is not an address such as redis://…, rediss://… or unix:///path")
    return text


def sender(text: str) -> str:
    """Return `text` if mails can come from it; raises Unusable."""
    if "@" not in text or not text.isprintable():
        raise Unusable("is not an address such as Duvo <duvo@example.com>")
    return text
