"""What the logs say: one line for each call that has ended and each state that has moved, found by the request's id."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from connections.context import request_id
from connections.states import ReachabilityState
from connections.telling import tell
from duvo.logging import JsonFormatter, TextFormatter
from tests.conftest import House
from tests.tools.calls.test_call_worker import ASYNC
from tests.tools.conftest import Shop, open_shop, shop  # noqa: F401 - fixtures
from tools.calls import life
from tools.models import Call

SECRET_WORDS = "words of a customer"


class Lines(logging.Handler):
    """What is written, each line at the moment at which it is."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)}\n"

    def with_message(self, message: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.text.splitlines()) if line["message"] == message]


@pytest.fixture
def lines() -> Iterator[Lines]:
    kept = Lines()
    logging.getLogger().addHandler(kept)
    yield kept
    logging.getLogger().removeHandler(kept)


def test_each_call_that_has_ended_has_one_line_without_what_it_was_about(
    shop: Shop,  # noqa: F811
    lines: Lines,
) -> None:
    shop.call("echo", {"text": SECRET_WORDS}, headers={"X-Request-ID": "find-me-1"})
    shop.call("fail", {}, headers={"X-Request-ID": "find-me-2"})
    first, second = lines.with_message("A call has ended.")
    call = Call.objects.get(request_id="find-me-1")
    assert first["call"] == str(call.pk)
    assert first["tenant"] == str(call.tenant_id)
    assert (first["outcome"], first["request_id"], first["level"]) == ("succeeded", "find-me-1", "INFO")
    assert 0 <= first["seconds"] < 30
    assert (second["outcome"], second["code"], second["request_id"]) == ("failed", "tool_error", "find-me-2")
    assert SECRET_WORDS not in lines.text


def test_a_call_of_the_queue_is_found_by_the_request_that_asked_for_it(
    shop: Shop,  # noqa: F811
    lines: Lines,
) -> None:
    queued = shop.call("fail", {}, headers={**ASYNC["headers"], "X-Request-ID": "find-me-3"}).json()["id"]
    life.resume(UUID(queued))
    (line,) = lines.with_message("A call has ended.")
    assert (line["call"], line["request_id"]) == (queued, "find-me-3")


def test_a_call_that_somebody_else_ends_has_its_line_too(
    shop: Shop,  # noqa: F811
    lines: Lines,
) -> None:
    queued = shop.call("echo", {"text": "x"}, headers={**ASYNC["headers"], "X-Request-ID": "find-me-4"}).json()["id"]
    for _ in range(2):
        shop.api.post(f"/v1/calls/{queued}/cancel")
    (line,) = lines.with_message("A call has ended without a run.")
    assert (line["call"], line["outcome"], line["code"]) == (queued, "cancelled", "cancelled")
    assert line["request_id"] == "find-me-4"


def test_a_request_that_is_refused_has_its_line(shop: Shop, lines: Lines) -> None:  # noqa: F811
    shop.api.post("/v1/tools/orders__nothing/call", json={"arguments": {}}, headers={"X-Request-ID": "find-me-5"})
    (line,) = lines.with_message("A request was refused.")
    assert (line["code"], line["request_id"]) == ("tool_not_found", "find-me-5")


def test_a_state_has_a_line_when_it_moves_and_none_when_it_stays(acme: House, lines: Lines) -> None:
    connection = acme.connection()
    for _ in range(2):
        connection.set_reachability(ReachabilityState.UNREACHABLE, "connect_failed", SECRET_WORDS)
    (line,) = lines.with_message("A connection's state has moved.")
    assert (line["connection"], line["tenant"]) == (str(connection.pk), str(acme.tenant.pk))
    assert (line["of"], line["was"], line["state"], line["code"]) == (
        "reachability", "unknown", "unreachable", "connect_failed",
    )  # fmt: skip
    assert SECRET_WORDS not in lines.text


def test_facts_are_words_with_values_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell(logging.getLogger("duvo.test"), "It has ended.", call="c1", seconds=1.5, code="")
    before = request_id.set("r1")
    written = TextFormatter("%(message)s").format(caplog.records[-1])
    request_id.reset(before)
    assert written == "It has ended. request_id=r1 call=c1 seconds=1.5"


LINES = """
import logging, warnings, sys
from uvicorn import Config
Config("duvo.asgi:application", log_config="duvo/uvicorn.json")
logging.getLogger("uvicorn.error").info("Started parent process [1]")
import django
django.setup()
Config("duvo.asgi:application")
from duvo.logging import configure
configure({"level": "INFO", "format": "json"})
logging.getLogger("uvicorn.error").info("Started server process [2]")
logging.getLogger("celery.app.trace").info("Task x succeeded")
logging.getLogger("celery.beat").info("Sending due task")
logging.getLogger("celery.app.trace").error("Task x raised unexpected")
warnings.warn("old", UserWarning)
raise RuntimeError("the end")
"""


def test_every_line_is_json_also_of_the_servers_and_at_the_end_of_a_process() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LINES], capture_output=True, text=True, timeout=120, check=False,
        env=environment(),
    )  # fmt: skip
    assert ran.returncode == 1
    said = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["message"].partition(":")[0] for line in said][:2] == [
        "Started parent process [1]", "Started server process [2]",
    ]  # fmt: skip
    assert said[2]["message"] == "Task x raised unexpected"
    assert "UserWarning" in said[3]["message"]
    assert (said[4]["message"], "the end" in said[4]["exception"]) == ("The process ends by an error.", True)
    assert len(said) == 5
    assert ran.stdout == ""


def environment() -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "duvo.settings", "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
