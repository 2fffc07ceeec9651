"""What a check finds out of a sign-in whose token the server refuses, and how often a person is asked to try again."""

from __future__ import annotations

from oauth.models import Registration
from oauth.protocol import choices
from tests.oauth.conftest import Scene, StartScene
from tests.servers import kinds
from tests.servers.authorization.protection import protect
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.running import Rule


def before_the_gate(scene: Scene, rule: Rule) -> None:
    scene.server.rules.insert(0, rule)


def test_a_check_finds_that_the_server_trusts_another_sign_in_server(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    scene = scene(refresh=False)
    scene.sign_in()
    another = authorization_server()
    protect(scene.server, another)
    scene.probe()
    assert scene.state == ("refused", "issuer_changed")
    assert scene.connection.next_step.startswith("Press Sign in")
    former = scene.auth
    scene.auth = another
    scene.sign_in()
    scene.probe()
    assert scene.state == ("ready", "")
    assert [len(server.registrations) for server in (former, another)] == [1, 1]
    assert {row.issuer for row in Registration.objects.all()} == {former.issuer, another.issuer}
    known = {registration.client_id for registration in Registration.objects.filter(issuer=former.issuer)}
    assert not any(asked["client_id"] in known for asked in another.authorizations)


def test_a_check_says_that_a_token_without_a_successor_was_refused(scene: StartScene) -> None:
    scene = scene(refresh=False)
    scene.sign_in()
    before_the_gate(scene, kinds.answers(401, www_authenticate="Bearer"))
    assert scene.probe().outcome == "failed"
    assert scene.state == ("refused", "token_refused")
    assert scene.connection.next_step.startswith("Press Sign in again")
    assert scene.connection.reachability_state == "reachable"
    scene.server.rules.pop(0)
    assert scene.probe().outcome == "passed"
    assert scene.state[0] in {"ready", "expiring"}


def test_a_permission_that_never_comes_is_asked_for_three_times_in_all(scene: StartScene) -> None:
    scene = scene()
    challenge = 'Bearer error="insufficient_scope", scope="admin"'
    scene.sign_in()
    before_the_gate(scene, kinds.only_on("tools/list", kinds.answers(403, www_authenticate=challenge)))
    for _ in range(choices.MOST_STEP_UPS):
        scene.probe()
        assert scene.state == ("refused", "insufficient_scope")
        assert scene.connection.next_step.startswith("Press Sign in")
        scene.sign_in()
    scene.probe()
    assert scene.state == ("refused", "scope_not_granted")
    assert "Sign in" not in scene.connection.next_step
    assert [asked.get("scope") for asked in scene.auth.authorizations] == [None, "admin", "admin"]
