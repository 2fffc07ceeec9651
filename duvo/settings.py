"""Every setting of the product, read once from the environment (or from `.env`) and typed.

Outside debug the product does not start with a missing or default secret, without PUBLIC_URL or with wildcard hosts;
a misspelt name is refused with the name that was probably meant.
"""

from __future__ import annotations

import difflib
import os
from base64 import urlsafe_b64decode
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue
from pydantic import NonNegativeInt, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG_SECRET = "debug-only-secret-key-that-no-production-may-use"  # noqa: S105 - refused outside debug
DEBUG_SEAL_KEY = "ZGVidWctb25seS1zZWFsLWtleS1ub3QtZm9yLXByb2Q="
LONGEST_CALL = 3600  # seconds; the cap of a connection's call timeout, and what Celery's visibility must outlive

Words = Annotated[list[str], NoDecode]


class Environment(BaseSettings):
    """The environment variables of the product, with their types and defaults."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="forbid", hide_input_in_errors=True)

    debug: bool = False
    secret_key: str = ""
    seal_keys: Words = []
    public_url: str = ""
    allowed_hosts: Words = []
    database_url: str = f"sqlite:///{BASE_DIR / 'var' / 'duvo.sqlite3'}"
    database_pool_size: int = 20
    database_statement_timeout: NonNegativeInt = 30
    database_lock_timeout: NonNegativeInt = 10
    redis_url: str = "redis://127.0.0.1:6379/0"
    trust_forwarded_proto: bool = False
    trusted_proxies: Words = []
    egress_allowed_networks: Words = []
    egress_allowed_ports: Annotated[list[int], NoDecode] = [443, 8443]
    egress_ca_file: Path | None = None
    probe_interval: int = 300
    call_lease: int = 30
    result_folder: Path | None = None
    metrics_token: str = ""
    oauth_client_metadata_url: str = ""
    email_host: str = ""
    email_port: int = 587
    email_host_user: str = ""
    email_host_password: str = ""
    email_use_tls: bool = True
    default_from_email: str = ""
    log_level: str = "INFO"
    log_format: str = "json"

    @field_validator(
        "seal_keys",
        "allowed_hosts",
        "egress_allowed_networks",
        "egress_allowed_ports",
        "trusted_proxies",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("egress_allowed_networks", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [str(ip_network(network)) for network in value]

    @field_validator("seal_keys")
    @classmethod
    def _keys(cls, value: list[str]) -> list[str]:
        for position, key in enumerate(value, start=1):
            if len(urlsafe_b64decode(key)) < 32:  # noqa: PLR2004 - 256 bits
                message = f"key {position} is shorter than 32 bytes; make one with `manage.py make_seal_key`"
                raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.debug:
            self.secret_key = self.secret_key or DEBUG_SECRET
            self.seal_keys = self.seal_keys or [DEBUG_SEAL_KEY]
            self.public_url = self.public_url or "http://127.0.0.1:8000"
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        self.public_url = self.public_url.rstrip("/")
        self.allowed_hosts = self.allowed_hosts or [urlsplit(self.public_url).hostname or ""]
        self.default_from_email = self.default_from_email or f"duvo@{urlsplit(self.public_url).hostname}"
        return self

    def _faults(self) -> list[str]:
        missing = [name for name in ("secret_key", "seal_keys", "public_url") if not getattr(self, name)]
        faults = [f"{name.upper()} is missing" for name in missing]
        public = urlsplit(self.public_url)
        if self.public_url and (public.scheme not in {"http", "https"} or not public.hostname):
            faults.append("PUBLIC_URL is not a web address such as https://duvo.example.com")
        elif public.scheme == "http" and not self.debug and not _is_loopback(public.hostname or ""):
            faults.append("PUBLIC_URL must begin with https://")
        sender = self.default_from_email
        if sender and ("@" not in sender or not sender.isprintable()):
            faults.append("DEFAULT_FROM_EMAIL is not an address such as Duvo <duvo@example.com>")
        return faults if self.debug else faults + self._open_doors()

    def _open_doors(self) -> list[str]:
        faults = []
        if self.secret_key == DEBUG_SECRET or self.secret_key.startswith("django-insecure-"):
            faults.append("SECRET_KEY is a default that everybody knows")
        elif 0 < len(self.secret_key) < 32:  # noqa: PLR2004
            faults.append("SECRET_KEY is shorter than 32 characters")
        if DEBUG_SEAL_KEY in self.seal_keys:
            faults.append("SEAL_KEYS holds a default that everybody knows")
        if any("*" in host or host.startswith(".") for host in self.allowed_hosts):
            faults.append("ALLOWED_HOSTS has a wildcard; name each host")
        return faults


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_environment() -> Environment:
    """Return the typed environment; raises ImproperlyConfigured with every fault, never with a value."""
    known = {name.upper() for name in Environment.model_fields}
    for name in sorted(set(os.environ) - known):
        meant = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if meant:
            message = f"Unknown setting {name}: did you mean {meant[0]}?"
            raise ImproperlyConfigured(message)
    try:
        return Environment()
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}".removeprefix(": ")
            for fault in error.errors(include_input=False)
        ]
        raise ImproperlyConfigured("The environment is not usable. " + " | ".join(faults)) from None


env = read_environment()

DEBUG = env.debug
SECRET_KEY = env.secret_key
SEAL_KEYS = env.seal_keys
PUBLIC_URL = env.public_url
ALLOWED_HOSTS = env.allowed_hosts
EGRESS_ALLOWED_NETWORKS = env.egress_allowed_networks
EGRESS_ALLOWED_PORTS = env.egress_allowed_ports
EGRESS_CA_FILE = env.egress_ca_file
PROBE_INTERVAL = env.probe_interval
DATABASE_STATEMENT_TIMEOUT = env.database_statement_timeout
DATABASE_LOCK_TIMEOUT = env.database_lock_timeout
CALL_LEASE = env.call_lease  # seconds without a sign of life after which a call's process counts as dead
METRICS_TOKEN = env.metrics_token
OAUTH_CLIENT_METADATA_URL = env.oauth_client_metadata_url or f"{PUBLIC_URL}/v1/oauth/mcp/client.json"

INSTALLED_APPS = [
    "duvo.apps.DuvoAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "connections",
    "oauth",
    "tools",
    "duvo.apps.DuvoConfig",
]

MIDDLEWARE = [
    "duvo.caching.KeepPrivateMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "duvo.logging.RequestIdMiddleware",
    "duvo.pages.PagesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "duvo.walls.WallsMiddleware",
    "duvo.too_long.TooLongMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "duvo.urls"
ASGI_APPLICATION = "duvo.asgi.application"
APPEND_SLASH = False
AUTH_USER_MODEL = "connections.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024  # bytes; the largest body of a call

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- database -------------------------------------------------------------------------------------------------------


def _database() -> dict[str, Any]:
    database: dict[str, Any] = dict(dj_database_url.parse(env.database_url))
    if database["ENGINE"].endswith("sqlite3"):
        Path(database["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        # Without IMMEDIATE and WAL two of three concurrent writes fail as "database is locked".
        database["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        }
    else:
        database["CONN_MAX_AGE"] = 0  # the pool keeps the connections
        database["CONN_HEALTH_CHECKS"] = True  # and hands out none that a restarted server has closed
        # Sent when a connection begins, so it costs no statement of its own; what the URL asks for comes last and wins.
        clocks = {"statement_timeout": env.database_statement_timeout, "lock_timeout": env.database_lock_timeout}
        wanted = [f"-c {name}={seconds}s" for name, seconds in clocks.items() if seconds]
        wanted.append(database.get("OPTIONS", {}).pop("options", ""))
        if any(wanted):
            database.setdefault("OPTIONS", {})["options"] = " ".join(filter(None, wanted))
        database["OPTIONS"] = {
            "pool": {"min_size": 0, "max_size": env.database_pool_size, "timeout": 10},
            "prepare_threshold": 5,  # for statements that are bound at the server: those of the call path
            **database.get("OPTIONS", {}),  # what the URL says, as `?sslmode=verify-full`
        }
    return database


DATABASES = {"default": _database()}
DATABASE_POOL_SIZE = env.database_pool_size  # pages take at most half of it

# Where contents go that are too large for a result; without the storage `results` they stay in the database.
if env.result_folder is not None:
    STORAGES = {
        **global_settings.STORAGES,
        "results": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": env.result_folder, "base_url": None, "file_permissions_mode": 0o600},
        },
    }

# --- people and pages -----------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = ["connections.passwords.Backend"]
PASSWORD_HASHERS = ["connections.passwords.Hasher"]
SESSION_ENGINE = "connections.sessions"
SESSION_COOKIE_AGE = 12 * 3600  # seconds without a request
SESSION_LONGEST = 7 * 24 * 3600  # seconds from the sign-in
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"  # also when the address to go back to is refused
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "duvo.formats"  # times as 2026-11-22 21:11 on every page
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "duvo" / "static"]
SERVESTATIC_USE_FINDERS = not STATIC_ROOT.exists()

_https = PUBLIC_URL.startswith("https://")
SECURE_SSL_REDIRECT = _https
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.trust_forwarded_proto else None
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
# What the other hosts of this domain do is its owner's to say: a proxy in front can say more.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
TRUSTED_PROXIES = env.trusted_proxies
SESSION_COOKIE_SECURE = _https
CSRF_COOKIE_SECURE = _https
CSRF_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # Swagger UI draws its arrows as data URLs
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    },
}

# --- mail -----------------------------------------------------------------------------------------------------------

NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"
_without_host = "django.core.mail.backends.console.EmailBackend" if DEBUG else NO_MAIL
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend" if env.email_host else _without_host
EMAIL_HOST = env.email_host
EMAIL_PORT = env.email_port
EMAIL_HOST_USER = env.email_host_user
EMAIL_HOST_PASSWORD = env.email_host_password
EMAIL_USE_SSL = env.email_use_tls and EMAIL_PORT == 465  # noqa: PLR2004 - TLS from the first byte, RFC 8314
EMAIL_USE_TLS = env.email_use_tls and not EMAIL_USE_SSL
EMAIL_TIMEOUT = 20  # seconds
DEFAULT_FROM_EMAIL = env.default_from_email

# --- API ------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tools.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tools.api.authentication.HasPrincipal"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "tools.api.openapi.Schema",
    "EXCEPTION_HANDLER": "tools.api.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Duvo Connections",
    "DESCRIPTION": "The tools of an organization's MCP connections, over REST.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1",
}

# --- work in the background -----------------------------------------------------------------------------------------

REDIS_URL = env.redis_url
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 2 * LONGEST_CALL,
    "unacked_restore_throttle": 1,  # kombu looks for lost messages only every 100 s without it
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    # Sending gives up at once while the broker is down: rows say what is due, beat and the sweeper send it again.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_QUEUES = [Queue(name, routing_key=name) for name in ("housekeeping", "probes", "calls")]
CELERY_TASK_DEFAULT_QUEUE = "housekeeping"
# Each task has a queue by its name: what asks a stranger's server must not stand before what asks nobody.
CELERY_TASK_ROUTES = {
    "tools.dispatch_*": {"queue": "housekeeping"},
    "tools.sweep_calls": {"queue": "housekeeping"},
    "tools.purge_calls": {"queue": "housekeeping"},
    "oauth.dispatch_*": {"queue": "housekeeping"},
    "tools.count_open_calls": {"queue": "housekeeping"},
    "oauth.forget_old": {"queue": "housekeeping"},
    "oauth.tell_who_left": {"queue": "housekeeping"},
    "connections.dispatch_notices": {"queue": "housekeeping"},
    "connections.forget_sessions": {"queue": "housekeeping"},
    "tools.probe_connection": {"queue": "probes"},
    "tools.poll_task": {"queue": "probes"},
    "tools.cancel_task": {"queue": "probes"},
    "tools.mail_owner": {"queue": "probes"},
    "oauth.attend_sign_in": {"queue": "probes"},
    "oauth.forget_abandoned": {"queue": "probes"},
    "oauth.discover_again": {"queue": "probes"},
    "connections.deliver_notice": {"queue": "probes"},
}
# What talks to strangers has clocks of its own, a minute or two at most; these end a process that they did not reach.
CELERY_TASK_SOFT_TIME_LIMIT = 150  # seconds
CELERY_TASK_TIME_LIMIT = 180
CELERY_TASK_ANNOTATIONS = {"tools.purge_calls": {"soft_time_limit": 3300, "time_limit": 3600}}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BEAT_SCHEDULE = {
    "dispatch-probes": {"task": "tools.dispatch_probes", "schedule": 5.0, "options": {"expires": 5}},
    "dispatch-renewals": {"task": "oauth.dispatch_renewals", "schedule": 5.0, "options": {"expires": 5}},
    "forget-old-sign-ins": {"task": "oauth.forget_old", "schedule": 3600.0, "options": {"expires": 3600}},
    "dispatch-notices": {"task": "connections.dispatch_notices", "schedule": 30.0, "options": {"expires": 30}},
    "dispatch-task-polls": {"task": "tools.dispatch_task_polls", "schedule": 1.0, "options": {"expires": 1}},
    "sweep-calls": {"task": "tools.sweep_calls", "schedule": 10.0, "options": {"expires": 10}},
    "forget-sessions": {"task": "connections.forget_sessions", "schedule": 3600.0, "options": {"expires": 3600}},
    "dispatch-owner-mail": {"task": "tools.dispatch_owner_mail", "schedule": 60.0, "options": {"expires": 60}},
    "count-open-calls": {"task": "tools.count_open_calls", "schedule": 10.0, "options": {"expires": 10}},
    "purge-calls": {"task": "tools.purge_calls", "schedule": 3600.0, "options": {"expires": 3600}},
}

LOGGING_CONFIG = "duvo.logging.configure"
LOGGING = {"level": env.log_level, "format": env.log_format}
