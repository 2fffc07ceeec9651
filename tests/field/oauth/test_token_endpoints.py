"""Token, registration and revocation endpoints that differ from the letter, and what of it stays refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections import egress
from oauth import refreshing, token_endpoint
from oauth.errors import ProviderRefused, ProviderUnavailable
from oauth.models import Registration, SignIn, Tokens
from oauth.protocol.metadata import ServerMetadata
from oauth.protocol.token_answers import standard
from oauth.token_endpoint import Client
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_callback import changed
from tests.oauth.test_sign_in import CALLBACK, retirements, works
from tests.servers.authorization.server import approve
from tests.servers.field.answers import packed
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send


def answering(path: str, status: int, members: Any, coding: str = "") -> Rule:
    """A rule that answers every request for this path so; members that are text are sent as they are."""
    body = members.encode() if isinstance(members, str) else json.dumps(members).encode()
    headers = {"content_encoding": coding} if coding else {}
    body = packed(body, coding) if coding else body

    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == path and await respond(send, status, body, **headers)

    return answer


@pytest.fixture
def granted(authorization_server: StartAuthorizationServer) -> Callable[..., Tokens]:
    """`granted(members, status=201)`: what is made of an answer of a real token endpoint."""
    auth = authorization_server()
    server = ServerMetadata(issuer=auth.issuer, token_endpoint=f"{auth.url}/token")

    def grant(members: Any, status: int = 200) -> Tokens:
        auth.behave(answering("/token", status, members))
        client = Client("acme-1", "client_secret_post", "s3cret")
        return egress.run(token_endpoint.grant(server, client, {"grant_type": "authorization_code"}))

    return grant


# --- compressed against our wish --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_a_sign_in_at_a_server_that_compresses_everything_works(scene: StartScene, coding: str) -> None:
    scene = scene()
    auth = scene.auth
    about = {
        "issuer": auth.issuer, "authorization_endpoint": f"{auth.url}/authorize", "token_endpoint": f"{auth.url}/token",
        "registration_endpoint": f"{auth.url}/register", "code_challenge_methods_supported": ["S256"],
    }  # fmt: skip
    auth.behave(
        answering("/.well-known/oauth-authorization-server", 200, about, coding),
        answering("/token", 200, {"access_token": "a", "token_type": "bearer", "scope": "tools"}, coding),
    )
    scene.come_back(approve(scene.depart()))
    assert scene.state == ("ready", ""), scene.connection.credential_sentence


# --- any 2xx ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_tokens_come_with_any_success(granted: Callable[..., Tokens], status: int) -> None:
    assert granted({"access_token": "a", "token_type": "bearer"}, status).access_token == "a"


@pytest.mark.parametrize("status", [301, 302, 304, 400, 401, 403, 404, 500, 503])
def test_a_token_in_another_answer_is_none(granted: Callable[..., Tokens], status: int) -> None:
    with pytest.raises((ProviderRefused, ProviderUnavailable)):
        granted({"access_token": "a", "token_type": "bearer"}, status)


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("client_id", "kept"), [(4711, "4711"), ("4711", "4711"), (0, "0"), (18446744073709551615, "18446744073709551615")]
)
def test_a_registration_is_any_success_and_its_client_may_be_a_number(
    scene: StartScene, status: int, client_id: Any, kept: str
) -> None:
    scene = scene()
    scene.auth.behave(answering("/register", status, {"client_id": client_id, "client_secret": 815}))
    assert f"client_id={kept}&" in scene.depart()
    made = Registration.objects.get()
    assert (made.client_id, made.secret()) == (kept, "815")


@pytest.mark.parametrize("client_id", [True, 7.5, None, [], {"id": 7}, "", "a\n"])
def test_what_cannot_be_a_client_id_is_refused(scene: StartScene, client_id: Any) -> None:
    scene = scene()
    scene.auth.behave(answering("/register", 201, {"client_id": client_id}))
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert "client ID" in scene.said()[0]
    assert not Registration.objects.exists()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_revocation_is_any_success(scene: StartScene, status: int) -> None:
    scene = scene()
    scene.sign_in()
    scene.auth.behave(answering("/revoke", status, ""))
    scene.press("sign-out")
    assert "The provider has revoked the access" in scene.said()[-1]


# --- the words of providers -------------------------------------------------------------------------------------------

OF_A_PERSON = {"id": "U1", "access_token": "xoxp-1", "token_type": "user", "scope": "chat:write,users:read"}


@pytest.mark.parametrize(
    ("members", "token", "scopes"),
    [
        ({"ok": True, "authed_user": OF_A_PERSON}, "xoxp-1", "chat:write users:read"),
        ({"authed_user": OF_A_PERSON, "access_token": ""}, "xoxp-1", "chat:write users:read"),
        ({"ok": True, "access_token": "xoxb-1", "token_type": "bot", "scope": "a,b"}, "xoxb-1", "a b"),
        ({"ok": True, "access_token": "xoxb-1", "token_type": "bot", "authed_user": {"id": "U1"}}, "xoxb-1", None),
        ("access_token=gho_1&scope=repo&token_type=bearer", "gho_1", "repo"),
        ({"access_token": "a", "scope": "a,b"}, "a", "a,b"),
        ({"access_token": "a", "token_type": "BearerToken"}, "a", None),
        ({"access_token": "a", "token_type": "bearer "}, "a", None),
        ('\ufeff{"access_token": "a", "token_type": "bearer"}', "a", None),
        ("\ufeffaccess_token=a&scope=repo", "a", "repo"),
    ],
    ids=[
        "of a person",
        "empty beside it",
        "of a bot",
        "of a bot for a person",
        "a form",
        "a comma is a character",
        "Apigee",
        "with a space",
        "with a byte order mark",
        "a form with a byte order mark",
    ],
)
def test_tokens_of_the_field_are_read(
    granted: Callable[..., Tokens], members: Any, token: str, scopes: str | None
) -> None:
    tokens = granted(members)
    assert (tokens.access_token, tokens.scopes) == (token, scopes)


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://github.com/login/oauth/access_token", "repo gist"),
        ("https://slack.com/api/oauth.v2.user.access", "repo gist"),
        ("https://github.com.example.org/login/oauth/access_token", "repo,gist"),
        ("https://evil-github.com/token", "repo,gist"),
    ],
)
def test_a_provider_is_recognized_by_its_host(url: str, scope: str) -> None:
    assert standard({"access_token": "a", "scope": "repo,gist"}, url)["scope"] == scope


@pytest.mark.parametrize("kind", ["user", "bot", "mac", "DPoP", "N_A", "MACToken", "bearer mac", "token"])
@pytest.mark.parametrize("mark", [{}, {"ok": "yes"}, {"authed_user": "U1"}])
def test_another_kind_of_token_stays_refused(granted: Callable[..., Tokens], kind: str, mark: dict[str, str]) -> None:
    with pytest.raises(ProviderUnavailable) as failure:
        granted({"access_token": "a", "token_type": kind, **mark})
    assert failure.value.code == "bad_token_answer"


@pytest.mark.parametrize(
    ("members", "status", "meaning"),
    [
        ("error=bad_verification_code&error_description=x", 200, "invalid_grant"),
        ({"error": "bad_refresh_token"}, 200, "invalid_grant"),
        ({"ok": False, "error": "invalid_code"}, 200, "invalid_grant"),
        ({"ok": False, "error": "bad_client_secret"}, 201, "invalid_client"),
        ({"error": {"code": "invalid_grant", "message": "s3cret detail"}}, 400, "invalid_grant"),
        ({"error": {"code": 190, "message": "s3cret detail"}}, 400, ""),
        ({"error": {"type": "invalid_grant"}}, 400, "invalid_grant"),
        ({"type": "error", "error": {"type": "invalid_grant", "message": "x"}}, 400, "invalid_grant"),
        ({"error": ["invalid_grant"]}, 400, "invalid_grant"),
        ({"errors": [{"code": "invalid_grant", "message": "x"}]}, 400, "invalid_grant"),
        ({"error_code": "invalid_grant", "msg": "x"}, 400, "invalid_grant"),
        ({"errorCode": "invalid_client", "errorSummary": "x"}, 401, "invalid_client"),
        ({"code": 400, "error_code": "refresh_token_not_found"}, 400, "invalid_grant"),
        ({"error": "invalid_grant "}, 400, "invalid_grant"),
        ({"error": "INVALID_GRANT"}, 400, "invalid_grant"),
        ({"error": "InvalidGrant"}, 400, "invalid_grant"),
        ({"error": "invalid-grant"}, 400, "invalid_grant"),
        ('\ufeff{"error": "invalid_grant"}', 400, "invalid_grant"),
        ({"code": "invalid_grant", "message": "s3cret"}, 400, "invalid_grant"),
        ({"error": "invalid_grant", "code": "invalid_grant"}, 400, "invalid_grant"),
        ({"error": "s3cret"}, 400, ""),
        ({"error": "Call 0900 12345"}, 400, ""),
        ({"error": ["invalid_grant", "invalid_client"]}, 400, ""),
        ({"code": "whatever", "message": "x"}, 400, ""),
    ],
)
def test_an_error_is_an_error_in_any_words(
    granted: Callable[..., Tokens], members: Any, status: int, meaning: str
) -> None:
    with pytest.raises(ProviderRefused) as failure:
        granted(members, status)
    assert failure.value.meaning == meaning
    assert "s3cret" not in failure.value.sentence, "it is the client's secret"


TOLD = {
    "Entra": {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."},
    "Notion": {"error": "invalid_request", "error_description": "Client must not use multiple methods"},
    "a message": {"error": {"code": 190, "message": "Session has expired"}},
    "another code": {"error": "invalid_target", "detail": "The resource does not match"},
    "no code": {"message": "No such tenant"},
}
SAID = {
    "Okta": ({"errorCode": "E0000011", "errorSummary": "Invalid token provided"}, "Invalid token provided"),
    "Supabase": ({"code": 400, "error_code": "bad_jwt", "msg": "No such token"}, "No such token"),
    "several": ({"errors": [{"message": "No URI"}, {"message": "No name"}]}, "No URI; No name"),
    "fields": (
        {"detail": [{"loc": ["body", "client_name"], "msg": "field required"}]},
        "body.client_name: field required",
    ),
    "Apigee": ({"fault": {"faultstring": "Invalid client", "detail": {"errorcode": "x"}}}, "Invalid client"),
    "words as the error": ({"error": "client exists"}, "client exists"),
    "a title": ({"title": "Validation", "status": 400}, "Validation"),
    "a list as the description": ({"error": "x", "error_description": ["Too old"]}, "Too old"),
}


@pytest.mark.parametrize(("members", "words"), SAID.values(), ids=SAID.keys())
def test_the_words_of_a_refusal_are_found_where_providers_put_them(
    granted: Callable[..., Tokens], members: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProviderRefused) as failure:
        granted(members, 400)
    assert failure.value.sentence.endswith(f"In the provider's own words: “{words}”.")


@pytest.mark.parametrize("members", TOLD.values(), ids=TOLD.keys())
def test_the_words_of_a_refusal_are_quoted(granted: Callable[..., Tokens], members: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused) as failure:
        granted(members, 400)
    error = members.get("error")
    inner = error.get("message") if isinstance(error, dict) else None
    words = str(members.get("error_description") or inner or members.get("message") or members.get("detail"))
    end = "" if words.endswith(".") else "."
    assert failure.value.sentence.endswith(f"In the provider's own words: “{words}”{end}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("the secret s3cret-of-acme is bad", "the secret [left out] is bad"),
        ("got Basic YWNtZS0xOnMzY3JldC1vZi1hY21l", "got Basic [left out]"),
        ("code c0de-of-acme was used", "code [left out] was used"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln expired", "[left out] expired"),
        ("no\x00thing\u202e", "no thing"),
        ("x" * 1000, "x" * 160 + "…"),
        ("  ", ""),
    ],
)
def test_no_secret_and_nothing_unseen_is_quoted(
    authorization_server: StartAuthorizationServer, words: str, told: str
) -> None:
    auth = authorization_server()
    server = ServerMetadata(issuer=auth.issuer, token_endpoint=f"{auth.url}/token")
    auth.behave(answering("/token", 400, {"error": "invalid_request", "error_description": words}))
    fields = {"grant_type": "authorization_code", "code": "c0de-of-acme"}
    with pytest.raises(ProviderRefused) as failure:
        egress.run(token_endpoint.grant(server, Client("acme-1", "client_secret_post", "s3cret-of-acme"), fields))
    quotation = f" In the provider's own words: “{told}”." if told else ""
    assert failure.value.sentence == f"The provider did not understand our request.{quotation}"


def test_a_code_that_is_refused_is_not_a_sign_in_that_has_ended(granted: Callable[..., Tokens]) -> None:
    with pytest.raises(ProviderRefused) as failure:
        granted({"error": "invalid_grant", "error_description": "AADSTS65001: no consent"}, 400)
    assert failure.value.meaning == "invalid_grant"
    assert failure.value.sentence.startswith("The provider did not take the code of this sign-in")
    assert "AADSTS65001" in failure.value.sentence


def test_what_the_browser_brings_is_never_quoted(scene: StartScene) -> None:
    scene = scene()
    callback = changed(approve(scene.depart()), code=None, error="access_denied", error_description="Call 0900 12345")
    page = scene.come_back(callback).content.decode()
    assert "0900" not in page
    assert "was not allowed" in page


# --- registrations ----------------------------------------------------------------------------------------------------


HOSTS = "Policy 'Trusted Hosts' rejected request to client-registration service."
UNREGISTERED: dict[str, tuple[int, Any, str]] = {
    "401": (401, "", "It registers nobody without a token of its own."),
    "401 in words": (
        401, {"error": "invalid_token", "error_description": "Initial access token required"},
        "“Initial access token required”",
    ),
    "Keycloak": (403, {"error": "insufficient_scope", "error_description": HOSTS}, f"“{HOSTS}”"),
    "404": (404, "", "There is no registration at the address"),
    "405": (405, "<html>", "There is no registration at the address"),
    "a redirect URI": (
        400, {"error": "invalid_request", "error_description": "Invalid redirect_uri: not in the allowed list"},
        "“Invalid redirect_uri: not in the allowed list”",
    ),
    "a redirect URI by its code": (400, {"error": "invalid_redirect_uri"}, "It does not allow our redirect URI."),
    "an object": (400, {"error": {"message": "redirect_uris not allowed"}}, "“redirect_uris not allowed”"),
    "several": (400, {"errors": [{"message": "redirect_uris must be https"}]}, "“redirect_uris must be https”"),
    "fields": (422, {"detail": [{"loc": ["body", "client_name"], "msg": "required"}]}, "“body.client_name: required”"),
    "Supabase": (400, {"msg": "Registration is disabled"}, "“Registration is disabled”"),
    "Okta": (401, {"errorCode": "E0000005", "errorSummary": "Invalid session"}, "“Invalid session”"),
    "in words only": (409, {"error": "client exists"}, "“client exists”"),
    "in a 200": (200, {"error": "access_denied", "error_description": "Closed"}, "“Closed”"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "members", "told"), UNREGISTERED.values(), ids=UNREGISTERED.keys())
def test_a_refused_registration_says_why_and_what_to_do(
    scene: StartScene, status: int, members: Any, told: str
) -> None:
    scene = scene()
    scene.auth.behave(answering("/register", status, members))
    scene.press("sign-in")
    sentence = scene.said()[0]
    assert told in sentence, sentence
    assert "secret" not in sentence
    assert "Try again" not in sentence
    assert not Registration.objects.exists()


@pytest.mark.parametrize("status", [429, 503])
def test_a_registration_that_is_put_off_is_tried_again_later(scene: StartScene, status: int) -> None:
    scene = scene()
    scene.auth.behave(answering("/register", status, ""))
    scene.press("sign-in")
    assert "Try again in a while" in scene.said()[0]


@pytest.mark.parametrize("words", ["Only mcp:read and mcp:write scopes are supported.", "scope is required", ""])
def test_a_server_that_registers_nobody_without_scopes_is_told_them(scene: StartScene, words: str) -> None:
    async def wants_scopes(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        if request.path != "/register" or json.loads(request.body).get("scope"):
            return False
        refusal = {"error": "invalid_client_metadata", "error_description": words}
        return await respond(send, 400, json.dumps(refusal).encode())

    scene = scene(protected={"scopes": ["mcp:read", "mcp:write"]})
    scene.auth.behave(wants_scopes)
    scene.come_back(approve(scene.depart()))
    assert [made.get("scope") for made in scene.auth.registrations] == [None, "mcp:read mcp:write"]
    assert scene.state == ("ready", "")


def test_a_server_that_refuses_more_than_the_scopes_is_asked_twice(scene: StartScene) -> None:
    scene = scene(protected={"scopes": ["mcp:read"]})
    refusal = {"error": "invalid_client_metadata", "error_description": "No native clients"}
    scene.auth.behave(answering("/register", 400, refusal))
    scene.press("sign-in")
    assert "“No native clients”" in scene.said()[0]
    assert len(scene.auth.registrations) == 2


@pytest.mark.parametrize("echoed", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("listed", [None, ["none"], ["client_secret_basic", "none"]], ids=["unsaid", "none", "both"])
def test_a_method_with_a_secret_that_was_not_given_is_none(
    scene: StartScene, echoed: str, listed: list[str] | None
) -> None:
    scene = scene(auth_methods=listed)
    answer = {"client_id": "ours", "token_endpoint_auth_method": echoed, "client_secret": None}
    scene.auth.behave(answering("/register", 201, answer))
    scene.depart()
    assert Registration.objects.get().auth_method == "none"


@pytest.mark.parametrize("secret", [None, "", 7.5])
def test_a_server_that_wants_a_secret_and_gives_none_is_told_so(scene: StartScene, secret: Any) -> None:
    scene = scene(auth_methods=["client_secret_basic"])
    answer = {"client_id": "ours", "token_endpoint_auth_method": "client_secret_basic", "client_secret": secret}
    scene.auth.behave(answering("/register", 201, answer))
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert "registered us for client_secret_basic, but gave us no secret" in scene.said()[0]
    assert not Registration.objects.exists()


def test_a_client_that_may_only_ask_for_registered_scopes_is_registered_once_more(scene: StartScene) -> None:
    scene = scene(holds_to_scopes=True, protected={"scopes": ["files:read", "files:write"]})
    answer = scene.come_back(approve(scene.depart()))
    assert answer.status_code == 302
    scene.come_back(approve(answer["Location"]))
    assert [made.get("scope") for made in scene.auth.registrations] == [None, "files:read files:write"]
    assert retirements() == ["scopes_needed"]
    scene.probe()
    assert scene.state == ("ready", "")
    scene.sign_in(again="1")
    assert len(scene.auth.registrations) == 2


def test_scopes_that_the_provider_does_not_know_are_told_after_one_more_try(scene: StartScene) -> None:
    scene = scene(protected={"scopes": ["files:read"]})
    again = scene.come_back(changed(approve(scene.depart()), code=None, error="invalid_scope"))
    answer = scene.come_back(changed(approve(again["Location"]), code=None, error="invalid_scope"))
    assert answer.status_code == 400
    assert "does not know a scope" in answer.content.decode()
    assert len(scene.auth.registrations) == 2


@pytest.mark.parametrize("where", ["no scopes", "token endpoint", "own client"])
def test_a_refused_scope_that_no_registration_helps_is_told_at_once(scene: StartScene, where: str) -> None:
    own = {"oauth_client_id": "acme-1"} if where == "own client" else {}
    scene = scene(connection=own, protected={} if where == "no scopes" else {"scopes": ["files:read"]})
    scene.auth.add_client("acme-1", redirect_uri=CALLBACK)
    callback = approve(scene.depart())
    if where == "token endpoint":
        scene.auth.fail_tokens_with(400, "invalid_scope")
    else:
        callback = changed(callback, code=None, error="invalid_scope")
    assert scene.come_back(callback).status_code == 400
    assert len(scene.auth.registrations) == (0 if own else 1)


# --- renewals that are refused ----------------------------------------------------------------------------------------


def renewal(scene: Scene, *, expired: bool = True) -> None:
    """Let the next renewal be due now, and make it."""
    ends = timezone.now() + timedelta(seconds=-1 if expired else 3600)
    SignIn.objects.update(expires_at=ends, not_before=None)
    refreshing.attend(scene.sign_in_row.pk)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "unauthorized_client"), (400, "invalid_request"), (403, "access_denied"), (400, "interaction_required"),
        (200, "invalid_request"), (400, None),
    ],
)  # fmt: skip
def test_a_definite_refusal_means_to_sign_in_again_the_second_time(
    scene: StartScene, status: int, error: str | None
) -> None:
    scene = scene()
    works(scene)
    scene.auth.behave(answering("/token", status, {"error": error} if error else "<h1>No</h1>"))
    renewal(scene)
    assert scene.state == ("expired", "refresh_failing")
    renewal(scene)
    assert scene.state == ("refused", "sign_in_revoked")
    assert scene.connection.next_step.startswith("Press Sign in again")
    scene.auth.behave()
    assert scene.sign_in(again="1").status_code == 302
    assert scene.state == ("ready", "")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, None),
        (403, None),
        (429, "invalid_request"),
        (400, "temporarily_unavailable"),
        (200, "ratelimited"),
        (400, "rate_limited"),
        (400, "too_many_requests"),
        (400, "RateLimitExceeded"),
        (403, "Service Unavailable"),
    ],
)
def test_trouble_of_the_provider_never_ends_a_sign_in(scene: StartScene, status: int, error: str | None) -> None:
    scene = scene()
    works(scene)
    scene.auth.behave(answering("/token", status, {"error": error} if error else "<h1>No</h1>"))
    for _ in range(3):
        renewal(scene)
    assert scene.state == ("expired", "refresh_failing")
    scene.auth.behave()
    renewal(scene)
    assert scene.state == ("ready", "")


def test_two_refusals_end_nothing_before_the_token_ends_or_with_trouble_between_them(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    for status, error, expired in [
        (400, "unauthorized_client", False), (400, "unauthorized_client", False), (503, "x", True),
        (400, "unauthorized_client", True), (503, "x", True),
    ]:  # fmt: skip
        scene.auth.fail_tokens_with(status, error)
        renewal(scene, expired=expired)
        assert scene.sign_in_row.ended_at is None
    scene.auth.fail_tokens_with(200)
    renewal(scene)
    assert scene.sign_in_row.generation == 2
    assert scene.sign_in_row.ended_because == ""


def test_who_refuses_is_not_asked_eight_times_in_three_minutes(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    scene.auth.fail_tokens_with(400, "invalid_request")
    begun, asked = timezone.now(), scene.auth.count("/token")
    waited = timedelta(0)
    while waited < timedelta(minutes=3):
        renewal(scene, expired=False)
        waited += scene.sign_in_row.not_before - timezone.now()
    assert 2 <= scene.auth.count("/token") - asked < 8
    assert timezone.now() - begun < timedelta(minutes=1)
