"""No refusal of the API says again what was sent: whatever stands in a wrong place may be a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import QueryDict
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers

from connections.forms import ConnectionForm
from tests.conftest import House
from tests.live import Api
from tests.servers.fixtures import StartServer
from tools.api import assignment_serializers, connection_serializers, usage
from tools.api.serializers import ChoiceField, KnownMembers

MARK = "m4rk-0123456789abcdef"
MISPLACED = [MARK, f"Bearer {MARK}", {"type": "bearer", "token": MARK}, [MARK], [{"token": MARK}], {"a": [MARK]}]
ECHOES = re.compile(r"\{(?!choices|max_|min_|input_type|datatype|num|format|code_point|timezone)\w+|%\(value\)")

DOCUMENT = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
OPERATIONS = [
    (method.upper(), path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def members_of(schema: dict[str, Any]) -> list[str]:
    named = schema.get("$ref", "").rpartition("/")[2]
    return list((DOCUMENT["components"]["schemas"][named] if named else schema).get("properties", {}))


BODIES = [
    (method, path, member)
    for method, path, operation in OPERATIONS
    if "requestBody" in operation
    for member in members_of(operation["requestBody"]["content"]["application/json"]["schema"])
]
QUERIES = [
    (path, parameter["name"])
    for method, path, operation in OPERATIONS
    if method == "GET"
    for parameter in operation.get("parameters", [])
    if parameter["in"] == "query"
]


@pytest.fixture
def place(api: Api, acme: House, mcp_server: StartServer, probed: Any) -> Any:
    """The API for who may ask for this path, and the path with rows of acme in it."""
    connection = acme.connection("Orders", mcp_server("modern").url)
    probed(connection)
    assignment = acme.assignment()
    tokens = acme.token(assignment), acme.member_token(acme.admin)

    def find(path: str) -> tuple[Api, str]:
        admins = any(f"/{word}" in path for word in ("connections", "assignments", "members", "audit", "quotas"))
        row = assignment.pk if "/assignments/" in path else connection.pk
        named = path.replace("{name}", "orders__echo").replace("{id}", str(row))
        return api.as_(tokens[admins]), re.sub(r"\{\w+\}", str(assignment.pk), named)

    return find


def test_no_member_of_a_body_is_said_again_wherever_a_secret_stands_in_it(place: Any) -> None:
    asked = 0
    for method, path, member in BODIES:
        caller, address = place(path)
        others = {"name": "x" * 81} if method == "POST" and member != "name" else {}  # so that nothing is added
        for value in MISPLACED:
            answer = caller.request(method, address, json={**others, member: value})
            assert answer.status_code < 400 or MARK not in answer.text, (method, path, member, answer.text)
            asked += 1
    assert asked > 300


def test_no_query_parameter_is_said_again(place: Any) -> None:
    for path, name in QUERIES:
        caller, address = place(path)
        answer = caller.get(address, params={name: MARK})
        assert answer.status_code < 400 or MARK not in answer.text, (path, name, answer.text)
    assert len(QUERIES) > 10


@pytest.mark.parametrize("value", ["bearer", "API_KEY", "", 7, None, *MISPLACED], ids=repr)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(api: Api, acme: House, value: Any) -> None:
    admin = api.as_(acme.member_token(acme.admin))
    body = {"name": "Orders", "server_url": "http://127.0.0.1:9/mcp", "authorization": value}
    answer = admin.post("/v1/connections", body)
    fault = next(each for each in answer.json()["errors"] if each["pointer"] == "/authorization")
    assert answer.status_code == 422
    if value is not None:
        assert fault["detail"] == "This is none of the choices: none, api_key, headers, oauth."
    assert not acme.tenant.connections.exists()


def kinds(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("tools.api"):
            yield kind
        yield from kinds(kind)


def fields_of(field: Any) -> Iterator[Any]:
    yield field
    for child in [*getattr(field, "fields", {}).values(), *filter(None, [getattr(field, "child", None)])]:
        yield from fields_of(child)


SERIALIZERS = sorted(set(kinds(serializers.BaseSerializer)) - {KnownMembers}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", SERIALIZERS, ids=lambda kind: kind.__name__)
def test_no_field_of_a_serializer_has_words_that_say_a_value_again(kind: type[Any]) -> None:
    assert {assignment_serializers.__name__, connection_serializers.__name__, usage.__name__} <= {
        one.__module__ for one in SERIALIZERS
    }
    only_shown = not issubclass(kind, KnownMembers)
    for field in fields_of(kind()):
        if isinstance(field, serializers.ChoiceField) and not issubclass(kind, serializers.ModelSerializer):
            assert isinstance(field, ChoiceField), field
        if only_shown or field.read_only:
            continue
        for words in [*field.error_messages.values(), *(getattr(one, "message", "") for one in field.validators)]:
            assert not ECHOES.search(str(words)), (field, words)


@pytest.mark.parametrize("name", ["authorization", "sharing", "oauth_grant", "oauth_token_auth", "era_choice"])
def test_the_form_does_not_say_it_again_either(acme: House, name: str) -> None:
    data = QueryDict(mutable=True)
    data.update({"name": "Orders", "server_url": "https://8.8.8.8/mcp", "authorization": "oauth", name: MARK})
    form = ConnectionForm(data, tenant=acme.tenant, user=acme.admin)
    assert form.errors[name] == ["This is none of the choices."] if name != "authorization" else form.errors[name]
    assert MARK not in str(form.errors)
