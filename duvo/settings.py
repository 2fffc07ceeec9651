"""Django's settings, made of what `environment.py` has read and judged; `databases.py` completes the database."""

from __future__ import annotations

import sys
import time
from typing import Any

from celery.beat import BeatLazyFunc
from csp.constants import NONE, SELF
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue

from duvo.databases import database
from duvo.environment import BASE_DIR, read_environment

STARTUP_FAILURE = 3
LONGEST_CALL = 3600  # seconds; the cap of a connection's call timeout, and what Celery's visibility must outlive

try:
    env = read_environment()
except ImproperlyConfigured as fault:
    # One line instead of a traceback. By this status uvicorn knows that starting the process again is of no use.
    print(fault, file=sys.stderr)  # noqa: T201 - there is no logging without settings
    raise SystemExit(STARTUP_FAILURE) from None

DEBUG = env.debug
SECRET_KEY = env.secret_key
SECRET_KEY_FALLBACKS = env.secret_key_fallbacks  # they open what is signed; SECRET_KEY alone signs
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
SHUTDOWN_GRACE_WEB = env.shutdown_grace_web  # seconds that a process which ends gives the calls that it makes
SHUTDOWN_GRACE_CALLS = env.shutdown_grace_calls
METRICS_TOKEN = env.metrics_token
HEARTBEAT_FILE = env.heartbeat_file  # touched by beat and workers, for the health check of their container
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
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "connections",
    "oauth",
    "tools",
    "duvo.apps.DuvoConfig",
]

