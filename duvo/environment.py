"""What the product reads from the environment or from `.env`: typed, and judged as a whole before anything starts.

Outside debug the product does not start with a missing or default secret, without PUBLIC_URL or with wildcard hosts.
A misspelt name is refused with the name that was probably meant. One message has all faults, and it shows no secret.
`variables.py` says how one value is read, `settings.py` what Django makes of them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from duvo import env_file, variables
from duvo.new_settings import host_of
from duvo.variables import POSTGRESQL, SQLITE, Env, Unusable, flag, one_of, several, whole

T = TypeVar("T")

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = Path(os.environ.get("ENV_FILE", BASE_DIR / ".env"))
# What compose.yaml, and only it, takes from the same file.
OF_COMPOSE = frozenset(
    {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "POSTGRES_IMAGE", "VALKEY_IMAGE", "PYTHON_IMAGE", "WEB_ADDRESS"}
)
_OF_DOCKER = ("COMPOSE_", "DOCKER_", "BUILDKIT_")
DEBUG_SECRET = "debug-only-secret-key-that-no-production-may-use"  # noqa: S105 - refused outside debug
DEBUG_SEAL_KEY = "ZGVidWctb25seS1zZWFsLWtleS1ub3QtZm9yLXByb2Q="
DEFAULT_DATABASE = f"sqlite:///{quote(str(BASE_DIR / 'var' / 'duvo.sqlite3'))}"
SHORTEST_SECRET = 32  # characters
NEW_ONE = "`manage.py new_env` prints one"
_REQUIRED = {
    "SECRET_KEY": NEW_ONE,
    "SEAL_KEYS": variables.NEW_KEY,
    "PUBLIC_URL": "say where people reach the product, such as https://duvo.example.com",
}
NOT_USABLE = "The environment is not usable."
POSTGRES = "PUBLIC_URL says that this is more: give postgresql://duvo:password@db.example.com/duvo"
CLOSE = 0.87  # how alike two names are, of 1, before one counts as the other misspelt


def _read(cast: Callable[[str], T], default: T, *, secret: bool = False) -> T:
    """Return a field of `Environment`: read with `cast` from the variable of the same name in capitals."""
    declared: T = field(metadata={"scheme": (cast, default), "secret": secret})
    return declared


@dataclass(frozen=True, repr=False, kw_only=True)
class Environment:
    """The variables of the product with their types and defaults; it has no `repr`, because it holds secrets."""

    debug: bool = _read(flag, False)
    secret_key: str = _read(str, "", secret=True)
    secret_key_fallbacks: list[str] = _read(several(str), [], secret=True)
    seal_keys: list[str] = _read(several(variables.seal_key, "key"), [], secret=True)
    public_url: str = _read(variables.origin, "")
    allowed_hosts: list[str] = _read(several(variables.allowed_host), [])
    database_url: dict[str, Any] = field(metadata={"scheme": (str, DEFAULT_DATABASE), "secret": True})
    database_pool_size: int = _read(whole(1, 1000), 20)
    database_statement_timeout: int = _read(whole(0, 86_400), 30)
    database_lock_timeout: int = _read(whole(0, 86_400), 10)
    redis_url: str = _read(variables.redis_address, "redis://127.0.0.1:6379/0", secret=True)
    trust_forwarded_proto: bool = _read(flag, False)
    trusted_proxies: list[str] = _read(several(variables.network), [])
    egress_allowed_networks: list[str] = _read(several(variables.network), [])
    egress_allowed_ports: list[int] = _read(several(variables.port), [443, 8443])
    egress_ca_file: Path | None = _read(variables.certificates, None)
    probe_interval: int = _read(whole(1, 86_400), 300)
    call_lease: int = _read(whole(2, 3600), 30)
    shutdown_grace_web: int = _read(whole(0, 3600), 25)
    shutdown_grace_calls: int = _read(whole(0, 3600), 280)
    result_folder: Path | None = _read(variables.folder, None)
    metrics_token: str = _read(variables.bearer, "", secret=True)
    heartbeat_file: Path | None = _read(variables.touchable, None)
    oauth_client_metadata_url: str = _read(variables.document, "")
    email_host: str = _read(variables.server, "")
    email_port: int = _read(variables.port, 587)
    email_host_user: str = _read(str, "")
    email_host_password: str = _read(str, "", secret=True)
    email_use_tls: bool = _read(flag, True)
    default_from_email: str = _read(variables.sender, "")
    log_level: str = _read(one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", change=str.upper), "INFO")
    log_format: str = _read(one_of("json", "text", change=str.lower), "json")

    def completed(self) -> Environment:
        """Return it with what follows from other variables where nothing is said."""
        public_url = self.public_url or ("http://127.0.0.1:8000" if self.debug else "")
        host = urlsplit(public_url).hostname or ""
        return replace(
            self,
            secret_key=self.secret_key or (DEBUG_SECRET if self.debug else ""),
            seal_keys=self.seal_keys or ([DEBUG_SEAL_KEY] if self.debug else []),
            public_url=public_url,
            allowed_hosts=self.allowed_hosts or [host_of(public_url)],
            default_from_email=self.default_from_email or f"duvo@{host}",
        )

    def faults(self) -> Iterator[tuple[str, str]]:
        """Give each variable that must not be as it is, and why."""
        for name, remedy in _REQUIRED.items():
            if not getattr(self, name.lower()):
                yield name, f"is missing: {remedy}"
        if self.database_url["ENGINE"] == POSTGRESQL:
            for sentence in variables.database_faults(self.database_url):
                yield "DATABASE_URL", sentence
        for given, other in (("USER", "PASSWORD"), ("PASSWORD", "USER")):
            if getattr(self, f"email_host_{given.lower()}") and not getattr(self, f"email_host_{other.lower()}"):
                yield f"EMAIL_HOST_{given}", f"has no EMAIL_HOST_{other} beside it: who signs in needs both"
        if not self.debug:
            yield from self._open_doors()

    def _open_doors(self) -> Iterator[tuple[str, str]]:
        if self.secret_key == DEBUG_SECRET or self.secret_key.startswith("django-insecure-"):
            yield "SECRET_KEY", "is a default that everybody knows"
        elif 0 < len(self.secret_key) < SHORTEST_SECRET:
            yield "SECRET_KEY", f"is shorter than {SHORTEST_SECRET} characters; {NEW_ONE}"
        if any(len(key) < SHORTEST_SECRET for key in self.secret_key_fallbacks):
            yield "SECRET_KEY_FALLBACKS", f"has a key that is shorter than {SHORTEST_SECRET} characters"
        elif DEBUG_SECRET in self.secret_key_fallbacks:
            yield "SECRET_KEY_FALLBACKS", "holds a default that everybody knows"
        if DEBUG_SEAL_KEY in self.seal_keys:
            yield "SEAL_KEYS", "holds a default that everybody knows"
        public = urlsplit(self.public_url)
        here = not self.public_url or variables.is_loopback(public.hostname or "")
        if public.scheme == "http" and not here:
            yield "PUBLIC_URL", "must begin with https://"
        if any("*" in host or host.startswith(".") for host in self.allowed_hosts):
            yield "ALLOWED_HOSTS", "has a wildcard; name each host"
        elif public.hostname and public.hostname not in self._host_names():
            yield "ALLOWED_HOSTS", f"lacks the host of PUBLIC_URL, {public.hostname}"
        if self.database_url["ENGINE"] == SQLITE and not here:
            yield "DATABASE_URL", f"is missing or SQLite, which is for trying out on one machine; {POSTGRES}"

    def _host_names(self) -> set[str]:
        return {host.lower().strip("[]").removesuffix(".") for host in self.allowed_hosts}


SCHEME: dict[str, tuple[Callable[[str], Any], Any]] = {
    one.name.upper(): one.metadata["scheme"] for one in fields(Environment)
}
_SECRET = {one.name.upper() for one in fields(Environment) if one.metadata["secret"]}
_LONGEST_SHOWN = 100  # characters of a value in a fault


def read_environment() -> Environment:
    """Return the typed environment; raises ImproperlyConfigured with every fault, and with no secret value."""
    from_file, unread = env_file.read(ENV_FILE, needed="ENV_FILE" in os.environ)
    if unread and not from_file:  # not each name that may stand in it is missing, then
        raise ImproperlyConfigured(f"{NOT_USABLE} {unread}")
    faults = ({ENV_FILE.name: unread} if unread else {}) | _unknown(os.environ, from_file)
    said = _in_capitals(from_file) | _in_capitals(os.environ)
    given = {name: value for name, value in said.items() if value.strip()}  # what is empty says nothing
    env = Env(given, **SCHEME)
    values: dict[str, Any] = {}
    for name, (_, default) in SCHEME.items():
        try:
            values[name.lower()] = env.db_url(name) if name == "DATABASE_URL" else env(name)
        except Unusable as fault:
            faults[name] = f"{_shown(name, given)} {fault}"
            values[name.lower()] = default if name != "DATABASE_URL" else {"ENGINE": ""}
    environment = Environment(**values).completed()
    for name, sentence in environment.faults():
        faults.setdefault(name, f"{_shown(name, given)} {sentence}")
    if faults:
        raise ImproperlyConfigured(f"{NOT_USABLE} {'; '.join(faults.values())}")
    return environment


def _shown(name: str, given: Mapping[str, str]) -> str:
    """Return the name with the value that was given, where that is no secret and has no password in it."""
    value = given.get(name, "")
    if not value or name in _SECRET or "@" in value:
        return name
    return f"{name}={value[:_LONGEST_SHOWN]!r}" if not value.isprintable() else f"{name}={value[:_LONGEST_SHOWN]}"


def _in_capitals(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are ours, also those in small letters; of two spellings the capitals count."""
    return {name.upper(): given[name] for name in sorted(given, reverse=True) if name.upper() in SCHEME}


def _unknown(environ: Mapping[str, str], from_file: Mapping[str, str]) -> dict[str, str]:
    """Return a fault for each misspelt name of ours, and for each other name in the file: that holds only ours.

    The same file may be compose.yaml's, with a few names that only this one reads.
    """
    bare = {name.replace("_", ""): name for name in SCHEME}
    faults = {}
    for name in sorted({*environ, *from_file}):
        if name.upper() in SCHEME or name in OF_COMPOSE or name.startswith(_OF_DOCKER):
            continue
        meant = difflib.get_close_matches(name.upper().replace("_", ""), bare, n=1, cutoff=CLOSE)
        if meant:
            faults[name] = f"Unknown setting {name}: did you mean {bare[meant[0]]}?"
        elif name in from_file:
            faults[name] = f"Unknown setting {name} in {ENV_FILE.name}"
    return faults
