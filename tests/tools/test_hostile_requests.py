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
