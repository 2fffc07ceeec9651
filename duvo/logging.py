"""Log lines as JSON with a request id; no line ever carries a body, a header or a secret."""

from __future__ import annotations

import json
import logging
import logging.config
import re
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from uuid_utils.compat import uuid7

from connections.context import request_id
from duvo.middleware import Middleware

# Lines about requests as servers write them, with the query string: `code` and `state` of a sign-in travel in it. Web
# servers set their loggers up before they load the product, which takes them away again, whatever their options say.
_ACCESS = ("uvicorn.access", "gunicorn.access", "hypercorn.access", "daphne.access", "django.server")
# These log bodies, headers and arguments at DEBUG: secrets. They stay at WARNING whatever the level.
_TALKATIVE = ("httpcore2", "httpx2", "hpack", "asyncio", "mcp", "kombu", "amqp", "celery.pool", "uvicorn.asgi", "fido2")
_GOOD_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


# These tell of each task that is sent, taken and done, several every second. What fails they tell at ERROR.
_ROUTINE = ("celery.beat", "celery.worker.strategy", "celery.app.trace", "celery.worker.request", "psycopg.pool")


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, request id, facts (`connections.telling`), exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for a terminal: the facts come last, as words with values."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        facts = {"request_id": request_id.get()} if request_id.get() else {}
        facts |= getattr(record, "facts", {})
        return " ".join([super().format(record), *(f"{name}={value}" for name, value in facts.items())])


def formatter() -> logging.Formatter:
    """Return the formatter that the settings ask for; `uvicorn.json` has it for uvicorn's parent process."""
    return _formatter(settings.LOGGING["format"])


def _formatter(name: str) -> logging.Formatter:
    return TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s") if name == "text" else JsonFormatter()


class _Discreet(logging.Filter):
    """Removes what others choose from lines about requests and messages: query strings, hosts, arguments of tasks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "django.security.DisallowedHost":
            record.msg, record.args = "A request named a host that is not in ALLOWED_HOSTS.", ()
            record.exc_info = record.exc_text = None
        elif record.name.startswith(
            "celery.worker"
        ):  # what it does not understand it prints whole, below the first line
            record.msg, record.args = record.getMessage().partition("\n")[0], ()
        elif record.name.startswith(("uvicorn", "django.request", "django.security")):
            record.msg = _without_query(record.msg)
            if isinstance(record.args, tuple):
                record.args = tuple(_without_query(value) for value in record.args)
        return True


def _without_query(value: Any) -> Any:
    return value.partition("?")[0] if isinstance(value, str) else value


def configure(options: dict[str, str]) -> None:
    """Apply `{"level": ..., "format": "json" | "text"}` to the root logger, as Django's LOGGING_CONFIG."""
    level = logging.getLevelName(options["level"])
    routine = logging.WARNING if level > logging.DEBUG else logging.DEBUG
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": _formatter, "name": options["format"]}},
            "filters": {"discreet": {"()": _Discreet}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["discreet"]}},
            "root": {"handlers": ["stderr"], "level": options["level"]},
            "loggers": {
                **{name: {"level": "WARNING"} for name in _TALKATIVE},
                **{name: {"level": routine} for name in _ROUTINE},
                "uvicorn": {"handlers": [], "propagate": True},  # it sets itself up before it loads the product
                "uvicorn.error": {"filters": ["discreet"], "handlers": [], "propagate": True},
                **{name: {"handlers": [], "level": logging.CRITICAL + 1, "propagate": False} for name in _ACCESS},
            },
        }
    )
    if options["format"] == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process, as one line like everything else; Ctrl-C is no error."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("duvo").critical("The process ends by an error.", exc_info=(kind, error, trace))


def new_request_id(offered: str | None) -> str:
    """Return the caller's X-Request-ID if it is harmless, else a new one; it is then set for this context."""
    value = offered if offered and _GOOD_ID.fullmatch(offered) else str(uuid7())
    request_id.set(value)
    return value


class RequestIdMiddleware(Middleware):
    """Give each request an id, in the logs, in audit events and in the X-Request-ID response header."""

    def before(self, request: HttpRequest) -> None:
        """Take the caller's id, or make one."""
        new_request_id(request.headers.get("X-Request-ID"))

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Tell the caller the id."""
        response["X-Request-ID"] = request_id.get()