MIDDLEWARE = [
    "duvo.addresses.AddressMiddleware",
    "duvo.caching.KeepPrivateMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "duvo.logging.RequestIdMiddleware",
    "duvo.zones.TimeZoneMiddleware",
    "duvo.pages.PagesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "duvo.try_later.TryLaterMiddleware",
    "duvo.database_failures.DatabaseFailureMiddleware",
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
            "builtins": ["connections.templatetags.moments"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- database -------------------------------------------------------------------------------------------------------

DATABASES = {"default": database(env)}
DATABASE_POOL_SIZE = env.database_pool_size  # pages take at most half of it

# Where contents go that are too large for a result; without the storage `results` they stay in the database.
STORAGES: dict[str, dict[str, Any]] = {**global_settings.STORAGES}
if env.result_folder is not None:
    STORAGES["results"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.result_folder, "base_url": None, "file_permissions_mode": 0o600},
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
PASSWORD_RESET_TIMEOUT = 3600  # seconds that the link to a new password works
# django-allauth has the second factors; signing in, limits and mails are ours (connections.people.second_factor).
ACCOUNT_ADAPTER = "connections.people.second_factor.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_RATE_LIMITS = MFA_RATE_LIMITS = False
MFA_ADAPTER = "connections.people.second_factor.MFAAdapter"
MFA_FORMS = {"activate_totp": "connections.people.second_factor.TotpForm"}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "Duvo Connections"
MFA_TOTP_TOLERANCE = 1  # codes before and after: clocks of phones differ by some seconds
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "duvo.formats"  # times as 2026-11-22 21:11 on every page
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# Collected files carry a hash in their names, so that browsers keep them for ever, and lie there compressed.
_collected = not DEBUG and (STATIC_ROOT / "staticfiles.json").exists()
if _collected or sys.argv[1:2] == ["collectstatic"]:
    STORAGES["staticfiles"] = {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"}
SERVESTATIC_KEEP_ONLY_HASHED_FILES = True
SERVESTATIC_USE_FINDERS = not _collected

_https = PUBLIC_URL.startswith("https://")
SECURE_SSL_REDIRECT = _https
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not _https  # browsers allow keys over plain http on loopback
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]  # asked inside a network, past the proxy
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
    "DEFAULT_RENDERER_CLASSES": ["tools.api.rendering.RowsRenderer"],
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
    "TAGS": [  # in the order of the page: who calls tools first, then who sets up
        {"name": "me", "description": "Whose token this is."},
        {"name": "tools", "description": "Which tools there are, and calling one. An assignment's token."},
        {"name": "calls", "description": "Waiting, following, answering and cancelling. An assignment's token."},
        {"name": "sessions", "description": "What servers that remember keep for the assignment."},
        {"name": "connections", "description": "The MCP servers. Every token reads, an admin's changes."},
        {"name": "assignments", "description": "Who calls, and their tokens. A person's own token."},
        {"name": "tokens", "description": "Revoking one. A person's own token."},
        {"name": "usage", "description": "How much was called."},
        {"name": "quotas", "description": "What the organization may have."},
        {"name": "audit-events", "description": "Who did what. An admin's or auditor's token."},
    ],
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
    "tools.delete_organizations": {"queue": "housekeeping"},
    "oauth.dispatch_*": {"queue": "housekeeping"},
    "tools.count_open_calls": {"queue": "housekeeping"},
    "tools.count_use": {"queue": "housekeeping"},
    "oauth.forget_old": {"queue": "housekeeping"},
    "oauth.tell_who_left": {"queue": "housekeeping"},
    "connections.dispatch_notices": {"queue": "housekeeping"},
    "connections.forget_sessions": {"queue": "housekeeping"},
    "connections.end_staff_visits": {"queue": "housekeeping"},
    "duvo.show_housekeeping": {"queue": "housekeeping"},
    "duvo.show_probes": {"queue": "probes"},
    "tools.check_due": {"queue": "housekeeping"},  # the version before sends it to `probes`
    "tools.probe_connection": {"queue": "probes"},
    "tools.poll_task": {"queue": "probes"},
    "tools.cancel_task": {"queue": "probes"},
    "tools.end_session": {"queue": "probes"},
    "tools.mail_owner": {"queue": "probes"},
    "tools.deliver_bulletin": {"queue": "probes"},
    "oauth.attend_sign_in": {"queue": "probes"},
    "oauth.forget_abandoned": {"queue": "probes"},
    "oauth.discover_again": {"queue": "probes"},
    "connections.deliver_notice": {"queue": "probes"},
    "connections.mail_new_password": {"queue": "probes"},
}
# What talks to strangers has clocks of its own, a minute or two at most; these end a process that they did not reach.
CELERY_TASK_SOFT_TIME_LIMIT = 150  # seconds
CELERY_TASK_TIME_LIMIT = 180
CELERY_TASK_ANNOTATIONS = {
    "tools.purge_calls": {"soft_time_limit": 3300, "time_limit": 3600},
    "tools.delete_organizations": {"soft_time_limit": 900, "time_limit": 960},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BEAT_SCHEDULER = "duvo.beat:Scheduler"
CELERY_BEAT_SCHEDULE = {
    # Kept for a while in a queue that is full: it moves all the same.
    "show-housekeeping": {
        "task": "duvo.show_housekeeping",
        "schedule": 10.0,
        "kwargs": {"sent_at": BeatLazyFunc(time.time)},
        "options": {"expires": 120},
    },
    "show-probes": {"task": "duvo.show_probes", "schedule": 10.0, "options": {"expires": 120}},
    "dispatch-probes": {"task": "tools.dispatch_probes", "schedule": 5.0, "options": {"expires": 5}},
    "dispatch-renewals": {"task": "oauth.dispatch_renewals", "schedule": 5.0, "options": {"expires": 5}},
    "forget-old-sign-ins": {"task": "oauth.forget_old", "schedule": 3600.0, "options": {"expires": 3600}},
    "dispatch-notices": {"task": "connections.dispatch_notices", "schedule": 30.0, "options": {"expires": 30}},
    "end-staff-visits": {"task": "connections.end_staff_visits", "schedule": 30.0, "options": {"expires": 30}},
    "dispatch-task-polls": {"task": "tools.dispatch_task_polls", "schedule": 1.0, "options": {"expires": 1}},
    "dispatch-session-ends": {"task": "tools.dispatch_session_ends", "schedule": 2.0, "options": {"expires": 2}},
    "sweep-calls": {"task": "tools.sweep_calls", "schedule": 10.0, "options": {"expires": 10}},
    "forget-sessions": {"task": "connections.forget_sessions", "schedule": 3600.0, "options": {"expires": 3600}},
    "dispatch-owner-mail": {"task": "tools.dispatch_owner_mail", "schedule": 60.0, "options": {"expires": 60}},
    "dispatch-bulletins": {"task": "tools.dispatch_bulletins", "schedule": 10.0, "options": {"expires": 10}},
    "count-open-calls": {"task": "tools.count_open_calls", "schedule": 10.0, "options": {"expires": 10}},
    "count-use": {"task": "tools.count_use", "schedule": 300.0, "options": {"expires": 300}},
    "purge-calls": {"task": "tools.purge_calls", "schedule": 3600.0, "options": {"expires": 3600}},
    "delete-organizations": {"task": "tools.delete_organizations", "schedule": 60.0, "options": {"expires": 60}},
}

LOGGING_CONFIG = "duvo.logging.configure"
LOGGING = {"level": env.log_level, "format": env.log_format}
