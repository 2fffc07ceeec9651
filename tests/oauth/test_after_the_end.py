"""What a person presses, or a message brings, after the end: nothing more is sent to acme's servers."""

from __future__ import annotations

import pytest
from django.test import Client

from connections.models import Connection, Credential
from oauth import revoking
from oauth.models import SignIn
from tests.conftest import ActIn
from tests.oauth.conftest import Scene, StartScene

KEY = "canary-9f2d71c4e0"


def heard(scene: Scene) -> int:
    """How many requests the MCP server and the sign-in server have had."""
    return len(scene.server.requests) + len(scene.auth.requests)


@pytest.mark.parametrize("end", ["disabled", "suspended"])
def test_a_look_at_how_to_sign_in_asks_nobody_after_the_end(scene: StartScene, act_in: ActIn, end: str) -> None:
    scene = scene()
    credential = Credential(connection=scene.connection, kind=Credential.Kind.EXTRA_HEADERS)
    credential.set({"X-Key": KEY}, by=scene.house.admin)
    scene.press("check-sign-in")
    before = heard(scene)
    assert any(KEY in str(request.headers) for request in scene.server.requests), "it is asked while all stands"
    if end == "disabled":
        Connection.objects.update(enabled=False)
        assert scene.press("check-sign-in").status_code == 302
        assert end in " ".join(scene.said())
    else:
        scene.house.tenant.suspend("Unpaid.")
        for client in (scene.client, act_in(scene.house.tenant)):  # both only read now
            assert scene.press("check-sign-in", client).status_code == 403
    assert heard(scene) == before


def test_who_signs_out_of_a_suspended_organization_is_forgotten_here_and_nothing_is_sent(
    scene: StartScene,
) -> None:
    scene = scene(connection={"sharing": "personal"})
    scene.sign_in()
    scene.house.tenant.suspend("Unpaid.")
    before = heard(scene)
    member = Client()
    member.force_login(scene.house.member)
    SignIn.objects.update(owner=scene.house.member, person=scene.house.member)
    assert scene.press("sign-out", member).status_code == 302
    assert heard(scene) == before
    assert not SignIn.objects.exists()


def test_tokens_of_who_left_a_suspended_organization_wait(scene: StartScene) -> None:
    scene = scene(connection={"sharing": "personal"})
    scene.sign_in()
    scene.house.membership(scene.house.admin).delete()
    scene.house.tenant.suspend("Unpaid.")
    before = heard(scene)
    revoking.forget_abandoned(scene.connection.pk)  # the message was on its way
    assert (heard(scene), SignIn.objects.count()) == (before, 1)
    scene.house.tenant.resume()
    revoking.forget_abandoned(scene.connection.pk)
    assert not SignIn.objects.exists()
    assert len(scene.auth.revoked) == 1


def test_a_suspended_organization_that_is_deleted_sends_nothing(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    scene.house.tenant.suspend("Unpaid.")
    before = heard(scene)
    scene.house.tenant.delete()
    assert heard(scene) == before
