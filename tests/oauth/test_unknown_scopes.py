"""A permission that the MCP server asks for and the provider does not know is no dead end."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from oauth.models import Registration, SignIn
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_feedback import before_the_gate
from tests.oauth.test_sign_in import CALLBACK
from tests.servers import kinds

BOGUS = 'Bearer error="insufficient_scope", scope="bogus"'


def refused_scope(scene: Scene) -> int:
    """Press Sign in again, have the provider refuse the scopes as often as we go there, and return how often."""
    url, visits = scene.depart(again="1"), 0
    while "scope=" in url and "bogus" in url:
        visits += 1
        state = parse_qs(urlsplit(url).query)["state"][0]
        iss = quote(scene.auth.issuer, safe="")
        answer = scene.client.get(f"/v1/oauth/mcp/callback?state={state}&error=invalid_scope&iss={iss}")
        url = answer.get("Location", "")
    return visits


@pytest.mark.parametrize("client", ["dcr", "preregistered"])
def test_a_permission_that_the_provider_does_not_know_is_asked_for_no_more(scene: StartScene, client: str) -> None:
    scene = scene(dcr=client == "dcr", connection={} if client == "dcr" else {"oauth_client_id": "c1"})
    scene.auth.add_client("c1", redirect_uri=CALLBACK)
    scene.sign_in()
    before_the_gate(scene, kinds.only_on("tools/list", kinds.answers(403, www_authenticate=BOGUS)))
    scene.probe()
    assert scene.state == ("refused", "insufficient_scope")
    visits = [refused_scope(scene) for _ in range(4)]
    assert visits == ([2, 0, 0, 0] if client == "dcr" else [1, 1, 0, 0])
    assert scene.state == ("refused", "scope_not_granted")
    assert Registration.objects.filter(kind="dcr").count() <= 3
    assert scene.sign_in(again="1").status_code == 302
    scene.server.rules.pop(0)
    assert scene.probe().outcome == "passed"


def test_scopes_that_an_admin_entered_count_as_no_step_up(scene: StartScene) -> None:
    scene = scene(connection={"oauth_scopes": "bogus"})
    scene.sign_in()
    SignIn.objects.update(missing_scopes="")
    assert refused_scope(scene) == 2
    assert SignIn.objects.get().step_ups == 0
