"""The canary: a marker in every secret, a server that repeats what it was sent, and then everything there is to read.

Arguments and results may be read in one place only: the answers of the calling assignment.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import Client
from django.utils import timezone

from connections import egress
from connections.errors import DuvoError
from connections.models import FOR_PEOPLE, AuditFeed, Bulletin, Connection, Kind, User
from connections.notices import audit_feed
from connections.states import ReachabilityState, ToolsState
from tests import reading
from tests.conftest import House
from tests.live import Api
from tests.servers import kinds
from tests.servers.fixtures import StartReceiver, StartServer
from tests.servers.mail import MailServer
from tests.servers.running import Incoming, McpServer, Receive, Send
from tests.servers.toolbox import Result, furnished, schema, text
from tests.telling import send, tell
from tools import mcp_client
from tools.calls import offers
from tools.catalog import upstream
from tools.models import Assignment, Call
from tools.models.call_states import CallState

SECRETS = {kind: f"m4rk-{kind}-0123456789" for kind in ("api-key", "header", "extra-header")}
ARGUMENT, RESULT, FAILURE = "m4rk-argument-0123456789", "m4rk-result-0123456789", "m4rk-failure-0123456789"
METHODS: dict[str, dict[str, Any]] = {
    "Key": {"authorization": "api_key", "api_key": SECRETS["api-key"]},
    "Named key": {"authorization": "api_key", "api_key": SECRETS["api-key"], "api_key_header": "X-Key"},
    "Headers": {"authorization": "headers", "headers": {"X-Key": SECRETS["header"]}},
}


async def _refuses_and_repeats(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    """Answer 401 with every header of the request in the challenge, in another header and in the body."""
    sent = [value for value in request.headers.values() if "m4rk" in value]
    challenge = f'Bearer error="invalid_token", error_description="{" ".join(sent)}", scope="{" ".join(sent)}"'
    body = json.dumps({"error": sent, "body": request.body.decode()}).encode()
    return await kinds.respond(send, 401, body, www_authenticate=challenge, x_reason=" ".join(sent))


async def _fails_and_repeats(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    """Answer a JSON-RPC error whose message and data repeat the headers and the body."""
    seen = f"{request.headers} {request.body.decode()}"
    return await kinds.fault(send, 200, -32603, seen, id_=request.rpc_id, data={"seen": seen})


async def _talks_nonsense(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    """Answer with what is no JSON, and repeats headers and body."""
    return await kinds.respond(send, 200, f"{request.headers} {request.body.decode()}".encode())


async def _moves(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    """Redirect to an address that holds the headers."""
    sent = "".join(value.removeprefix("Bearer ") for value in request.headers.values() if "m4rk" in value)
    return await kinds.respond(send, 307, location=f"https://{sent}.example/?key={sent}")


HOSTILE = (_refuses_and_repeats, _fails_and_repeats, _talks_nonsense, _moves)


async def _report(_: dict[str, Any], __: Any) -> Result:
    return text(RESULT, structuredContent={"report": RESULT})


async def _fail(arguments: dict[str, Any], _: Any) -> Result:
    return text(f"{FAILURE} {arguments['text']}", isError=True)


@dataclass
class Estate:
    """A house full of secrets, used in every way, and what was learned of it meanwhile."""

    house: House
    calling: Assignment
    tokens: dict[str, str]
    calls: list[str]
    problems: list[str]
    errors: list[str]

    @property
    def secrets(self) -> list[str]:
        """What nobody may ever read."""
        ours = [settings.SECRET_KEY, *settings.SEAL_KEYS]
        return [*SECRETS.values(), *self.tokens.values(), *map(str, ours)]

    @property
    def markers(self) -> list[str]:
        """What nobody but the calling assignment may read, and what nobody may."""
        return [*self.secrets, ARGUMENT, RESULT, FAILURE]

    def leaks(self, said: str) -> list[str]:
        return [marker for marker in self.markers if marker in said]


@pytest.fixture
def estate(
    api: Api,
    acme: House,
    mcp_server: StartServer,
    probed: Callable[[Connection], Any],
    caplog: pytest.LogCaptureFixture,
    broker: redis.Redis,
) -> Estate:
    """Fill the house, probe and call with success, with an error of the tool and with every failure."""
    caplog.set_level(logging.DEBUG)
    calling, idle = acme.assignment("Calling"), acme.assignment("Idle")
    people = {role: acme.member_token(getattr(acme, role)) for role in ("admin", "member", "auditor")}
    tokens = {"calling": acme.token(calling), "idle": acme.token(idle), **people}
    found = Estate(acme, calling, tokens, [], [], [])
    for name, method in METHODS.items():
        _use(found, api, name, method, mcp_server, probed)
    return found


def _use(
    estate: Estate,
    api: Api,
    name: str,
    method: dict[str, Any],
    mcp_server: StartServer,
    probed: Callable[[Connection], Any],
) -> None:
    box = furnished()
    box.add("report", _report, input_schema=schema(text={"type": "string"}))
    box.add("refuse", _fail, input_schema=schema(text={"type": "string"}))
    server = mcp_server("modern", box)
    body = {"name": name, "server_url": server.url, "extra_headers": {"X-Team": SECRETS["extra-header"]}, **method}
    added = api.as_(estate.tokens["admin"]).post("/v1/connections", body)
    assert added.status_code == 201, added.text
    estate.problems.append(added.text)
    connection = Connection.objects.get(pk=added.json()["id"])
    assert probed(connection).outcome == "passed"

    caller, slug = api.as_(estate.tokens["calling"]), connection.slug
    for tool, state in (("echo", "succeeded"), ("report", "succeeded"), ("refuse", "failed")):
        answer = caller.call(f"{slug}__{tool}", {"text": ARGUMENT})
        assert (answer.status_code, answer.json()["state"]) == (200, state), answer.text
        estate.calls.append(answer.json()["id"])
    queued = caller.call(f"{slug}__echo", {"text": ARGUMENT}, headers={"Prefer": "respond-async"})
    assert queued.status_code == 202, queued.text
    estate.calls.append(queued.json()["id"])

    for rule in HOSTILE:
        server.behave(rule)
        offers.forget()
        refused = caller.call(f"{slug}__echo", {"text": ARGUMENT})
        assert refused.status_code >= 500, refused.text
        estate.problems.append(refused.text + str(refused.headers))
        estate.errors.append(_raised(connection))
        assert probed(connection).outcome != "passed"
    assert any(SECRETS["extra-header"] in str(request.headers) for request in server.requests), "nothing was sent"
    asked = api.as_(estate.tokens["admin"]).post(f"/v1/connections/{connection.pk}/probe")
    assert asked.status_code == 202, asked.text


def _raised(connection: Connection) -> str:
    """What a traceback would show of a failing call."""
    server = upstream.server_for(connection)
    try:
        egress.run(mcp_client.call_tool(server, "echo", {"text": ARGUMENT}))
    except DuvoError as error:
        return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(server)
    pytest.fail("a hostile server was believed")


def test_no_page_of_the_admin_shows_a_marker(
    estate: Estate, reviewer: User, superuser: User, signed_in: Callable[[User | None], Client]
) -> None:
    house, shown = estate.house, 0
    for user in (house.admin, house.member, house.auditor, reviewer, superuser):
        client = signed_in(user)
        for path in reading.admin_pages():
            answer = client.get(path, follow=True)
            assert estate.leaks(answer.content.decode() + str(answer.headers)) == [], f"{user} at {path}"
            shown += answer.status_code == 200
    assert shown > 200


def test_the_api_shows_a_call_only_to_the_assignment_that_made_it(estate: Estate, api: Api) -> None:
    ids = list(Connection.objects.values_list("pk", flat=True))
    names = [f"{slug}__report" for slug in Connection.objects.values_list("slug", flat=True)]
    paths = ["/v1/schema", "/v1/docs", "/v1/tools", *(f"/v1/tools/{name}" for name in names)]
    paths += ["/v1/connections", *(f"/v1/connections/{pk}" for pk in ids)]
    for pk in Assignment.objects.values_list("pk", flat=True):
        paths += ["/v1/assignments", f"/v1/assignments/{pk}", f"/v1/assignments/{pk}/tokens", "/v1/audit-events"]
    calls = [f"/v1/calls/{pk}" for pk in estate.calls]
    for name, token in estate.tokens.items():
        for path in paths + (calls if name != "calling" else []):
            answer = api.as_(token).get(path)
            assert estate.leaks(answer.text + str(answer.headers)) == [], f"{name} at {path}"
    own = [api.as_(estate.tokens["calling"]).get(path).text for path in calls]
    assert any(RESULT in answer for answer in own)
    assert not [secret for secret in estate.secrets if secret in "".join(own)]
    assert [estate.leaks(problem) for problem in estate.problems] == [[] for _ in estate.problems]


def test_nothing_that_people_are_told_holds_a_marker(
    estate: Estate, api: Api, mail_server: MailServer, webhook_receiver: StartReceiver, mcp_server: StartServer
) -> None:
    """One mail and one message of each kind, and the whole audit trail: what was done with every secret."""
    tenant, receiver = estate.house.tenant, webhook_receiver()
    tenant.webhook_url = receiver.url
    tenant.save()
    secret = tenant.make_webhook_secret()
    asking, one, *_ = rows = list(Connection.objects.order_by("pk"))
    for state in (CallState.AWAITING_APPROVAL, CallState.INPUT_REQUIRED, CallState.QUEUED):  # the last for a login
        call = Call(tenant=tenant, connection=asking, assignment=estate.calling, tool_name="orders__echo", state=state)
        call.sealed_arguments = call.seal({"text": ARGUMENT})
        call.asked_in, call.sealed_question = "result", call.seal({"requests": {"x": {"message": ARGUMENT}}})
        call.waits_until = timezone.now() + timedelta(hours=1)
        call.save()
    one.set_tools_state(ToolsState.TO_REVIEW, "tools_to_review", FAILURE)
    for row in rows:
        row.set_reachability(ReachabilityState.UNREACHABLE, "rpc_error", FAILURE)
        Connection.objects.filter(pk=row.pk).update(probe_failures=3)
    tell(minutes=10)
    for row in rows:
        row.set_reachability(ReachabilityState.REACHABLE, "", FAILURE)
    tell(minutes=10)
    kinds_told = {message["type"] for message in receiver.messages}
    assert kinds_told == {kind.value for kind in FOR_PEOPLE} - {Kind.SIGN_IN.value}
    assert len(mail_server.taken) == len(kinds_told)
    audit_feed.start(tenant)
    AuditFeed.objects.update(since=tenant.created_at)
    audit_feed.gather(soon := timezone.now() + timedelta(minutes=1))
    while Bulletin.objects.exclude(deliver_at=None).update(deliver_at=timezone.now()):
        send()
        audit_feed.gather(soon)
    pushed = [event["id"] for message in receiver.messages for event in message["data"].get("events", ())]
    assert sorted(pushed) == sorted(map(str, tenant.audit_events.values_list("pk", flat=True)))
    assert receiver.verified(secret) == [True] * len(receiver.requests)
    said = [str(message) for _, message in mail_server.taken]
    said += [f"{request.headers} {request.body.decode()}" for request in receiver.requests]
    assert [estate.leaks(text) + [secret] * (secret in text) for text in said] == [[] for _ in said]


def test_nothing_that_is_written_down_holds_a_marker(
    estate: Estate, api: Api, broker: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The log at its most talkative, the broker's messages, every column, every error and what a row says of itself."""
    waiting = [message for queue in reading.QUEUES for message in reading.messages(broker, queue)]
    assert waiting
    for message, arguments in waiting:
        assert estate.leaks(message) == []
        assert set(arguments) <= {"call_id", "connection_id"}, "a message holds ids only"
    assert [name for name, content in reading.tables() if estate.leaks(content)] == []
    assert len(estate.errors) == len(METHODS) * len(HOSTILE)
    assert [estate.leaks(error) for error in estate.errors] == [[] for _ in estate.errors]
    assert [row for row in reading.rows() if estate.leaks(row)] == []
    api.as_(estate.tokens["calling"]).get("/v1/nothing")  # is logged, which shows that lines are caught
    assert [line for line in reading.log_lines(caplog) if estate.leaks(line)] == []
