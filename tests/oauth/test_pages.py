"""The pages of signing in: what each person sees and may press, and what no page ever shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, Credential, User
from oauth import urls
from oauth.models import Discovery, Registration, SignIn
from tests.conftest import House
from tests.connections.estate import body
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartServer

SignedIn = Callable[[User | None], Client]
LOOK = "/admin/connections/connection/check-sign-in/"
BUTTONS = ("sign-in", "sign-out", "check-sign-in", "register-again")
OFFERED = "take-offered-method"  # only while the last check offers another one


def page(scene: Scene, client: Client | None = None) -> str:
    answer = (client or scene.client).get(f"/admin/connections/connection/{scene.connection.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def card(scene: Scene, client: Client | None = None) -> str:
    """The card "Sign-in", as one line of text without tags."""
    found = re.search(r'<section class="card sign-in".*?</section>', page(scene, client), re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def buttons(scene: Scene, client: Client | None = None) -> set[str]:
    """Which of the four buttons are on the page."""
    text = page(scene, client)
    return {button for button in BUTTONS if f'action="{scene.path(button)}"' in text}


def change(sign_in: SignIn, **fields: Any) -> None:
    SignIn.objects.filter(pk=sign_in.pk).update(**fields)


# --- who sees what ---


def test_an_admin_presses_and_everybody_else_of_the_house_reads(
    scene: StartScene, reviewer: User, signed_in: SignedIn
) -> None:
    scene = scene()
    assert buttons(scene) == {"sign-in", "check-sign-in"}
    scene.sign_in()
    assert buttons(scene) == set(BUTTONS)
    for user in (scene.house.member, scene.house.auditor, reviewer):
        client = signed_in(user)
        assert buttons(scene, client) == set()
        assert "Signed in admin@acme.example" in card(scene, client)
        assert scene.auth.issuer in card(scene, client)


def test_a_stranger_presses_every_button_as_if_there_were_none(
    scene: StartScene, rival: House, signed_in: SignedIn
) -> None:
    scene, stranger = scene(), signed_in(rival.admin)
    scene.sign_in()
    before = SignIn.objects.values().get(), list(Registration.objects.values())
    nothing = uuid4()
    for button in (*BUTTONS, OFFERED):
        theirs = stranger.post(scene.path(button))
        none = stranger.post(f"/admin/connections/connection/{nothing}/{button}/")
        assert theirs.status_code == none.status_code == 404
        assert body(theirs, scene.connection.pk) == body(none, nothing)
    assert before == (SignIn.objects.values().get(), list(Registration.objects.values()))
    assert scene.press("register-again").status_code == 302  # whereas its owner may


def test_no_button_is_missing_from_these_tests() -> None:
    addresses = [str(pattern.pattern) for pattern in urls.urlpatterns]
    pressed = {address.split("/")[-2] for address in addresses if "<uuid:connection_id>/" in address}
    assert pressed == {*BUTTONS, OFFERED}


def test_those_who_may_not_are_refused_even_without_a_button(
    scene: StartScene, reviewer: User, signed_in: SignedIn
) -> None:
    scene = scene()
    scene.sign_in()
    for user in (scene.house.member, scene.house.auditor, reviewer):
        for button in (*BUTTONS, OFFERED):
            assert scene.press(button, signed_in(user)).status_code == 403


def test_of_personal_sign_ins_a_member_sees_their_own_and_an_auditor_all(
    scene: StartScene, signed_in: SignedIn
) -> None:
    scene = scene(connection={"sharing": "personal"})
    scene.sign_in()
    member, auditor = signed_in(scene.house.member), signed_in(scene.house.auditor)
    assert "Not signed in." in card(scene, member)
    assert "admin@acme.example" not in card(scene, member)
    assert buttons(scene, member) == {"sign-in"}
    scene.come_back(approve(scene.press("sign-in", member)["Location"]), member)
    assert "Signed in You" in card(scene, member)
    assert buttons(scene, member) == {"sign-in", "sign-out"}
    assert buttons(scene, auditor) == set()
    for person in ("admin@acme.example", "member@acme.example"):
        assert f"{person} Ready" in card(scene, auditor)
    assert "Other members member@acme.example Ready" in card(scene)


def test_no_page_shows_a_secret(scene: StartScene, reviewer: User, signed_in: SignedIn) -> None:
    scene = scene(auth_methods=["client_secret_post"])
    scene.sign_in()
    row, registration = scene.sign_in_row, Registration.objects.get()
    secrets = {*scene.auth.access_tokens, *scene.auth.refresh_tokens, registration.secret(), row.sealed}
    secrets |= {registration.sealed_secret, *(asked["state"] for asked in scene.auth.authorizations)}
    assert all(secrets)
    for user in (scene.house.admin, scene.house.member, scene.house.auditor, reviewer):
        text = page(scene, signed_in(user))
        assert not [secret for secret in secrets if secret in text]


def test_a_reviewer_reads_the_settings_and_that_a_secret_is_set(
    scene: StartScene, reviewer: User, signed_in: SignedIn
) -> None:
    settings = {"oauth_client_id": "acme-1", "oauth_scopes": "orders:read", "oauth_omit_resource": True}
    scene = scene(connection=settings)
    Credential(connection=scene.connection, kind="oauth_client_secret").set("marker-77aa", by=scene.house.admin)
    text = " ".join(re.sub(r"<[^>]+>", " ", page(scene, signed_in(reviewer))).split())
    for fact in (
        "The organization&#x27;s: one for all", "A person signs in", "Client ID acme-1", "Client secret Set",
        "Scopes orders:read", "Resource Not sent",
    ):  # fmt: skip
        assert fact in text
    assert "marker-77aa" not in text


# --- what the card says ---


def test_the_card_says_how_long_a_sign_in_lasts(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    assert "Renewed by itself before" in card(scene)
    change(scene.sign_in_row, renewed_at=timezone.now() - timedelta(minutes=5))
    assert "Renewed 5 minutes ago" in card(scene)
    change(scene.sign_in_row, renewable=False)
    assert "the provider gave nothing to renew it with" in card(scene)
    change(scene.sign_in_row, expires_at=None)
    assert "The provider names no end" in card(scene)


def test_a_missing_permission_is_named_on_the_button(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    scene.sign_in_row.record_missing_scopes("files:write")
    assert "Sign in again and allow “files:write”" in card(scene)
    assert "files:write missing" in card(scene)


def test_the_card_counts_the_assignments_that_act_as_the_person(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    assert "No assignments act as admin@acme.example" in card(scene)
    scene.house.assignment("Nightly")
    assert "1 assignment acts as admin@acme.example" in card(scene)
    scene.house.assignment("Chosen elsewhere", scope="chosen")
    scene.house.assignment("Weekly")
    scene.house.assignment("At rest", enabled=False)
    assert "2 assignments act as admin@acme.example" in card(scene)


def test_a_client_that_signs_in_by_itself_gets_a_token_by_a_click(scene: StartScene) -> None:
    scene = scene(
        connection={"oauth_client_id": "acme-1", "oauth_grant": "client_credentials"}, client_credentials=True
    )
    Credential(connection=scene.connection, kind="oauth_client_secret").set("s3cret", by=scene.house.admin)
    scene.auth.add_client("acme-1", secret="s3cret")
    assert "No token has been fetched yet." in card(scene)
    assert "Get a token" in card(scene)
    scene.press("sign-in")
    assert "Signed in The client itself" in card(scene)
    assert "Get a new token" in card(scene)


def test_the_dry_run_tells_every_document_and_the_conclusion(scene: StartScene) -> None:
    scene = scene(dcr=False)
    scene.press("check-sign-in")
    text = card(scene)
    assert "The MCP server, without a token HTTP 401" in text
    assert f"{scene.auth.issuer}/.well-known/oauth-authorization-server" in text
    assert "it needs a client ID" in text
    assert "Open the guide" in text


def test_what_servers_say_of_themselves_is_shown_as_text(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    nasty = "<script>alert(1)</script>"
    step = {"what": nasty, "url": nasty, "answer": nasty, "conclusion": nasty, "good": True}
    found = {"server": {"issuer": nasty}}
    Discovery.objects.update(steps=[step], sentence=nasty, found=found)
    change(scene.sign_in_row, scopes=nasty, missing_scopes=nasty)
    Registration.objects.update(issuer=nasty, client_id=nasty)
    assert nasty not in page(scene)
    assert "&lt;script&gt;alert(1)" in page(scene)


# --- registering ---


def test_registering_again_keeps_the_history_and_makes_a_new_client(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    scene.press("register-again")
    assert "an admin asked for a new one" in card(scene)
    assert AuditEvent.objects.filter(action="connection.registration_retired", actor="admin@acme.example").exists()
    scene.sign_in(again="1")
    assert len(scene.auth.registrations) == 2
    assert Registration.objects.filter(retired_at=None).count() == 1


def test_a_client_of_ones_own_is_not_registered_again(scene: StartScene) -> None:
    scene = scene(connection={"oauth_client_id": "acme-1"})
    scene.auth.add_client("acme-1", redirect_uri=scene.auth.url)
    scene.depart()
    assert "register-again" not in buttons(scene)
    scene.press("register-again")
    assert scene.said() == ["Nothing was registered."]
    assert Registration.objects.get().retired_at is None


# --- the guide ---


def test_the_guide_names_the_redirect_uri_and_the_provider(scene: StartScene, settings: Any) -> None:
    scene = scene()
    assert f'value="{settings.PUBLIC_URL}/v1/oauth/mcp/callback"' in page(scene)
    assert "At Microsoft Entra ID" not in page(scene)
    found = {"server": {"issuer": "https://login.microsoftonline.com/acme/v2.0"}}
    row = {"server_url": scene.server.url, "found": found, "reason": "client_id_needed", "sentence": "A client ID."}
    Discovery.objects.create(connection=scene.connection, **row)
    assert "At Microsoft Entra ID" in page(scene)
    Discovery.objects.update(server_url="https://elsewhere.example.com/mcp")
    assert "At Microsoft Entra ID" not in page(scene)


# --- the look before saving ---


def test_a_form_can_be_checked_before_it_is_saved(scene: StartScene) -> None:
    scene = scene()
    Connection.objects.all().delete()
    events = AuditEvent.objects.count()
    form = {"server_url": scene.server.url, "oauth_client_secret": "marker-77aa", "authorization": "oauth"}
    text = scene.client.post(LOOK, form).content.decode()
    assert "lets us register by ourselves" in text
    assert f"{scene.auth.issuer}/.well-known/oauth-authorization-server" in text
    assert "marker-77aa" not in text
    assert (Connection.objects.count(), Discovery.objects.count(), AuditEvent.objects.count()) == (0, 0, events)
    assert scene.auth.registrations == []


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "https://"),
        ("npx -y @acme/orders", "a command that starts a server"),
        ("https://10.0.0.1/mcp", "private"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_in_a_sentence(
    acme: House, signed_in: SignedIn, url: str, sentence: str
) -> None:
    answer = signed_in(acme.admin).post(LOOK, {"server_url": url})
    assert answer.status_code == 200
    assert sentence in answer.content.decode()


def test_a_look_before_saving_is_for_those_who_may_add(
    acme: House, reviewer: User, signed_in: SignedIn, mcp_server: StartServer
) -> None:
    server = mcp_server()
    form = {"server_url": server.url}
    assert signed_in(acme.admin).post(LOOK, form).status_code == 200
    seen = len(server.requests)
    for user in (acme.member, acme.auditor, reviewer):
        assert signed_in(user).post(LOOK, form).status_code == 403
    assert signed_in(None).post(LOOK, form).status_code == 302
    assert len(server.requests) == seen
    assert signed_in(acme.admin).get(LOOK).status_code == 405


# --- the page's policy ---


def test_only_from_an_oauth_page_may_a_form_lead_to_a_provider(acme: House, signed_in: SignedIn, settings: Any) -> None:
    client = signed_in(acme.admin)

    def targets(connection: Connection) -> str:
        answer = client.get(f"/admin/connections/connection/{connection.pk}/change/")
        [found] = re.findall(r"form-action ([^;]*)", answer["Content-Security-Policy"])
        return str(found)

    oauth, plain = acme.connection(authorization="oauth"), acme.connection("Wiki")
    assert (targets(oauth), targets(plain)) == ("'self' https:", "'self'")
    client = signed_in(acme.member)  # who signs in for themselves from a page that they only read
    assert (targets(oauth), targets(plain)) == ("'self' https:", "'self'")
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    assert (targets(oauth), targets(plain)) == ("'self' https: http:", "'self'")
