"""The API against its own OpenAPI document: valid, complete, and true for whatever a program may send."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from schemathesis import Case

from tests.conftest import House
from tests.live import Api
from tests.servers.fixtures import StartServer
from tests.tools.api.test_rest_isolation import PUBLIC, routes

EXAMPLES = 12  # of each operation and token, besides the systematic ones


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.get("/v1/schema")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    return dict(answer.json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]


def test_the_document_is_valid_and_names_every_route(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    assert document["openapi"].startswith("3.1")
    assert len(document["paths"]) == len(routes() - PUBLIC)
    assert "nullable" not in str(document)  # a word of OpenAPI 3.0


def test_every_operation_says_what_it_does_and_names_its_problems(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        place = f"{method} {path}"
        assert operation["description"], place
        assert "401" in operation["responses"], place
        problems = {status: each for status, each in operation["responses"].items() if status >= "400"}
        assert all(list(each["content"]) == ["application/problem+json"] for each in problems.values()), place
        pages = any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))
        assert ("404" in problems) == ("{" in path or pages), place  # a row or a cursor
        assert ("422" in problems) == ("requestBody" in operation), place


# Made here and not fetched: each operation becomes a test of its own.
described = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True))
# The form knows more than a schema can say: names that are taken, hosts that do not resolve.
accepted = described.config.checks.positive_data_acceptance
accepted.expected_statuses = [*accepted.expected_statuses, "422"]


@pytest.fixture(params=["assignment", "admin"])
def caller(request: pytest.FixtureRequest, api: Api, acme: House, mcp_server: StartServer, probed: Any) -> Api:
    """One of the API's callers, and a connection whose tools there are."""
    probed(acme.connection("Orders", mcp_server("modern").url))
    return api.as_(acme.token() if request.param == "assignment" else acme.member_token(acme.admin))


@described.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_the_api_keeps_what_its_document_says(case: Case, caller: Api) -> None:
    headers = {"Authorization": f"Bearer {caller.token}"}
    case.call_and_validate(base_url=caller.base, headers=headers)


CHANGE = described["/v1/connections/{id}"]["PATCH"]


@hypothesis.settings(
    max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(case=CHANGE.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE) | CHANGE.as_strategy())
def test_no_change_of_a_connection_is_too_strange(case: Case, api: Api, acme: House) -> None:
    admin = acme.member_token(acme.admin)
    connection = acme.tenant.connections.first() or acme.connection()
    case.path_parameters = {"id": str(connection.pk)}
    case.query, case.cookies = {}, {}
    response = case.call(base_url=api.base, headers={"Authorization": f"Bearer {admin}"})
    known = "Authorization" in response.request.headers  # leaving it out is one of the strange things
    assert response.status_code in ({200, 400, 412, 415, 422} if known else {401}), response.text
    CHANGE.validate_response(response)


@pytest.mark.parametrize("caller", ["assignment", "admin"], indirect=True)
def test_what_succeeds_looks_as_described(caller: Api, acme: House, request: pytest.FixtureRequest) -> None:
    connection = acme.tenant.connections.get()
    body = {"name": "Stock", "server_url": connection.server_url}
    asked: list[tuple[str, str, dict[str, str], Any]] = [
        ("GET", "/v1/connections", {}, None),
        ("GET", "/v1/connections/{id}", {"id": str(connection.pk)}, None),
    ]
    if request.node.callspec.params["caller"] == "assignment":
        call = {"arguments": {"text": "x"}}
        done = caller.call("orders__echo", call["arguments"]).json()["id"]
        asked += [
            ("GET", "/v1/tools", {}, None),
            ("GET", "/v1/tools/{name}", {"name": "orders__echo"}, None),
            ("POST", "/v1/tools/{name}/call", {"name": "orders__echo"}, call),
            ("POST", "/v1/tools/{name}/call", {"name": "orders__fail"}, {}),
            ("GET", "/v1/calls/{id}", {"id": done}, None),
        ]
    else:
        asked += [
            ("POST", "/v1/connections", {}, body),
            ("PATCH", "/v1/connections/{id}", {"id": str(connection.pk)}, {"enabled": False}),
            ("POST", "/v1/connections/{id}/probe", {"id": str(connection.pk)}, None),
            ("DELETE", "/v1/connections/{id}", {"id": str(connection.pk)}, None),
        ]
    for method, route, names, json in asked:
        answer = caller.request(method, route.format(**names), json=json)
        assert answer.status_code < 300, answer.text
        described[route][method].validate_response(answer)
