"""Servers that want a sign-in and say nothing about it: a guess is called a guess, and is not made again and again."""

from __future__ import annotations

import pytest
from django.utils import timezone

from oauth.models import Discovery, Registration
from tests.field.oauth.test_token_endpoints import answering
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import approve

OURS = "lets us register by ourselves"


def silent(scene: Scene, *more: object) -> Scene:
    """Let the MCP server want a sign-in and have no document; `more` rules answer before that."""
    protect(scene.server, scene.auth, metadata="none")
    scene.server.rules[:0] = more
    return scene


def page_of(scene: Scene) -> str:
    return scene.client.get(f"/admin/connections/connection/{scene.connection.pk}/change/").content.decode()


def test_a_guess_is_called_a_guess(scene: StartScene) -> None:
    scene = silent(scene())
    scene.probe()
    assert scene.state == ("needs_sign_in", "sign_in_needed")
    assert "We guess" in scene.connection.credential_sentence
    assert "We guess" in page_of(scene)
    assert OURS not in page_of(scene)


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        ([], "there is no page to sign in at"),
        ([answering("/authorize", 404, "")], "there is no page to sign in at"),
        ([answering("/authorize", 405, "")], "there is no page to sign in at"),
        ([answering("/authorize", 400, "")], "it does not register us there"),
        ([answering("/authorize", 400, ""), answering("/register", 403, "")], "it does not register us there"),
        ([answering("/authorize", 400, ""), answering("/register", 200, "<html>")], "it does not register us there"),
    ],
    ids=[
        "a token wanted there, too",
        "nothing there",
        "not for browsers",
        "no registration",
        "registration refused",
        "a page for everything",
    ],
)
def test_a_guess_that_fails_is_told_and_the_next_step_is_another(
    scene: StartScene, rules: list[object], seen: str
) -> None:
    scene = silent(scene(), *rules)
    scene.probe()
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert seen in scene.said()[0]
    for _ in range(2):  # and it stays so at every check
        assert scene.state == ("missing", "no_authorization_server")
        assert seen in scene.connection.credential_sentence
        assert not scene.connection.next_step.startswith("Press Sign in")
        assert "another authorization method" in scene.connection.next_step
        assert OURS not in page_of(scene)
        scene.probe()
    scene.press("check-sign-in")
    assert seen in scene.said()[-1]
    assert not Registration.objects.exists()


def test_nobody_is_sent_to_a_guessed_page_that_is_not_there(scene: StartScene) -> None:
    scene = silent(scene(connection={"oauth_client_id": "acme-1"}))
    scene.probe()
    assert "We guess" in scene.connection.credential_sentence
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert scene.state == ("missing", "no_authorization_server")


def test_a_guess_that_holds_leads_to_the_sign_in(scene: StartScene) -> None:
    scene = scene()
    page = answering("/authorize", 400, "")
    silent(scene, page, answering("/register", 201, {"client_id": "ours"}))
    assert scene.depart().startswith(f"{scene.server.origin}/authorize?response_type=code&client_id=ours")
    assert Discovery.objects.get().reason == ""


def test_after_a_guess_has_failed_a_person_may_try_it_again_and_a_document_ends_it(scene: StartScene) -> None:
    scene = silent(scene())
    scene.press("sign-in")
    assert scene.state == ("missing", "no_authorization_server")
    scene.server.rules[:0] = [answering("/authorize", 400, ""), answering("/register", 201, {"client_id": "ours"})]
    assert scene.depart()
    scene.probe()
    assert scene.state == ("needs_sign_in", "sign_in_needed")
    scene.server.rules.clear()
    protect(scene.server, scene.auth)
    scene.come_back(approve(scene.depart()))
    assert scene.state == ("ready", "")
    found = Discovery.objects.get()
    assert (found.found["guessed"], OURS in found.sentence) == (False, True)
    assert found.looked_at <= timezone.now()


def test_a_server_that_does_not_want_a_sign_in_is_not_guessed_at(scene: StartScene) -> None:
    scene = scene()
    scene.server.rules.clear()
    scene.press("check-sign-in")
    assert "We guess" not in scene.said()[-1]
    assert Discovery.objects.get().reason == "no_authorization_server"
