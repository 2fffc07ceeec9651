"""Which way in, found out by us: a server that wants a sign-in, or none, is told, and one button takes the way."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils import timezone
from django.utils.html import escape

from connections.models import AuditEvent, Connection, Credential
from oauth.models import Discovery, SignIn
from tests.field.oauth.test_guesses import page_of, silent
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_pages import OFFERED
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import approve
from tests.servers.kinds import answers, asks_for_token, only_legacy, respond
from tests.servers.running import Rule

WANTED = "This server wants a sign-in."
KEY = "key-of-acme-0123456789"


def by(scene: Scene, method: str, **more: Any) -> Scene:
    """Give the connection another method, with a secret where one belongs to it."""
    Connection.objects.filter(pk=scene.connection.pk).update(
        authorization=method, credential_state="ready", credential_reason="", **more
    )
    scene.connection.refresh_from_db()
    value: Any = {"api_key": KEY, "headers": {"X-Key": KEY}}.get(method)
    if value:
        Credential(connection=scene.connection, kind=method).set(value, by=scene.house.admin)
    return scene


def offers(scene: Scene) -> list[str]:
    """The buttons by which the page offers another method."""
    forms = re.findall(rf'action="{scene.path(OFFERED)}".*?<button[^>]*>(.*?)</button>', page_of(scene), re.DOTALL)
    return [str(label) for label in forms]


def left_for(answer: HttpResponse) -> str:
    """Where the page leads a browser that has pressed the button."""
    (url,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.content.decode())
    return str(url).replace("&amp;", "&")


def names_a_page(status: int, challenge: str) -> Rule:
    """A rule that refuses everything but documents so."""

    async def rule(_: Any, request: Any, __: Any, send: Any) -> bool:
        return request.method == "POST" and await respond(send, status, www_authenticate=challenge)

    return rule


# --- a server that wants a sign-in ------------------------------------------------------------------------------------

SERVERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "its challenge names its metadata": ({}, {}),
    "metadata at the well-known path": ({}, {"metadata": "path"}),
    "metadata at the root": ({}, {"metadata": "root"}),
    "as in 2025-03-26": ({"iss": "absent"}, {"metadata": "origin"}),
    "OpenID Connect": ({"metadata": "oidc_appended", "issuer_path": "/tenant"}, {}),
}


@pytest.mark.parametrize("method", ["none", "api_key", "headers"])
@pytest.mark.parametrize(("options", "protected"), SERVERS.values(), ids=SERVERS.keys())
def test_one_button_leads_from_another_method_through_the_sign_in(
    scene: StartScene, options: dict[str, Any], protected: dict[str, Any], method: str
) -> None:
    scene = by(scene(protected=protected, **options), method)
    scene.probe()
    state = "missing" if method == "none" else "refused"
    assert scene.state == (state, "sign_in_wanted")
    assert scene.connection.credential_sentence.startswith(WANTED)
    assert scene.connection.next_step.startswith("Press Use OAuth and sign in.")
    assert offers(scene) == ["Use OAuth and sign in"]
    assert ("is removed then: " in page_of(scene)) == (method != "none")

    answer = scene.press(OFFERED)
    scene.connection.refresh_from_db()
    assert (scene.connection.authorization, scene.connection.credentials.count()) == ("oauth", 0)
    event = AuditEvent.objects.get(action="connection.changed")
    assert (event.actor, event.data["fields"]) == (scene.house.admin.username, ["authorization"])
    assert event.data["secrets"] == ([] if method == "none" else [f"{method} removed"])
    scene.come_back(approve(left_for(answer)))
    scene.probe()
    assert (scene.state, scene.connection.headline) == (("ready", ""), "connected")
    assert offers(scene) == []


def test_what_becomes_of_a_stored_secret_is_said_before_and_after(scene: StartScene) -> None:
    scene = by(scene(), "api_key")
    scene.probe()
    assert "It refuses the API key that is stored." in scene.connection.credential_sentence
    shown = " ".join(page_of(scene).split())
    assert "What is stored for API key is removed then: API key." in shown
    scene.press(OFFERED)
    assert "The authorization method is OAuth now. Removed: API key." in scene.said()
    assert KEY not in page_of(scene)


def test_extra_headers_stay_with_any_method(scene: StartScene) -> None:
    scene = by(scene(), "none")
    Credential(connection=scene.connection, kind="extra_headers").set({"X-Team": "7"}, by=scene.house.admin)
    scene.probe()
    assert "is removed" not in page_of(scene)
    scene.press(OFFERED)
    assert [row.kind for row in scene.connection.credentials.all()] == ["extra_headers"]


@pytest.mark.parametrize("method", ["api_key", "headers"])
def test_a_method_whose_secret_is_missing_is_looked_at_as_well(scene: StartScene, method: str) -> None:
    scene = by(scene(), method)
    scene.connection.credentials.all().delete()
    report = scene.probe()
    assert scene.state == ("missing", "sign_in_wanted")
    assert WANTED in report.stages[-1]["sentence"]
    assert offers(scene) == ["Use OAuth and sign in"]


def test_a_key_that_is_missing_at_a_server_without_a_sign_in_is_asked_for(scene: StartScene) -> None:
    scene = by(silent(scene()), "api_key")
    scene.connection.credentials.all().delete()
    scene.probe()
    assert (scene.state, offers(scene)) == (("missing", "credential_missing"), [])


def test_a_server_that_wants_a_client_id_is_told_as_that(scene: StartScene) -> None:
    scene = by(scene(dcr=False), "none")
    scene.probe()
    assert scene.state == ("missing", "sign_in_wanted")
    assert "needs a client ID" in scene.connection.credential_sentence
    assert scene.press(OFFERED)["Location"].endswith("/change/")
    assert scene.state == ("missing", "client_id_needed")
    assert "follow the guide" in scene.connection.next_step


def test_a_server_that_asks_only_in_its_handshake_is_looked_at(scene: StartScene) -> None:
    scene = by(scene(), "none")
    gate = scene.server.rules[0]
    scene.server.rules[:] = [only_legacy, gate]
    scene.probe()
    assert (scene.state, offers(scene)) == (("missing", "sign_in_wanted"), ["Use OAuth and sign in"])


@pytest.mark.parametrize("method", ["none", "api_key"])
def test_a_call_that_is_refused_shows_at_the_next_check_what_the_server_wants(
    scene: StartScene, api: Api, method: str
) -> None:
    scene = by(scene(protected={"on": "calls", "metadata": "path"}), method)
    scene.probe()
    assert scene.connection.headline == "connected"
    token = scene.house.token()
    before = scene.connection.next_probe_at
    assert api.as_(token).call("orders__echo", {"text": "x"}).status_code == 502
    assert scene.state[1] == "unauthorized_on_call"
    assert scene.connection.next_probe_at < before, "a check is due at once"
    scene.probe()
    assert scene.state[1] == "sign_in_wanted_on_call"
    assert "It lists its tools without one, and refused a call." in scene.connection.credential_sentence
    assert scene.press(OFFERED).status_code == 200
    assert scene.connection.tools.usable().exists()


# --- a server of which that is not known ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (answers(401), ""),
        (answers(401, b'{"error": "No key was sent."}'), "“No key was sent.”"),
        (answers(401, www_authenticate='Basic realm="x"'), ""),
        (answers(401, b"Use X-Api-Key", content_type="text/plain"), "“Use X-Api-Key”"),
        (asks_for_token, "could not be fetched"),
    ],
    ids=["bare", "with words", "Basic", "in text", "metadata out of reach"],
)
def test_without_documents_no_sign_in_is_promised(scene: StartScene, rule: Rule, said: str) -> None:
    scene = by(scene(), "none")
    scene.server.rules[:] = [rule]
    scene.probe()
    assert (scene.state, offers(scene)) == (("missing", "authorization_needed"), [])
    assert "HTTP 401" in scene.connection.credential_sentence
    assert said in scene.connection.credential_sentence
    assert "register by ourselves" not in page_of(scene)
    assert "Choose API key or Custom headers" in scene.connection.next_step


def test_a_key_that_is_wrong_where_no_sign_in_is_wanted_is_called_wrong(scene: StartScene) -> None:
    scene = by(scene(), "api_key")
    scene.server.rules[:] = [answers(401, b'{"message": "Unknown key."}')]
    scene.probe()
    assert (scene.state, offers(scene)) == (("refused", "unauthorized"), [])
    assert "“Unknown key.”" in scene.connection.credential_sentence


# --- a server that needs none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"sharing": "personal"},
        {"oauth_client_id": "acme-1"},
        {"oauth_client_id": "acme-1", "oauth_grant": "client_credentials"},
    ],
    ids=["shared", "personal", "a client ID", "client credentials"],
)
def test_one_button_leads_from_oauth_to_an_open_server(scene: StartScene, more: dict[str, Any]) -> None:
    scene = scene(connection=more)
    Credential(connection=scene.connection, kind="oauth_client_secret").set("s3cret", by=scene.house.admin)
    scene.server.rules.clear()
    scene.probe()
    assert scene.state == ("missing", "sign_in_not_needed")
    assert scene.connection.credential_sentence.startswith("The server needs no sign-in")
    assert scene.connection.next_step == "Press Use no authorization."
    assert offers(scene) == ["Use no authorization"]
    assert scene.path("sign-in") not in page_of(scene), "there is one button"
    scene.press("check-sign-in")
    assert scene.state == ("missing", "sign_in_not_needed"), "asked again, it is still so"

    assert "What is stored for OAuth is removed then: Client secret." in " ".join(page_of(scene).split())
    assert scene.press(OFFERED)["Location"].endswith("/change/")
    assert "Removed: Client secret." in scene.said()[-1]
    assert AuditEvent.objects.filter(action="connection.changed").get().data["secrets"] == [
        "oauth_client_secret removed"
    ]
    scene.probe()
    assert (scene.connection.authorization, scene.connection.headline) == ("none", "connected")
    assert offers(scene) == []


def test_a_server_that_lists_openly_and_has_documents_may_want_a_sign_in_for_calls(scene: StartScene) -> None:
    scene = scene(protected={"on": "calls", "metadata": "path"})
    scene.probe()
    assert (scene.state, offers(scene)) == (("needs_sign_in", "sign_in_needed"), [])


def test_an_open_server_that_closes_is_signed_in_to_after_all(scene: StartScene) -> None:
    scene = scene()
    scene.server.rules.clear()
    scene.probe()
    protect(scene.server, scene.auth)
    scene.probe()
    assert (scene.state, offers(scene)) == (("needs_sign_in", "sign_in_needed"), [])


# --- who may, and when ------------------------------------------------------------------------------------------------


def test_the_button_does_nothing_once_another_method_is_no_longer_offered(scene: StartScene) -> None:
    scene = scene()
    for method in ("none", "oauth", "api_key"):
        by(scene, method)
        assert scene.press(OFFERED)["Location"].endswith("/change/")
        assert scene.said() == ["By now no other authorization method is offered. Nothing was changed."]
    assert not AuditEvent.objects.filter(action="connection.changed").exists()
    assert not SignIn.objects.exists()


def test_only_who_may_change_the_connection_sees_the_button(scene: StartScene, signed_in: Any, reviewer: Any) -> None:
    scene = by(scene(), "none")
    scene.probe()
    for user in (scene.house.member, scene.house.auditor, reviewer):
        client = signed_in(user)
        shown = client.get(f"/admin/connections/connection/{scene.connection.pk}/change/").content.decode()
        assert escape(scene.connection.credential_sentence) in shown
        assert OFFERED not in shown
        assert scene.press(OFFERED, client).status_code == 403
    scene.connection.refresh_from_db()
    assert scene.connection.authorization == "none"


def test_a_disabled_connection_offers_nothing(scene: StartScene) -> None:
    scene = by(scene(), "none")
    scene.probe()
    scene.connection.set_enabled(False)
    assert offers(scene) == []
    assert scene.press(OFFERED)["Location"].endswith("/change/")
    scene.connection.refresh_from_db()
    assert scene.connection.authorization == "none"


# --- programs ---------------------------------------------------------------------------------------------------------


def test_a_program_is_told_the_request_that_ends_the_trouble(scene: StartScene, api: Api) -> None:
    scene = scene()
    api = api.as_(scene.house.member_token(scene.house.admin))
    row = api.post("/v1/connections", {"name": "Shop", "server_url": scene.server.url}).json()
    assert row["authorization"] == "none"
    scene.connection = Connection.objects.get(pk=row["id"])
    scene.probe()
    shown = api.get(f"/v1/connections/{row['id']}").json()
    assert (shown["credential"]["reason"], shown["status"]) == ("sign_in_wanted", "action_required")
    request = f'Send PATCH /v1/connections/{row["id"]} with {{"authorization": "oauth"}}.'
    assert shown["next_step"].startswith(request)
    changed = api.request("PATCH", f"/v1/connections/{row['id']}", json={"authorization": "oauth"})
    assert (changed.status_code, changed.json()["authorization"]) == (200, "oauth")
    scene.server.rules.clear()
    Discovery.objects.update(looked_at=timezone.now() - timedelta(hours=2))
    scene.probe()
    shown = api.get(f"/v1/connections/{row['id']}").json()
    assert shown["next_step"] == f'Send PATCH /v1/connections/{row["id"]} with {{"authorization": "none"}}.'
