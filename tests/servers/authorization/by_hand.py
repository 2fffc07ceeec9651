"""A client that does each step of OAuth by plain HTTP and believes everything."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from tests.servers.authorization.server import AuthorizationServer, approve

BACK = "http://127.0.0.1:1/v1/oauth/mcp/callback"
VERIFIER = "a-verifier-of-more-than-forty-three-characters-of-text"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


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
