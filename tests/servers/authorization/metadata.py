"""The metadata of a test authorization server (RFC 8414), in the places and the states in which the field has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from mcp.shared.auth import OAuthMetadata
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from tests.servers.authorization.behaviour import ALGORITHMS, SIGNED, Behaviour

OAUTH, OIDC = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
ELSEWHERE = "https://elsewhere.example"
MEGABYTE = b" " * 1_000_000
DEPTH = 100_000


def location(behaviour: Behaviour) -> str | None:
    """Return the one path that answers with metadata."""
    return {
        "oauth": f"{OAUTH}{behaviour.issuer_path}",
        "oidc_inserted": f"{OIDC}{behaviour.issuer_path}",
        "oidc_appended": f"{behaviour.issuer_path}{OIDC}",
        "none": None,
    }[behaviour.metadata]


def document(behaviour: Behaviour) -> dict[str, Any]:
    """Return the members, checked by the SDK's model of them."""
    url, methods = behaviour.url, behaviour.listed_methods or behaviour.auth_methods
    grants = ["authorization_code", "refresh_token", *(["client_credentials"] if behaviour.client_credentials else [])]
    members: dict[str, Any] = {
        "issuer": behaviour.issuer,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "registration_endpoint": f"{url}/register" if behaviour.dcr else None,
        "scopes_supported": behaviour.advertised_scopes,
        "grant_types_supported": grants,
        "token_endpoint_auth_methods_supported": None if methods is None else list(methods),
        "revocation_endpoint_auth_methods_supported": None if methods is None else list(methods),
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS if SIGNED in (methods or ()) else None,
        "code_challenge_methods_supported": ["S256"] if behaviour.pkce else None,
        "client_id_metadata_document_supported": True if behaviour.cimd else None,
        "authorization_response_iss_parameter_supported": None if behaviour.iss == "absent" else True,
    }
    written = OAuthMetadata.model_validate(members).model_dump(mode="json", exclude_none=True)
    if behaviour.userinfo is not None:
        written["userinfo_endpoint"] = f"{url}/userinfo"
    if behaviour.metadata_issuer == "wrong":
        written["issuer"] = ELSEWHERE
    if behaviour.hostile == "private_endpoint":
        written["token_endpoint"] = "http://169.254.169.254/latest/token"
    if behaviour.metadata.startswith("oidc"):
        written |= {
            "jwks_uri": f"{url}/keys",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    return written


async def answer(behaviour: Behaviour, request: Request) -> Response:
    """Answer a request for any well-known path."""
    if request.url.path == "/elsewhere":
        return JSONResponse(document(behaviour))
    if request.url.path != location(behaviour):
        return Response(status_code=404)
    await asyncio.sleep(behaviour.slow)
    match behaviour.hostile:
        case "huge":
            return StreamingResponse(_huge(behaviour), media_type="application/json")
        case "deep":
            return Response("[" * DEPTH + "]" * DEPTH, media_type="application/json")
        case "html":
            return HTMLResponse("<html><title>Welcome</title></html>")
        case "not_json":
            return Response('{"issuer": ', media_type="application/json")
        case "redirect":
            return RedirectResponse(f"{behaviour.origin}/elsewhere", status_code=302)
        case _:
            return JSONResponse(document(behaviour), headers={"cache-control": "max-age=3600"})


async def _huge(behaviour: Behaviour) -> AsyncIterator[bytes]:
    """Give 50 MB that would be a true document at their end."""
    for _ in range(50):
        yield MEGABYTE
    yield json.dumps(document(behaviour)).encode()
