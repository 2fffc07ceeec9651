"""Every route of the API, asked by everybody: a stranger learns of a row exactly what they learn of none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from tests.conftest import House
from tools.calls import contents
from tools.models import AccessToken, Call, McpSession, StoredContent, Tool

pytestmark = pytest.mark.django_db

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
# For browsers and authorization servers, not for tokens; tests/oauth/ tells who may do what there.
OAUTH = {"v1/oauth/mcp/callback", "v1/oauth/mcp/client.json", "v1/oauth/mcp/keys/<uuid:connection_id>.json"}
PUBLIC = {"v1/schema", "v1/docs", *OAUTH}


@dataclass
class World:
    """What acme owns, and the tokens of everybody who may ask for it."""

    connection: str
    tool: str
    call: str
    assignment: str
    token: str
    tokens: dict[str, str | None]


@pytest.fixture
def world(acme: House, rival: House) -> World:
    connection = acme.connection("Orders", reachability_state="unsupported_transport", reachability_reason="x")
    definition = {"name": "echo", "description": "Returns its text.", "inputSchema": SCHEMA}
    tool = Tool.objects.create(
        connection=connection, name="echo", public_name="orders__echo", definition=definition, digest="d" * 64,
        approved_definition=definition, approved_digest="d" * 64, approved_at=timezone.now(),
    )  # fmt: skip
    owner, teammate = acme.assignment("Owner"), acme.assignment("Teammate")
    call = Call.objects.create(
        tenant=acme.tenant, assignment=owner, connection=connection, tool=tool, tool_name=tool.public_name,
        state="failed", error_code="x", finished_at=timezone.now(), sealed_arguments="",
    )  # fmt: skip
    piece = contents.Piece(1, "text/plain", b"much", "d" * 64)
    StoredContent.objects.bulk_create(contents.sealed(call.pk, call.tenant_id, [piece]))
    now = timezone.now()
    session = McpSession(
        tenant=acme.tenant, assignment=owner, connection=connection, name=tool.public_name, revision=1,
        server_key=f"{connection.pk}/1", opened_at=now, used_at=now, idle_until=now,
    )  # fmt: skip
    kept = {"id": "x", "version": "2025-11-25", "cookies": {}, "url": "https://localhost", "headers": []}
    session.sealed_session = session.seal(kept)
    session.save()
    tokens: dict[str, str | None] = {
        "owner": acme.token(owner),
        "teammate": acme.token(teammate),
        "admin": acme.member_token(acme.admin),
        "member": acme.member_token(acme.member),
        "auditor": acme.member_token(acme.auditor),
        "rival": rival.token(),
        "rival admin": rival.member_token(rival.admin),
        "garbage": "duvo_" + "x" * 43,
        "anonymous": None,
    }
    token = owner.access_tokens.get()
    return World(str(connection.pk), tool.public_name, str(call.pk), str(owner.pk), str(token.pk), tokens)


# A route and method, and the status for each who asks; the rest of the table follows from `EVERYBODY_ELSE`.
TABLE: dict[tuple[str, str], dict[str, int]] = {
    ("GET", "v1/tools"): dict.fromkeys(
        ["owner", "teammate", "admin", "member", "auditor", "rival", "rival admin"], 200
    ),
    ("GET", "v1/tools/<slug:name>"): {
        **dict.fromkeys(["owner", "teammate", "admin", "member", "auditor"], 200),
        **dict.fromkeys(["rival", "rival admin"], 404),
    },
    ("POST", "v1/tools/<slug:name>/call"): {"owner": 503, "teammate": 503, "rival": 404},
    ("GET", "v1/calls"): {"owner": 200, "teammate": 200, "rival": 200},
    ("POST", "v1/calls/<uuid:id>/cancel"): {"owner": 200, "teammate": 404, "rival": 404},
    ("POST", "v1/calls/<uuid:id>/input"): {"owner": 409, "teammate": 404, "rival": 404},
    ("GET", "v1/calls/<uuid:id>/events"): {"owner": 200, "teammate": 404, "rival": 404},
    ("GET", "v1/calls/<uuid:id>"): {"owner": 200, "teammate": 404, "rival": 404},
    ("GET", "v1/calls/<uuid:id>/contents/<int:number>"): {"owner": 200, "teammate": 404, "rival": 404},
    ("GET", "v1/sessions"): {"owner": 200, "teammate": 200, "rival": 200},
    ("DELETE", "v1/sessions"): {"owner": 204, "teammate": 204, "rival": 204},
    ("DELETE", "v1/sessions/<path:name>"): {"owner": 204, "teammate": 404, "rival": 404},
    ("GET", "v1/me"): dict.fromkeys(["owner", "teammate", "admin", "member", "auditor", "rival", "rival admin"], 200),
    ("GET", "v1/audit-events"): dict.fromkeys(["admin", "auditor", "rival admin"], 200),
    ("GET", "v1/usage"): dict.fromkeys(["owner", "teammate", "admin", "auditor", "rival", "rival admin"], 200),
    ("POST", "v1/connections/<uuid:id>/sign-in"): {
        **dict.fromkeys(["owner", "teammate", "admin", "member", "auditor"], 409),
        **dict.fromkeys(["rival", "rival admin"], 404),
    },
    ("GET", "v1/assignments"): dict.fromkeys(["admin", "member", "auditor", "rival admin"], 200),
    ("POST", "v1/assignments"): {"admin": 422, "rival admin": 422},
    ("GET", "v1/assignments/<uuid:id>"): {**dict.fromkeys(["admin", "member", "auditor"], 200), "rival admin": 404},
    ("PATCH", "v1/assignments/<uuid:id>"): {"admin": 422, "rival admin": 404},
    ("DELETE", "v1/assignments/<uuid:id>"): {"admin": 204, "rival admin": 404},
    ("GET", "v1/assignments/<uuid:id>/tokens"): {
        **dict.fromkeys(["admin", "member", "auditor"], 200),
        "rival admin": 404,
    },
    ("POST", "v1/assignments/<uuid:id>/tokens"): {"admin": 201, "rival admin": 404},
    ("DELETE", "v1/tokens/<uuid:id>"): {"admin": 204, "rival admin": 404},
    ("GET", "v1/quotas"): dict.fromkeys(
        ["owner", "teammate", "admin", "member", "auditor", "rival", "rival admin"], 200
    ),
    ("GET", "v1/connections"): dict.fromkeys(
        ["owner", "teammate", "admin", "member", "auditor", "rival", "rival admin"], 200
    ),
    ("POST", "v1/connections"): {"admin": 422, "rival admin": 422},
    ("GET", "v1/connections/<uuid:id>"): {
        **dict.fromkeys(["owner", "teammate", "admin", "member", "auditor"], 200),
        **dict.fromkeys(["rival", "rival admin"], 404),
    },
    ("PATCH", "v1/connections/<uuid:id>"): {"admin": 422, "rival admin": 404},
    ("DELETE", "v1/connections/<uuid:id>"): {"admin": 204, "rival admin": 404},
    ("POST", "v1/connections/<uuid:id>/probe"): {"admin": 202, "rival admin": 404},
}
EVERYBODY = ["owner", "teammate", "admin", "member", "auditor", "rival", "rival admin", "garbage", "anonymous"]
EVERYBODY_ELSE = {"anonymous": 401, "garbage": 401}
FORBIDDEN = 403
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "v1/tools/<slug:name>/call"): {"arguments": {"text": "hi"}},
    ("POST", "v1/calls/<uuid:id>/input"): {"responses": {}},
    ("POST", "v1/assignments"): {"name": ""},
    ("PATCH", "v1/assignments/<uuid:id>"): {"name": ""},
    ("POST", "v1/assignments/<uuid:id>/tokens"): {"label": "x"},
    ("POST", "v1/connections"): {"name": "", "server_url": "http://localhost"},
    ("PATCH", "v1/connections/<uuid:id>"): {"server_url": "http://localhost"},
}


def routes() -> set[str]:
    """Every address under /v1/."""

    def walk(patterns: Any, prefix: str) -> Any:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern):
                yield route

    return {route for route in walk(get_resolver().url_patterns, "") if route.startswith("v1/")}


def ask(method: str, route: str, token: str | None, ids: dict[str, str]) -> HttpResponse:
    path = "/" + re.sub(r"<\w+:(\w+)>", lambda match: ids[match[1]], route)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = BODIES.get((method, route))
    return Client(raise_request_exception=False).generic(
        method, path, json.dumps(body) if body is not None else "", content_type="application/json", headers=headers
    )


def ids_of(world: World, route: str) -> dict[str, str]:
    ids = {"calls": world.call, "assignments": world.assignment, "tokens": world.token}
    return {"name": world.tool, "id": ids.get(route.split("/")[1], world.connection), "number": "1"}


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("place", TABLE, ids=lambda place: f"{place[0]} {place[1]}")
def test_everybody_gets_what_the_table_says(
    world: World, who: str, place: tuple[str, str], transactional_db: None
) -> None:
    expected = TABLE[place].get(who, EVERYBODY_ELSE.get(who, FORBIDDEN))
    answer = ask(*place, world.tokens[who], ids_of(world, place[1]))
    assert answer.status_code == expected, answer.content
    if expected >= 400:
        problem = json.loads(answer.content)
        assert answer["Content-Type"].startswith("application/problem+json")
        assert problem["status"] == expected
        assert problem["code"]


STRANGERS = [(who, *place) for place, answers in TABLE.items() for who, status in answers.items() if status == 404]


@pytest.mark.parametrize(("who", "method", "route"), STRANGERS)
def test_a_strangers_row_is_like_a_row_that_never_was(
    world: World, who: str, method: str, route: str, transactional_db: None
) -> None:
    ids = ids_of(world, route)
    nothing = {"id": str(uuid4()), "name": "nobody__nothing", "number": "2"}
    theirs, never = (told(ask(method, route, world.tokens[who], which), which) for which in (ids, nothing))
    assert theirs == never


def told(answer: HttpResponse, ids: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """What an answer says, without what differs between any two: ids asked for and the request id."""
    text = re.sub(r'"request_id": ?"[^"]*"', "", answer.content.decode())
    text = text.replace(settings.PUBLIC_URL, "")  # it has digits, as an id may be one
    for value in ids.values():
        text = text.replace(value, "ID")
    headers = {name: value for name, value in answer.items() if name not in {"X-Request-ID", "Content-Length"}}
    return answer.status_code, text, headers


def test_no_route_is_missing_from_the_table() -> None:
    assert routes() == {route for _, route in TABLE} | PUBLIC


def test_a_person_lists_the_tools_of_their_organization_only(world: World, transactional_db: None) -> None:
    ours, theirs = (
        json.loads(ask("GET", "v1/tools", world.tokens[who], {}).content) for who in ("member", "rival admin")
    )
    assert [tool["name"] for tool in ours["results"]] == [world.tool]
    assert theirs["results"] == []


@pytest.mark.parametrize("route", ["v1/tools", "v1/calls", "v1/connections"])
def test_a_list_shows_only_the_callers_own_rows(world: World, route: str, transactional_db: None) -> None:
    ours, theirs = (json.loads(ask("GET", route, world.tokens[who], {}).content) for who in ("owner", "rival"))
    assert len(ours["results"]) == 1
    assert theirs["results"] == []


def test_a_list_of_assignments_shows_only_those_of_the_organization(world: World, transactional_db: None) -> None:
    ours, theirs = (
        json.loads(ask("GET", "v1/assignments", world.tokens[who], {}).content)["results"]
        for who in ("member", "rival admin")
    )
    assert [row["name"] for row in ours] == ["Owner", "Teammate"]
    assert [row["name"] for row in theirs] == ["Nightly orders"], "what the rival's own token made"


def test_a_rivals_admin_changes_nothing_of_ours(
    world: World, acme: House, transactional_db: None, signed_in: Callable[..., Client]
) -> None:
    def rows() -> list[Any]:
        mine = acme.tenant.connections, acme.tenant.assignments, AccessToken.objects.of(acme.tenant.pk).order_by("pk")
        return [list(those.values()) for those in mine]

    ask("GET", "v1/me", world.tokens["owner"], {})  # whose use is noted
    before = rows()
    for method, route in TABLE:
        if method != "GET" and re.match("v1/(connections|assignments|tokens)/", route):
            ask(method, route, world.tokens["rival admin"], ids_of(world, route))
    assert rows() == before
    assert not acme.tenant.audit_events.exists()
