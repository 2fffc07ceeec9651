"""Staying signed in: tokens are renewed in time, by one at a time, and what goes wrong is told as it is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.utils import timezone

from connections import egress
from connections.models import AuditEvent, Connection, Credential, User
from oauth import flow, refreshing, revoking
from oauth.errors import NeedsSignIn
from oauth.models import Registration, SignIn, Tokens
from oauth.tasks import forget_abandoned
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_sign_in import CALLBACK, secret
from tests.servers.aside import Aside
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import approve
from tests.servers.kinds import answers
from tests.tools.conftest import eventually
from tools.calls import offers


def expire(scene: Scene) -> None:
    """Let the access token have expired, here and there."""
    scene.auth.expire_access_tokens()
    SignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def attend(scene: Scene) -> None:
    refreshing.attend(scene.sign_in_row.pk)


def refreshes(scene: Scene) -> int:
    return scene.auth.count("/token", grant_type="refresh_token")


def ready(scene: Scene) -> Scene:
    scene.sign_in()
    scene.probe()
    assert scene.connection.headline == "connected"
    return scene


def called(scene: Scene, api: Api, tool: str = "orders__echo", **arguments: Any) -> httpx2.Response:
    offers.forget()
    assignment = scene.house.tenant.assignments.first() or scene.house.assignment()
    return api.as_(scene.house.token(assignment)).call(tool, arguments or {"text": "hello"})


def test_beat_finds_a_sign_in_before_it_ends(scene: StartScene) -> None:
    scene = ready(scene())
    row = scene.sign_in_row
    assert refreshing.due(timezone.now()) == []
    assert row.expires_at - timedelta(minutes=10) <= row.renew_at < row.expires_at
    assert refreshing.due(row.renew_at) == [row.pk]
    assert refreshing.due(row.renew_at) == []
    attend(scene)
    after = scene.sign_in_row
    assert after.generation == row.generation + 1
    assert after.tokens() != row.tokens()
    assert after.expires_at > row.expires_at
    assert refreshes(scene) == 1
    assert AuditEvent.objects.filter(action="connection.token_renewed", outcome="ok").count() == 1


def test_a_short_token_is_renewed_in_its_last_third(scene: StartScene) -> None:
    row = ready(scene(expires_in=30)).sign_in_row
    assert timedelta(seconds=20) <= row.renew_at - row.obtained_at <= timedelta(seconds=23)


def test_a_call_has_an_expired_token_renewed_first(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    expire(scene)
    answer = called(scene, api)
    assert (answer.status_code, answer.json()["content"][0]["text"]) == (200, "hello")
    assert refreshes(scene) == 1
    assert scene.server.executions("echo") == 1


def test_a_call_that_is_refused_with_401_is_made_once_more_with_a_new_token(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    scene.auth.expire_access_tokens()
    answer = called(scene, api)
    assert answer.status_code == 200
    assert (refreshes(scene), scene.server.executions("echo")) == (1, 1)
    assert scene.state == ("ready", "")


def test_between_calls_the_server_of_a_session_is_answered_with_the_renewed_token(scene: StartScene, api: Api) -> None:
    scene = ready(scene(kind="legacy"))
    scene.server.rules.append(aside := Aside())
    assert called(scene, api).status_code == 200
    eventually(lambda: aside.opened, "the stream is open")
    attend(scene)
    newest = f"Bearer {scene.sign_in_row.tokens().access_token}"

    def answered_with_the_newest() -> bool:
        aside.say(b'data: {"jsonrpc":"2.0","id":1,"method":"ping"}\n\n')
        replies = [one for one in scene.server.requests if isinstance(one.message, dict) and "result" in one.message]
        return bool(replies) and replies[-1].headers["authorization"] == newest

    eventually(answered_with_the_newest, "the server is answered with the renewed token")


def test_a_server_that_refuses_every_token_moves_the_state(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    rules = list(scene.server.rules)
    scene.server.behave(answers(401, www_authenticate='Bearer error="invalid_token"'))
    answer = called(scene, api)
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unauthorized")
    assert refreshes(scene) == 1
    assert scene.state == ("refused", "token_refused")
    assert scene.sign_in_row.ended_at is None
    scene.server.behave(*rules)
    assert called(scene, api).status_code == 200
    assert scene.state == ("ready", "")


def test_a_refresh_token_that_is_not_replaced_stays(scene: StartScene) -> None:
    scene = ready(scene(rotate=False))
    before = scene.sign_in_row.tokens()
    attend(scene)
    attend(scene)
    after = scene.sign_in_row.tokens()
    assert after.refresh_token == before.refresh_token
    assert after.access_token != before.access_token
    assert refreshes(scene) == 2


def test_a_rotated_refresh_token_is_never_used_twice(scene: StartScene) -> None:
    scene = ready(scene())
    for _ in range(3):
        attend(scene)
    assert scene.auth.reused == []
    assert scene.sign_in_row.generation == 4


def test_form_encoded_renewals_are_understood(scene: StartScene) -> None:
    scene = ready(scene(form_encoded=True))
    attend(scene)
    assert scene.sign_in_row.generation == 2


def test_a_server_that_does_not_know_resource_is_asked_once_without(scene: StartScene) -> None:
    scene = ready(scene())
    scene.auth.reject_resource = True
    attend(scene)
    asked = [form for form in scene.auth.token_requests if form["grant_type"] == "refresh_token"]
    assert ["resource" in form for form in asked] == [True, False]
    assert scene.sign_in_row.generation == 2


def test_a_revoked_sign_in_ends_and_says_so(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    scene.auth.revoke_everything()
    expire(scene)
    answer = called(scene, api)
    assert (answer.status_code, answer.json()["code"]) == (503, "credential_not_ready")
    row = scene.sign_in_row
    assert (row.ended_because, row.sealed) == ("sign_in_revoked", "")
    assert scene.state == ("refused", "sign_in_revoked")
    assert "Sign in again" in scene.connection.next_step
    assert AuditEvent.objects.filter(action="connection.sign_in_ended", outcome="invalid_grant").exists()
    assert scene.server.executions("echo") == 0
    scene.sign_in()
    assert scene.state == ("ready", "")


def test_an_early_renewal_that_fails_keeps_the_token(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    scene.auth.fail_tokens_with(503)
    SignIn.objects.update(expires_at=timezone.now() + timedelta(seconds=20))
    assert refreshing.held(scene.connection, None).stale(timezone.now()) is False
    SignIn.objects.update(obtained_at=timezone.now() - timedelta(hours=1))
    answer = called(scene, api)
    assert answer.status_code == 200
    row = scene.sign_in_row
    assert (row.failures, row.ended_at) == (1, None)
    assert row.renew_at > timezone.now()


def test_while_the_provider_is_down_it_is_not_asked_by_every_call(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    scene.auth.fail_tokens_with(503)
    expire(scene)
    for _ in range(3):
        answer = called(scene, api)
        assert (answer.status_code, answer.json()["code"]) == (503, "credential_not_ready")
    assert refreshes(scene) == 1
    assert scene.state == ("expired", "refresh_failing")
    scene.auth.fail_tokens_with(200)
    SignIn.objects.update(not_before=None)
    assert called(scene, api).status_code == 200
    assert scene.state == ("ready", "")


def test_a_sign_in_that_cannot_be_renewed_says_when_it_ends(scene: StartScene) -> None:
    scene = ready(scene(refresh=False))
    state, reason = scene.state
    assert (state, reason) == ("expiring", "sign_in_ends")
    row = scene.sign_in_row
    assert f"No refresh token: this sign-in ends at {row.expires_at:%H:%M} UTC" in scene.connection.credential_sentence
    SignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    attend(scene)
    assert scene.state == ("expired", "sign_in_ended")
    assert scene.sign_in_row.sealed == ""


def test_a_forgotten_client_is_registered_anew_at_the_next_sign_in(scene: StartScene) -> None:
    scene = ready(scene(auth_methods=["client_secret_basic"]))
    scene.auth.forget_clients()
    attend(scene)
    assert scene.state == ("refused", "client_forgotten")
    assert Registration.objects.get().retired_because == "client_forgotten"
    scene.sign_in()
    assert scene.state == ("ready", "")
    assert len(scene.auth.registrations) == 2


def test_a_wrong_secret_of_ones_own_client_keeps_the_sign_in(scene: StartScene) -> None:
    scene = scene(connection={"oauth_client_id": "acme-1"}, dcr=False)
    secret(scene, "old")
    scene.auth.add_client("acme-1", secret="old", redirect_uri=CALLBACK)
    ready(scene)
    scene.auth.add_client("acme-1", secret="new", redirect_uri=CALLBACK)
    attend(scene)
    assert scene.sign_in_row.ended_at is None
    Credential.objects.get().set("new", by=scene.house.admin)
    SignIn.objects.update(not_before=None)
    attend(scene)
    assert scene.sign_in_row.generation == 2


def test_losers_wait_for_the_winners_token(scene: StartScene) -> None:
    scene = ready(scene())
    row = scene.sign_in_row

    async def many() -> list[refreshing.Bearer]:
        return await asyncio.gather(
            *(refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id) for _ in range(20))
        )

    tokens = {bearer.token for bearer in egress.run(many())}
    assert tokens == {scene.sign_in_row.tokens().access_token}
    assert refreshes(scene) == 1


def test_when_the_holder_of_the_lease_dies_the_next_one_takes_over(scene: StartScene) -> None:
    scene = ready(scene())
    row = scene.sign_in_row
    now = timezone.now()
    assert row.claim(uuid4(), now, now + timedelta(seconds=1))  # and is never heard of again
    assert (
        egress.run(refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id)).generation
        == row.generation + 1
    )
    assert refreshes(scene) == 1
    assert timezone.now() >= now + timedelta(seconds=1)


def test_a_refusal_of_an_old_generation_ends_nothing(scene: StartScene) -> None:
    scene = ready(scene())
    old = scene.sign_in_row
    attend(scene)
    assert not old.end("sign_in_revoked", timezone.now())
    assert scene.sign_in_row.ended_at is None


def test_a_sign_in_that_was_replaced_is_not_renewed(scene: StartScene) -> None:
    scene = ready(scene())
    old = scene.sign_in_row
    scene.sign_in(again="1")
    with pytest.raises(NeedsSignIn):
        egress.run(refreshing.renew(old.pk, old.generation, of=old.connection.tenant_id))


def test_a_call_that_holds_the_token_of_the_sign_in_before_takes_the_new_one(scene: StartScene, api: Api) -> None:
    scene = ready(scene())
    assert called(scene, api).status_code == 200  # the web process knows the old token for a second
    scene.sign_in(again="1")
    scene.auth.provider.access.pop(next(iter(scene.auth.provider.access)))
    assignment = scene.house.tenant.assignments.get()
    answer = api.as_(scene.house.token(assignment)).call("orders__echo", {"text": "at once"})
    assert answer.status_code == 200, answer.text
    assert scene.sign_in_row.generation == 1


def test_a_disabled_connection_is_left_alone(scene: StartScene) -> None:
    scene = ready(scene())
    Connection.objects.update(enabled=False)
    assert refreshing.due(timezone.now() + timedelta(days=1)) == []


def test_a_missing_permission_is_named_and_asked_for_by_one_click(scene: StartScene, api: Api) -> None:
    scene = ready(scene(protected={"scopes": ["read"], "insufficient": {"add": "write"}}))
    answer = called(scene, api, "orders__add", a=1, b=2)
    assert (answer.status_code, answer.json()["code"]) == (502, "insufficient_scope")
    assert scene.state == ("refused", "insufficient_scope")
    assert "“write”" in scene.connection.credential_sentence
    assert called(scene, api).status_code == 200
    scene.sign_in(again="1")
    assert scene.auth.authorizations[-1]["scope"] == "read write"
    assert scene.state == ("ready", "")
    assert called(scene, api, "orders__add", a=1, b=2).status_code == 200


def test_a_permission_that_is_never_granted_is_asked_for_a_few_times(scene: StartScene, api: Api) -> None:
    scene = scene(protected={"scopes": ["read"], "insufficient": {"add": "write"}})
    scene.auth.grants_scopes = ["read"]
    ready(scene)
    asked = 0
    while asked < 10:
        called(scene, api, "orders__add", a=1, b=2)
        if scene.state[1] != "insufficient_scope":
            break
        scene.sign_in(again="1")
        asked += 1
    assert 1 < asked <= 3
    assert scene.state == ("refused", "scope_not_granted")


def test_a_server_that_moves_to_another_issuer_asks_for_a_new_sign_in(
    scene: StartScene, api: Api, authorization_server: Any
) -> None:
    scene = ready(scene())
    token = scene.sign_in_row.tokens().access_token
    other = authorization_server()
    protect(scene.server, other)
    called(scene, api)
    flow.discover_again(scene.connection.pk)  # what the worker is asked to do after a refused token
    assert scene.state == ("refused", "issuer_changed")
    assert scene.sign_in_row.sealed == ""
    assert all(token not in str(request.headers) for request in other.requests)
    old, scene.auth = scene.auth, other
    scene.sign_in()
    assert scene.state == ("ready", "")
    assert len(other.registrations) == len(old.registrations) == 1


def test_personal_sign_ins_are_the_owners_own(scene: StartScene, api: Api, signed_in: Any) -> None:
    scene = scene(connection={"sharing": "personal"})
    scene.sign_in()
    scene.probe()
    mine, theirs = scene.house.assignment("Mine"), scene.house.assignment("Theirs")
    theirs.owner = scene.house.member
    theirs.save()
    assert api.as_(scene.house.token(mine)).call("orders__echo", {"text": "x"}).status_code == 200
    refused = api.as_(scene.house.token(theirs)).call("orders__echo", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (503, "credential_not_ready")
    member = signed_in(scene.house.member)
    away = scene.press("sign-in", member)["Location"]
    scene.come_back(approve(away), member)
    offers.forget()
    assert api.as_(scene.house.token(theirs)).call("orders__echo", {"text": "x"}).status_code == 200
    assert SignIn.objects.count() == 2
    scene.house.membership(scene.house.member).delete()
    offers.forget()
    assert api.as_(scene.house.token(theirs)).call("orders__echo", {"text": "x"}).status_code == 503


def test_the_sign_in_of_a_person_who_was_deactivated_serves_no_call_and_is_given_back(
    scene: StartScene, api: Api
) -> None:
    scene = ready(scene(connection={"sharing": "personal"}))
    token = scene.house.token(scene.house.assignment())
    assert api.as_(token).call("orders__echo", {"text": "x"}).status_code == 200
    row = scene.sign_in_row
    User.objects.filter(pk=scene.house.admin.pk).update(is_active=False)
    offers.forget()
    refused = api.as_(token).call("orders__echo", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (503, "credential_not_ready")
    assert refreshing.due(row.renew_at) == []
    assert revoking.abandoned() == [scene.connection.pk]
    forget_abandoned(connection_id=str(scene.connection.pk))  # what beat has the worker do
    assert not SignIn.objects.exists()
    assert scene.auth.revoked == [row.tokens().refresh_token]
    assert scene.state == ("needs_sign_in", "sign_in_needed")
    assert revoking.abandoned() == []


def test_of_two_renewals_of_the_same_generation_the_second_one_changes_nothing(scene: StartScene) -> None:
    """Its process held the lease for too long: the tokens that somebody else has stored meanwhile stay."""
    scene = ready(scene())
    one, other = scene.sign_in_row, scene.sign_in_row
    assert one.renewed(Tokens("newest", "r2", 600), timezone.now(), None)
    assert not other.renewed(Tokens("late", "r1", 600), timezone.now(), None)
    row = scene.sign_in_row
    assert (row.tokens().access_token, row.generation) == ("newest", one.generation + 1)
