"""The browser comes back: what does not fit has its own sentence and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, Membership, User
from oauth import registering
from oauth.models import PendingAuthorization, SignIn
from tests.conftest import ActIn, House
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer

SignedIn = Callable[[User | None], Client]


def changed(callback: str, **members: str | None) -> str:
    """The callback with these members of its query replaced, or left out for None."""
    parts = urlsplit(callback)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | members
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


def refused(scene: Scene, answer: HttpResponse, sentence: str) -> None:
    """The page says why, nothing was changed, and no token was asked for."""
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert not SignIn.objects.exists()
    assert scene.auth.count("/token") == 0
    assert scene.state[0] == "needs_sign_in"


def let_go() -> None:
    """Close the database connection of the thread that this is called in."""
    database.close()


def test_an_unknown_state(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    refused(scene, scene.come_back(changed(callback, state="made up")), "was not started here")
    refused(scene, scene.come_back(changed(callback, state=None)), "was not started here")
    assert scene.come_back(callback).status_code == 302


def test_another_persons_browser(scene: StartScene, signed_in: SignedIn, rival: House) -> None:
    scene = scene()
    callback = approve(scene.depart())
    for stranger in (rival.admin, scene.house.member):
        refused(scene, scene.come_back(callback, signed_in(stranger)), "in another browser or by another person")
    assert scene.come_back(callback).status_code == 302


def test_another_browser_of_the_same_person(scene: StartScene, signed_in: SignedIn) -> None:
    scene = scene()
    callback = approve(scene.depart())
    refused(scene, scene.come_back(callback, signed_in(scene.house.admin)), "in another browser or by another person")
    assert scene.come_back(callback).status_code == 302


def test_nobody_signed_in_here(scene: StartScene, signed_in: SignedIn) -> None:
    scene = scene()
    callback = approve(scene.depart())
    answer = scene.come_back(callback, signed_in(None))
    refused(scene, answer, "You are not signed in here")
    assert "code=" not in answer.content.decode()


def test_a_state_that_is_too_old(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    PendingAuthorization.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    refused(scene, scene.come_back(callback), "longer than ten minutes")


def test_a_callback_that_is_opened_twice(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    assert scene.come_back(callback).status_code == 302
    before = scene.sign_in_row
    again = scene.come_back(callback)
    assert again.status_code == 400
    assert "completed before" in again.content.decode()
    assert scene.sign_in_row.generation == before.generation
    assert scene.auth.count("/token") == 1
    assert scene.auth.reused == []


def test_a_callback_without_a_code(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    refused(scene, scene.come_back(changed(callback, code=None)), "without a code")
    assert scene.come_back(callback).status_code == 302


@pytest.mark.parametrize("iss", ["wrong", "absent_but_advertised"])
def test_an_answer_from_another_issuer(scene: StartScene, iss: str) -> None:
    scene = scene(iss=iss)
    refused(scene, scene.come_back(approve(scene.depart())), "from another sign-in server")


def test_an_error_of_another_issuer_is_not_shown(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    forged = changed(callback, code=None, error="pay_the_attacker", iss="https://evil.example.com")
    answer = scene.come_back(forged)
    refused(scene, answer, "from another sign-in server")
    assert "pay_the_attacker" not in answer.content.decode()
    assert scene.come_back(callback).status_code == 302


def test_a_server_that_never_says_iss_may_leave_it_out(scene: StartScene) -> None:
    scene = scene(iss="absent")
    assert scene.sign_in().status_code == 302
    assert SignIn.objects.count() == 1


def test_a_mix_up_of_two_servers(scene: StartScene, authorization_server: StartAuthorizationServer) -> None:
    honest = authorization_server()
    honest.add_client("ours", redirect_uri=registering.redirect_uri())
    scene = scene(mixes_up_with=honest)
    refused(scene, scene.come_back(approve(scene.depart())), "from another sign-in server")
    assert honest.count("/token") == 0


def test_a_person_who_says_no(scene: StartScene) -> None:
    scene = scene(deny=True)
    answer = scene.sign_in()
    refused(scene, answer, "The access was not allowed at the provider")
    assert AuditEvent.objects.filter(action="connection.sign_in_failed", data__error="access_denied").exists()


def test_a_connection_whose_server_changed_meanwhile(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    Connection.objects.update(server_url="https://elsewhere.example.com/mcp")
    refused(scene, scene.come_back(callback), "was changed while you signed in")


@pytest.mark.parametrize(
    "change", [{"sharing": "shared"}, {"oauth_grant": "client_credentials"}, {"oauth_client_id": "another"}]
)
def test_a_personal_consent_serves_nothing_but_what_it_was_given_for(scene: StartScene, change: dict[str, str]) -> None:
    scene = scene(connection={"sharing": "personal"})
    callback = approve(scene.depart())
    Connection.objects.update(**change)
    refused(scene, scene.come_back(callback), "was changed while you signed in")


@pytest.mark.parametrize("meanwhile", ["it is shared", "the person is deactivated", "nothing"])
def test_what_changes_while_the_code_is_exchanged_counts_too(scene: StartScene, meanwhile: str) -> None:
    scene = scene(connection={"sharing": "personal"})
    callback = approve(scene.depart())
    scene.auth.hold_tokens()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(scene.come_back, callback)
        scene.auth.wait_until_held()
        if meanwhile == "it is shared":
            Connection.objects.update(sharing="shared")
        elif meanwhile == "the person is deactivated":
            User.objects.filter(pk=scene.house.admin.pk).update(is_active=False)
        scene.auth.release_tokens()
        answer = coming.result()
        pool.submit(let_go).result()
    if meanwhile == "nothing":
        assert answer.status_code == 302
        assert SignIn.objects.get().owner == scene.house.admin
        return
    assert answer.status_code == 400
    assert "was changed while you signed in" in answer.content.decode()
    assert not SignIn.objects.exists()
    assert len(scene.auth.revoked) == 1
    failed = AuditEvent.objects.get(action="connection.sign_in_failed")
    assert failed.outcome == "connection_changed"


def test_a_person_who_lost_the_role_meanwhile(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    Membership.objects.filter(user=scene.house.admin).update(role="member")
    refused(scene, scene.come_back(callback), "was changed while you signed in")


def test_a_failed_sign_in_leaves_the_one_before_alone(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    before = scene.sign_in_row
    scene.auth.deny = True
    assert scene.sign_in(again="1").status_code == 400
    scene.auth.deny = False
    scene.auth.fail_tokens_with(400, "invalid_grant")
    answer = scene.sign_in(again="1")
    assert answer.status_code == 400
    assert "In the provider&#x27;s own words: “words of the provider”" in answer.content.decode()
    after = scene.sign_in_row
    assert (after.pk, after.generation, after.tokens()) == (before.pk, before.generation, before.tokens())
    assert scene.state[0] == "ready"


def test_a_provider_that_fails_is_told_in_a_sentence(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    scene.auth.fail_tokens_with(503)
    answer = scene.come_back(callback)
    assert answer.status_code == 400
    assert "Try again in a while" in answer.content.decode()


def test_the_buttons_are_for_who_may(
    scene: StartScene, signed_in: SignedIn, rival: House, reviewer: User, superuser: User, act_in: ActIn
) -> None:
    scene = scene()
    for button in ("sign-in", "sign-out", "check-sign-in"):
        assert signed_in(scene.house.admin).get(scene.path(button)).status_code == 405
        statuses: dict[str, Any] = {
            "member": scene.press(button, signed_in(scene.house.member)).status_code,
            "auditor": scene.press(button, signed_in(scene.house.auditor)).status_code,
            "reviewer": scene.press(button, signed_in(reviewer)).status_code,
            "staff": scene.press(button, signed_in(superuser)).status_code,
            "rival": scene.press(button, signed_in(rival.admin)).status_code,
            "nobody": scene.press(button, signed_in(None)).status_code,
        }
        refused = dict.fromkeys(("member", "auditor", "reviewer", "staff"), 403)
        assert statuses == refused | {"rival": 404, "nobody": 302}
    assert scene.press("sign-in", act_in(rival.tenant)).status_code == 403
    assert scene.press("sign-in", act_in(scene.house.tenant)).status_code == 302
    assert not SignIn.objects.exists()


def test_staff_who_act_complete_what_they_began_as_long_as_they_act(
    scene: StartScene, act_in: ActIn, rival: House
) -> None:
    scene = scene()
    scene.client = act_in(scene.house.tenant)
    assert scene.sign_in().status_code == 302
    assert scene.sign_in_row.ended_at is None
    back = approve(scene.depart())
    scene.client.post(f"/admin/connections/tenant/{scene.house.tenant.pk}/leave/")
    assert scene.come_back(back).status_code != 302


def test_the_rival_sees_of_a_connection_what_they_see_of_none(
    scene: StartScene, signed_in: SignedIn, rival: House
) -> None:
    scene = scene()
    theirs, path = signed_in(rival.admin), scene.path("sign-in")
    stranger = theirs.post(path)
    scene.connection.delete()
    nothing = theirs.post(path)
    assert (stranger.status_code, stranger.content) == (nothing.status_code, nothing.content)


def test_the_buttons_need_the_csrf_token(scene: StartScene) -> None:
    scene = scene()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(scene.house.admin)
    assert scene.press("sign-in", strict).status_code == 403


def test_of_two_browsers_that_bring_the_same_state_at_the_same_moment_one_uses_it(scene: StartScene) -> None:
    """Both have read the row before either has used it."""
    scene = scene()
    scene.depart()
    one, other = PendingAuthorization.objects.get(), PendingAuthorization.objects.get()
    assert one.consume(timezone.now())
    assert not other.consume(timezone.now())
