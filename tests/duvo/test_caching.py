"""What is answered to one caller is kept by no cache in between."""

from __future__ import annotations

import pytest

from tests.conftest import House
from tests.live import Api

pytestmark = pytest.mark.smoke

CALL = "/v1/calls/0192d3a0-0000-7000-8000-000000000000"
PATHS = ["/v1/tools", "/v1/tools/x", "/v1/calls", "/v1/connections", "/v1/none", CALL, f"{CALL}/events"]


@pytest.mark.parametrize("who", ["nobody", "assignment", "admin"])
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_of_the_api_belongs_to_its_caller(api: Api, acme: House, path: str, who: str) -> None:
    tokens = {"nobody": None, "assignment": acme.token(), "admin": acme.member_token(acme.admin)}
    answer = api.as_(tokens[who]).get(path)
    assert answer.headers["cache-control"] == "no-store", answer.status_code
    assert "Authorization" in answer.headers["vary"], answer.status_code


def test_what_everybody_may_have_may_be_kept(api: Api) -> None:
    assert "public" in api.get("/v1/oauth/mcp/client.json").headers["cache-control"]
