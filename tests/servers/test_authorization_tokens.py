"""Sign-ins and tokens of our test authorization servers: as strict, and as odd, as the real ones."""

from __future__ import annotations

import threading
from urllib.parse import parse_qsl

import httpx2
import pytest

from tests.servers.authorization.by_hand import (
    BACK,
    CHALLENGE,
    VERIFIER,
    asking,
    come_back,
    exchange,
    refresh,
    register,
    sign_in,
)
from tests.servers.authorization.metadata import OAUTH
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer


def test_a_client_registers_signs_in_and_refreshes(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    answer = come_back(approve(asking(auth, client_id, scope="read", resource="https://mcp.example.com/mcp")))
    assert (answer["state"], answer["iss"]) == ("xyz", auth.issuer)
    tokens = exchange(auth, http, client_id, answer["code"]).json()
    assert (tokens["expires_in"], tokens["scope"], tokens["token_type"]) == (3600, "read", "Bearer")
    assert auth.token(tokens["access_token"]).resource == "https://mcp.example.com/mcp"
    renewed = refresh(auth, http, client_id, tokens["refresh_token"]).json()
    assert renewed["refresh_token"] != tokens["refresh_token"]
    assert auth.access_tokens == [tokens["access_token"], renewed["access_token"]]
    assert (auth.count("/register"), auth.count("/token", grant_type="refresh_token")) == (1, 1)
    assert auth.registrations[0]["redirect_uris"] == [BACK]
    assert auth.authorizations[0]["code_challenge"] == CHALLENGE
    assert auth.token_requests[0]["code_verifier"] == VERIFIER


def test_an_old_refresh_token_ends_the_whole_sign_in(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    first, other = sign_in(auth, http, client_id), sign_in(auth, http, client_id)
    second = refresh(auth, http, client_id, first["refresh_token"]).json()
    assert refresh(auth, http, client_id, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(auth, http, client_id, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert auth.reused == [first["refresh_token"]]
    assert auth.access_tokens == [other["access_token"]], "the other sign-in lives on"


def test_a_lenient_server_only_refuses_the_old_refresh_token(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(revoke_on_reuse=False)
    client_id = register(auth, http)["client_id"]
    first = sign_in(auth, http, client_id)
    second = refresh(auth, http, client_id, first["refresh_token"]).json()
    assert refresh(auth, http, client_id, first["refresh_token"]).status_code == 400
    assert refresh(auth, http, client_id, second["refresh_token"]).status_code == 200


def test_without_rotation_the_refresh_token_stays_and_is_not_sent_again(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(rotate=False)
    client_id = register(auth, http)["client_id"]
    first = sign_in(auth, http, client_id)
    assert "refresh_token" not in refresh(auth, http, client_id, first["refresh_token"]).json()
    assert refresh(auth, http, client_id, first["refresh_token"]).status_code == 200


def test_a_code_is_taken_once_and_a_second_time_ends_the_sign_in(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    code = come_back(approve(asking(auth, client_id)))["code"]
    assert exchange(auth, http, client_id, code).status_code == 200
    assert exchange(auth, http, client_id, code).json()["error"] == "invalid_grant"
    assert auth.access_tokens == []


def test_the_wrong_verifier_redirect_uri_or_client_gets_no_token(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id, stranger = register(auth, http)["client_id"], register(auth, http)["client_id"]
    code = come_back(approve(asking(auth, client_id)))["code"]
    assert exchange(auth, http, client_id, code, code_verifier="x" * 43).status_code == 400
    assert exchange(auth, http, client_id, code, redirect_uri=f"{BACK}/").status_code == 400
    assert exchange(auth, http, stranger, code).status_code == 400
    assert exchange(auth, http, client_id, code).status_code == 200


def test_a_foreign_redirect_uri_or_a_missing_challenge_is_refused(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    assert http.get(asking(auth, client_id, redirect_uri=f"{BACK}x")).status_code == 400
    assert http.get(asking(auth, "nobody")).status_code == 400
    plain = http.get(asking(auth, client_id, code_challenge_method="plain"))
    assert come_back(plain.headers["location"])["error"] == "invalid_request"


def test_token_answers_may_be_form_encoded_or_without_a_lifetime(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(form_encoded=True, expires_in=None)
    client_id = register(auth, http)["client_id"]
    answer = exchange(auth, http, client_id, come_back(approve(asking(auth, client_id)))["code"])
    assert answer.headers["content-type"].startswith("application/x-www-form-urlencoded")
    tokens = dict(parse_qsl(answer.text))
    assert tokens.keys() == {"access_token", "token_type", "refresh_token"}
    assert auth.access_tokens == [tokens["access_token"]]


def test_a_refresh_token_may_need_offline_access_or_not_exist(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(offline_access=True, scopes_supported=["read"])
    assert http.get(f"{auth.origin}{OAUTH}").json()["scopes_supported"] == ["read", "offline_access"]
    client_id = register(auth, http)["client_id"]
    assert "refresh_token" not in sign_in(auth, http, client_id, scope="read")
    assert "refresh_token" in sign_in(auth, http, client_id, scope="read offline_access")
    auth.refresh = False
    assert "refresh_token" not in sign_in(auth, http, client_id, scope="read offline_access")


def test_less_may_be_granted_than_was_asked_for(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(grants_scopes=["read"])
    tokens = sign_in(auth, http, register(auth, http)["client_id"], scope="read write")
    assert tokens["scope"] == "read"
    assert auth.token(tokens["access_token"]).scopes == ["read"]


def test_access_tokens_expire_and_everything_can_be_revoked(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(expires_in=-1)
    client_id = register(auth, http)["client_id"]
    assert sign_in(auth, http, client_id)["expires_in"] == -1
    assert auth.access_tokens == []
    auth.expires_in = 3600
    tokens = sign_in(auth, http, client_id)
    assert auth.access_tokens == [tokens["access_token"]]
    auth.expire_access_tokens()
    assert auth.access_tokens == []
    tokens = refresh(auth, http, client_id, tokens["refresh_token"]).json()
    auth.revoke_everything()
    assert auth.access_tokens == auth.refresh_tokens == []
    assert refresh(auth, http, client_id, tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_revoked_token_ends_its_sign_in(authorization_server: StartAuthorizationServer, http: httpx2.Client) -> None:
    auth = authorization_server()
    client = register(auth, http, "client_secret_basic")
    pair = (client["client_id"], client["client_secret"])
    tokens = auth.issue(client["client_id"])
    form = {"token": tokens.refresh_token, "token_type_hint": "refresh_token"}
    assert http.post(f"{auth.url}/revoke", data=form, auth=(pair[0], "wrong")).status_code == 401
    assert http.post(f"{auth.url}/revoke", data=form, auth=pair).status_code == 200
    assert auth.revoked == [tokens.refresh_token]
    assert auth.access_tokens == []


def test_resource_may_be_rejected_and_any_answer_forced(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(reject_resource=True)
    client_id = register(auth, http)["client_id"]
    token = auth.issue(client_id).refresh_token
    rejected = refresh(auth, http, client_id, token, resource="https://mcp.example.com/mcp")
    assert (rejected.status_code, rejected.json()) == (400, {"error": "invalid_target"})
    auth.fail_tokens_with(503, times=1)
    assert refresh(auth, http, client_id, token).status_code == 503
    assert refresh(auth, http, client_id, token).status_code == 200
    auth.fail_tokens_with(400, "invalid_grant")
    assert refresh(auth, http, client_id, token).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("taken", [False, True])
def test_a_refresh_is_held_in_flight(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, taken: bool
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    token = auth.issue(client_id).refresh_token
    auth.hold_tokens(taken=taken)
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(refresh(auth, http, client_id, token).status_code))
    caller.start()
    auth.wait_until_held()
    assert (auth.held, answers, token in auth.refresh_tokens) == (1, [], not taken)
    auth.release_tokens()
    caller.join()
    assert (auth.held, answers, token in auth.refresh_tokens) == (0, [200], False)


def test_who_leaves_while_held_was_never_there(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client_id = register(auth, http)["client_id"]
    token = auth.issue(client_id).refresh_token
    auth.hold_tokens()
    with pytest.raises(httpx2.ReadTimeout):
        http.post(
            f"{auth.url}/token",
            data={"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id},
            timeout=0.2,
        )
    auth.wait_until_held(0)
    auth.release_tokens()
    assert auth.refresh_tokens == [token]
    assert refresh(auth, http, client_id, token).status_code == 200
