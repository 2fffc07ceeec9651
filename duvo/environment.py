"""What the product reads from the environment or from `.env`: typed, and judged as a whole before anything starts.

Outside debug the product does not start with a missing or default secret, without PUBLIC_URL or with wildcard hosts.
A misspelt name is refused with the name that was probably meant. One message has all faults, and it shows no value.
`variables.py` says how one value is read, `settings.py` what Django makes of them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values

from duvo import variables
from duvo.variables import Env, Unusable, flag, seconds, several, whole

T = TypeVar("T")

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = BASE_DIR / ".env"
DEBUG_SECRET = "debug-only-secret-key-that-no-production-may-use"  # noqa: S105 - refused outside debug
DEBUG_SEAL_KEY = "ZGVidWctb25seS1zZWFsLWtleS1ub3QtZm9yLXByb2Q="
DEFAULT_DATABASE = f"sqlite:///{quote(str(BASE_DIR / 'var' / 'duvo.sqlite3'))}"
SHORTEST_SECRET = 32  # characters
CLOSE = 0.88  # how alike two names are, of 1, before one counts as the other misspelt


def _read(cast: Callable[[str], T], default: T) -> T:
    """Return a field of `Environment`: read with `cast` from the variable of the same name in capitals."""
    declared: T = field(metadata={"scheme": (cast, default)})
    return declared


@dataclass(frozen=True, repr=False, kw_only=True)
class Environment:
    """The variables of the product with their types and defaults; it has no `repr`, because it holds secrets."""

    debug: bool = _read(flag, False)
    secret_key: str = _read(str, "")
    seal_keys: list[str] = _read(several(variables.seal_key, "key"), [])
    public_url: str = _read(variables.web_address, "")
    allowed_hosts: list[str] = _read(several(str), [])
    database_url: dict[str, Any] = field(metadata={"scheme": (str, DEFAULT_DATABASE)})  # as `Env.db_url` has it
    database_pool_size: int = _read(whole, 20)
    database_statement_timeout: int = _read(seconds, 30)
    database_lock_timeout: int = _read(seconds, 10)
    redis_url: str = _read(variables.redis_address, "redis://127.0.0.1:6379/0")
    trust_forwarded_proto: bool = _read(flag, False)
    trusted_proxies: list[str] = _read(several(variables.network), [])
    egress_allowed_networks: list[str] = _read(several(variables.network), [])
    egress_allowed_ports: list[int] = _read(several(whole), [443, 8443])
    egress_ca_file: Path | None = _read(Path, None)
    probe_interval: int = _read(whole, 300)
    call_lease: int = _read(whole, 30)
    result_folder: Path | None = _read(Path, None)
    metrics_token: str = _read(str, "")
    oauth_client_metadata_url: str = _read(str, "")
    email_host: str = _read(str, "")
    email_port: int = _read(whole, 587)
    email_host_user: str = _read(str, "")
    email_host_password: str = _read(str, "")
    email_use_tls: bool = _read(flag, True)
    default_from_email: str = _read(variables.sender, "")
    log_level: str = _read(str, "INFO")
    log_format: str = _read(str, "json")

    def completed(self) -> Environment:
        """Return it with what follows from other variables where nothing is said."""
        public_url = self.public_url or ("http://127.0.0.1:8000" if self.debug else "")
        host = urlsplit(public_url).hostname or ""
        return replace(
            self,
            secret_key=self.secret_key or (DEBUG_SECRET if self.debug else ""),
            seal_keys=self.seal_keys or ([DEBUG_SEAL_KEY] if self.debug else []),
            public_url=public_url,
            allowed_hosts=self.allowed_hosts or [host],
            default_from_email=self.default_from_email or f"duvo@{host}",
        )

    def faults(self) -> Iterator[tuple[str, str]]:
        """Give each variable that must not be as it is, and why."""
        for name in ("SECRET_KEY", "SEAL_KEYS", "PUBLIC_URL"):
            if not getattr(self, name.lower()):
                yield name, "is missing"
        if not self.debug:
            yield from self._open_doors()

    def _open_doors(self) -> Iterator[tuple[str, str]]:
        if self.secret_key == DEBUG_SECRET or self.secret_key.startswith("django-insecure-"):
            yield "SECRET_KEY", "is a default that everybody knows"
        elif 0 < len(self.secret_key) < SHORTEST_SECRET:
            yield "SECRET_KEY", f"is shorter than {SHORTEST_SECRET} characters"
        if DEBUG_SEAL_KEY in self.seal_keys:
            yield "SEAL_KEYS", "holds a default that everybody knows"
        public = urlsplit(self.public_url)
        if public.scheme == "http" and not _is_loopback(public.hostname or ""):
            yield "PUBLIC_URL", "must begin with https://"
        if any("*" in host or host.startswith(".") for host in self.allowed_hosts):
            yield "ALLOWED_HOSTS", "has a wildcard; name each host"


SCHEME: dict[str, tuple[Callable[[str], Any], Any]] = {
    one.name.upper(): one.metadata["scheme"] for one in fields(Environment)
}


def read_environment() -> Environment:
    """Return the typed environment; raises ImproperlyConfigured with every fault, never with a value."""
    # `${NAME}` in the file is no reference either: a value is the same there and in the environment.
    from_file = {name: value for name, value in dotenv_values(ENV_FILE, interpolate=False).items() if value is not None}
    faults = _unknown(os.environ, from_file)
    env = Env(_in_capitals(from_file) | _in_capitals(os.environ), **SCHEME)
    values: dict[str, Any] = {}
    for name, (_, default) in SCHEME.items():
        try:
            values[name.lower()] = env.db_url(name) if name == "DATABASE_URL" else env(name)
        except Unusable as fault:
            faults[name] = f"{name} {fault}"
            values[name.lower()] = default
    environment = Environment(**values).completed()
    for name, sentence in environment.faults():
        faults.setdefault(name, f"{name} {sentence}")
    if faults:
        raise ImproperlyConfigured("The environment is not usable. " + "; ".join(faults.values()))
    return environment


def _in_capitals(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are ours, also those in small letters; of two spellings the capitals count."""
    return {name.upper(): given[name] for name in sorted(given, reverse=True) if name.upper() in SCHEME}


def _unknown(environ: Mapping[str, str], from_file: Mapping[str, str]) -> dict[str, str]:
    """Return a fault for each misspelt name of ours, and for each other name in the file: that holds only ours."""
    faults = {}
    for name in sorted({*environ, *from_file}):
        if name.upper() in SCHEME:
            continue
        meant = difflib.get_close_matches(name.upper(), SCHEME, n=1, cutoff=CLOSE)
        if meant:
            faults[name] = f"Unknown setting {name}: did you mean {meant[0]}?"
        elif name in from_file:
            faults[name] = f"Unknown setting {name} in {ENV_FILE.name}"
    return faults


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
