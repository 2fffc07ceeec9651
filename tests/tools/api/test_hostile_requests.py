"""What a program may send by mistake or on purpose is answered as its fault, not ours."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tests.conftest import House
from tests.live import Api

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("name", ["a%00b", "%ff", "a%0ab", "%2e%2e"])
def test_a_name_that_no_tool_can_have_is_not_found(api: Api, acme: House, name: str) -> None:
    api = api.as_(acme.token())
    assert api.get(f"/v1/tools/{name}").status_code == 404
    assert api.call(name).status_code == 404


@pytest.mark.parametrize("position", ["a\0b", "no moment", "9999-99-99"])
@pytest.mark.parametrize("path", ["/v1/tools", "/v1/connections"])
def test_a_cursor_that_was_made_up_is_no_failure_of_ours(api: Api, acme: House, path: str, position: str) -> None:
    acme.connection()
    cursor = b64encode(f"p={position}".encode()).decode()
    answer = api.as_(acme.token()).get(path, params={"cursor": cursor})
    assert answer.status_code in {200, 404}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b'{"name": NaN}', 400, "malformed"),
        (b'{"name": 1e999}', 400, "malformed"),
        (rb'{"name": "\ud800"}', 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b'{"headers": ' * 10_000 + b"1" + b"}" * 10_000, 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'{"name": "' + b"x" * 6 * 1024 * 1024 + b'"}', 413, "too_large"),
    ],
    ids=["cut", "nan", "infinity", "surrogate", "no text", "deep", "list", "large"],
)
def test_a_body_that_is_no_connection_is_a_problem(api: Api, acme: House, body: bytes, status: int, code: str) -> None:
    api = api.as_(acme.member_token(acme.admin))
    answer = api.request("POST", "/v1/connections", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert not acme.tenant.connections.exists()
