"""The authorization servers of our own tests, driven by plain HTTP: they must be as strict as the real ones."""

from __future__ import annotations

import hashlib
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.servers.authorization.behaviour import SIGNED
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import AuthorizationServer, approve
from tests.servers.fixtures import StartAuthorizationServer, StartServer

BACK = "http://127.0.0.1:1/v1/oauth/mcp/callback"
VERIFIER = "a-verifier-of-more-than-forty-three-characters-of-text"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
OAUTH, OIDC = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=10) as client:
        yield client


def register(auth: AuthorizationServer, http: httpx2.Client, method: str = "none") -> dict[str, Any]:
    metadata = {"redirect_uris": [BACK], "token_endpoint_auth_method": method, "application_type": "web"}
    return http.post(f"{auth.url}/register", json=metadata).json()


def asking(auth: AuthorizationServer, client_id: str, **more: str) -> str:
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": BACK,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "state": "xyz",
    }
    return f"{auth.url}/authorize?{urlencode(parameters | more)}"


def come_back(callback: str) -> dict[str, str]:
    assert callback.startswith(f"{BACK}?"), callback
    return {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}


def exchange(auth: AuthorizationServer, http: httpx2.Client, client_id: str, code: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    return http.post(f"{auth.url}/token", data=form | {"client_id": client_id} | more)


def refresh(auth: AuthorizationServer, http: httpx2.Client, client_id: str, token: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id}
    return http.post(f"{auth.url}/token", data=form | more)


def sign_in(auth: AuthorizationServer, http: httpx2.Client, client_id: str, **more: str) -> dict[str, Any]:
    code = come_back(approve(asking(auth, client_id, **more)))["code"]
    return exchange(auth, http, client_id, code).json()


# --- the way of most --------------------------------------------------------------------------------------------------


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


# --- who is a client --------------------------------------------------------------------------------------------------


def test_only_clients_known_beforehand_get_in_without_registration(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(dcr=False)
    assert "registration_endpoint" not in http.get(f"{auth.origin}{OAUTH}").json()
    assert http.post(f"{auth.url}/register", json={}).status_code == 404
    auth.add_client("client 1", secret="s3cret:+", redirect_uri=BACK)
    code = come_back(approve(asking(auth, "client 1")))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    for proof in [{}, {"auth": ("client+1", "wrong")}]:
        assert http.post(f"{auth.url}/token", data=form, **proof).status_code == 401
    assert http.post(f"{auth.url}/token", data=form, auth=("client+1", "s3cret%3A%2B")).status_code == 200
    auth.forget_clients()
    assert http.post(f"{auth.url}/token", data=form, auth=("client+1", "s3cret%3A%2B")).status_code == 401


def test_a_client_is_held_to_its_method_and_to_one_proof(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server()
    client = register(auth, http, "client_secret_basic")
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": client["client_id"]}
    pair = (client["client_id"], client["client_secret"])
    assert http.post(f"{auth.url}/token", data=form, auth=pair).json()["error"] == "invalid_grant"
    posted = form | {"client_secret": client["client_secret"]}
    assert http.post(f"{auth.url}/token", data=posted).json()["error"] == "invalid_client"
    assert http.post(f"{auth.url}/token", data=posted, auth=pair).json()["error"] == "invalid_client"


def test_registration_refuses_an_unsupported_method_and_may_name_none(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(auth_methods=["client_secret_post"], echo_method=False)
    assert register(auth, http, "none")["error"] == "invalid_client_metadata"
    client = register(auth, http, "client_secret_post")
    assert "token_endpoint_auth_method" not in client
    answer = refresh(auth, http, client["client_id"], "x", client_secret=client["client_secret"])
    assert answer.json()["error"] == "invalid_grant"


def test_a_registered_secret_expires(authorization_server: StartAuthorizationServer, http: httpx2.Client) -> None:
    auth = authorization_server(secret_expires_at=int(time.time()) - 1)
    client = register(auth, http, "client_secret_post")
    assert client["client_secret_expires_at"] == auth.secret_expires_at
    answer = refresh(auth, http, client["client_id"], "x", client_secret=client["client_secret"])
    assert answer.json()["error"] == "invalid_client"


def test_a_client_introduces_itself_by_its_document(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(cimd=True, dcr=False)
    assert http.get(f"{auth.origin}{OAUTH}").json()["client_id_metadata_document_supported"] is True
    client_id = "https://duvo.example/client.json"
    assert http.get(asking(auth, client_id)).status_code == 400
    document = {"client_id": client_id, "client_name": "Duvo", "redirect_uris": [BACK]}
    auth.know_document(client_id, document | {"client_id": "https://else.example/"})
    assert http.get(asking(auth, client_id)).status_code == 400
    auth.know_document(client_id, document)
    tokens = sign_in(auth, http, client_id)
    assert refresh(auth, http, client_id, tokens["refresh_token"]).status_code == 200


def test_a_document_is_fetched_from_loopback(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, http: httpx2.Client
) -> None:
    auth, home = authorization_server(cimd=True), mcp_server("json")
    client_id = f"{home.origin}/client.json"
    from tests.servers.kinds import answers

    document = f'{{"client_id": "{client_id}", "client_name": "Duvo", "redirect_uris": ["{BACK}"]}}'
    home.behave(answers(200, document.encode()))
    assert sign_in(auth, http, client_id)["access_token"]
    auth.know_document("https://duvo.example/client.json", at=client_id)
    assert http.get(asking(auth, "https://duvo.example/client.json")).status_code == 400, "another client's document"


def test_a_client_gets_tokens_of_its_own_by_each_method(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(
        client_credentials=True, auth_methods=["client_secret_basic", "client_secret_post", SIGNED]
    )
    key = ECKey.generate_key("P-256", {"kid": "1"})
    auth.add_client("robot", secret="s3cret")
    auth.add_client("signer", jwks={"keys": [key.as_dict(private=False)]})
    form = {"grant_type": "client_credentials", "scope": "read", "resource": "https://mcp.example.com/mcp"}
    basic = http.post(f"{auth.url}/token", data=form, auth=("robot", "s3cret")).json()
    post = http.post(f"{auth.url}/token", data=form | {"client_id": "robot", "client_secret": "s3cret"}).json()
    claims = {"iss": "signer", "sub": "signer", "aud": auth.issuer, "jti": "1", "exp": int(time.time()) + 60}
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

    def signed(**changed: Any) -> httpx2.Response:
        assertion = jwt.encode({"alg": "ES256", "kid": "1"}, claims | changed, key)
        return http.post(
            f"{auth.url}/token", data=form | {"client_assertion_type": kind, "client_assertion": assertion}
        )

    for tokens in (basic, post, signed().json()):
        assert tokens["scope"] == "read"
        assert "refresh_token" not in tokens
        assert auth.token(tokens["access_token"]).resource == "https://mcp.example.com/mcp"
    assert [claim["jti"] for claim in auth.assertions] == ["1"]
    for wrong in ({}, {"jti": "2", "aud": f"{auth.url}/token"}, {"jti": "2", "exp": 1}, {"jti": "2", "iss": "robot"}):
        assert signed(**wrong).json()["error"] == "invalid_client", wrong


# --- tokens as they are in the field ----------------------------------------------------------------------------------


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


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("oauth", f"{OAUTH}/tenants/acme"),
        ("oidc_inserted", f"{OIDC}/tenants/acme"),
        ("oidc_appended", f"/tenants/acme{OIDC}"),
    ],
)
def test_metadata_of_an_issuer_with_a_path_is_in_one_place_only(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, kind: str, place: str
) -> None:
    auth = authorization_server(issuer_path="/tenants/acme", metadata=kind)
    found = http.get(f"{auth.origin}{place}").json()
    assert found["issuer"] == auth.issuer == f"{auth.origin}/tenants/acme"
    others = {OAUTH, OIDC, f"{OAUTH}/tenants/acme", f"{OIDC}/tenants/acme", f"/tenants/acme{OIDC}"} - {place}
    assert {http.get(f"{auth.origin}{other}").status_code for other in others} == {404}
    assert sign_in(auth, http, register(auth, http)["client_id"])["access_token"]
    assert auth.count("/token", grant_type="authorization_code") == 1


@pytest.mark.parametrize("hostile", ["huge", "deep", "html", "redirect", "not_json", "private_endpoint"])
def test_metadata_may_be_hostile(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, hostile: str
) -> None:
    auth = authorization_server(hostile=hostile)
    with http.stream("GET", f"{auth.origin}{OAUTH}") as answer:
        assert answer.status_code == (302 if hostile == "redirect" else 200)
    if hostile == "private_endpoint":
        assert http.get(f"{auth.origin}{OAUTH}").json()["token_endpoint"].startswith("http://169.254.169.254")


def test_metadata_may_lack_pkce_or_name_another_issuer(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(pkce=False, metadata_issuer="wrong")
    found = http.get(f"{auth.origin}{OAUTH}").json()
    assert "code_challenge_methods_supported" not in found
    assert found["issuer"] != auth.issuer
    auth.metadata = "none"
    assert http.get(f"{auth.origin}{OAUTH}").status_code == 404


# --- what comes back from the person ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iss", "advertised", "sent"),
    [
        ("right", True, "{}"),
        ("wrong", True, "https://elsewhere.example"),
        ("absent", None, None),
        ("absent_but_advertised", True, None),
    ],
)
def test_the_issuer_in_the_answer(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, iss: str, advertised: bool, sent: str | None
) -> None:
    auth = authorization_server(iss=iss)
    found = http.get(f"{auth.origin}{OAUTH}").json()
    assert found.get("authorization_response_iss_parameter_supported") is advertised
    client_id = register(auth, http)["client_id"]
    expected = sent and sent.format(auth.issuer)
    assert come_back(approve(asking(auth, client_id))).get("iss") == expected
    auth.deny = True
    refusal = come_back(approve(asking(auth, client_id)))
    assert (refusal["error"], refusal["state"], refusal.get("iss")) == ("access_denied", "xyz", expected)


def test_a_person_allows_or_denies_on_a_page(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(consent="page")
    client_id = register(auth, http)["client_id"]
    page = http.get(asking(auth, client_id, scope="read"), follow_redirects=True)
    assert "Allow access?" in page.text
    assert come_back(approve(asking(auth, client_id)))["code"]
    refusal = come_back(approve(asking(auth, client_id), decision="deny"))
    assert refusal == {"error": "access_denied", "state": "xyz", "iss": auth.issuer}


def test_a_mix_up_brings_the_code_of_another_server(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    honest = authorization_server()
    attacker = authorization_server(mixes_up_with=honest)
    register(honest, http)
    client_id = register(attacker, http)["client_id"]
    answer = come_back(approve(asking(attacker, client_id)))
    assert (answer["iss"], answer["state"]) == (honest.issuer, "xyz")
    assert exchange(attacker, http, client_id, answer["code"]).status_code == 400


# --- the server behind it ---------------------------------------------------------------------------------------------

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {}}}


@pytest.mark.parametrize(("metadata", "place"), [("header", ""), ("path", "/mcp"), ("root", ""), ("none", None)])
def test_a_protected_server_says_where_its_tokens_come_from(
    authorization_server: StartAuthorizationServer,
    mcp_server: StartServer,
    http: httpx2.Client,
    metadata: str,
    place: str | None,
) -> None:
    auth, server = authorization_server(), mcp_server("dual")
    protect(server, auth, scopes=["read"], metadata=metadata)
    refusal = http.post(server.url, json=CALL)
    assert refusal.status_code == 401
    challenge = refusal.headers["www-authenticate"]
    assert 'scope="read"' in challenge
    assert ("resource_metadata=" in challenge) is (metadata == "header")
    hint = challenge.partition('resource_metadata="')[2].partition('"')[0]
    found = http.get(hint or f"{server.origin}/.well-known/oauth-protected-resource{place}")
    if metadata == "none":
        assert found.status_code == 404
    else:
        assert found.json()["authorization_servers"] == [auth.issuer]
        assert found.json()["resource"] == server.url


def test_only_valid_tokens_for_this_server_and_this_tool_get_in(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, http: httpx2.Client
) -> None:
    auth, server = authorization_server(), mcp_server("dual")
    protect(server, auth, on="calls", insufficient={"add": "calculate"})

    def call(scopes: list[str], resource: str | None = None) -> httpx2.Response:
        token = auth.issue("anybody", scopes, resource=resource).access_token
        return http.post(server.url, json=CALL, headers={"Authorization": f"Bearer {token}"})

    assert http.post(server.url, json=CALL | {"method": "tools/list"}).status_code != 401
    assert http.post(server.url, json=CALL).status_code == 401
    lacking = call(["read"])
    assert lacking.status_code == 403
    assert 'error="insufficient_scope"' in lacking.headers["www-authenticate"]
    assert 'scope="calculate"' in lacking.headers["www-authenticate"]
    assert call(["read", "calculate"]).status_code not in {401, 403}
    assert call(["calculate"], server.url).status_code not in {401, 403}
    stranger = call(["calculate"], "https://other.example/mcp")
    assert (stranger.status_code, "invalid_token" in stranger.headers["www-authenticate"]) == (401, True)


def test_an_old_server_is_its_own_authorization_server(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, http: httpx2.Client
) -> None:
    auth, server = authorization_server(iss="absent"), mcp_server("legacy")
    protect(server, auth, metadata="origin")
    found = http.get(f"{server.origin}{OAUTH}").json()
    assert (found["issuer"], found["token_endpoint"]) == (server.origin, f"{auth.url}/token")
