"""What a check finds out of a sign-in whose token the server refuses, and how often a person is asked to try again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from oauth.models import Registration, SignIn
from oauth.protocol import choices
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_refreshing import called, ready
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


def token_requests(scene: Scene) -> int:
    return len(scene.auth.token_requests)


@pytest.mark.parametrize("by", ["checks", "calls"])
def test_a_server_that_takes_no_token_does_not_have_the_provider_asked_without_end(
    scene: StartScene, api: Api, by: str
) -> None:
    scene = ready(scene())
    before, rules = token_requests(scene), list(scene.server.rules)
    scene.server.behave(kinds.answers(401, www_authenticate='Bearer error="invalid_token"'))

    def ask() -> None:
        if by == "checks":
            assert scene.probe().outcome == "failed"
        else:
            assert called(scene, api).json()["code"] == "upstream_unauthorized"
        assert scene.state == ("refused", "token_refused")

    for _ in range(4):
        ask()
    assert token_requests(scene) - before == 1
    a_while_ago = timezone.now() - timedelta(seconds=90)
    SignIn.objects.update(obtained_at=a_while_ago, refused_at=a_while_ago)
    for _ in range(2):
        ask()
    assert token_requests(scene) - before == 2, "once more after a minute"
    scene.server.behave(*rules)
    assert scene.probe().outcome == "passed"
    assert scene.state == ("ready", "")


def test_the_pauses_double_up_to_ten_minutes() -> None:
    refused_since = obtained = timezone.now()
    pauses = []
    while len(pauses) < 7:
        pause = next(second for second in range(2_000) if choices.may_replace(
            obtained + timedelta(seconds=second), obtained, refused_since
        ))  # fmt: skip
        pauses.append(pause)
        obtained += timedelta(seconds=pause)
    assert pauses == [60, 60, 120, 240, 480, 600, 600]
