"""Clients of our test authorization servers: registered, known beforehand, described by a document."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.servers.authorization.behaviour import SIGNED
from tests.servers.authorization.by_hand import BACK, VERIFIER, asking, come_back, refresh, register, sign_in
from tests.servers.authorization.metadata import OAUTH
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.servers.kinds import answers, once, only_at


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


def test_any_endpoint_may_answer_as_the_test_likes(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(issuer_path="/tenants/acme")
    auth.behave(once(only_at("/register", answers(403, b'{"error": "access_denied"}'))))
    assert register(auth, http)["error"] == "access_denied"
    assert register(auth, http)["client_id"]
    assert auth.count("/register") == 2


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
