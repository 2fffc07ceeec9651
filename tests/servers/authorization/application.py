"""The endpoints of a test authorization server: the SDK's handlers, and what a test may do to them."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.handlers.revoke import RevocationHandler
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import AuthenticationError
from mcp.server.auth.provider import construct_redirect_uri
from mcp.server.auth.settings import ClientRegistrationOptions
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from tests.servers.authorization import metadata
from tests.servers.authorization.authentication import presented
from tests.servers.authorization.behaviour import NONE
from tests.servers.running import replay

if TYPE_CHECKING:
    from tests.servers.authorization.server import AuthorizationServer

GONE = Response(status_code=499)  # nobody reads it
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Allow access?</title></head><body><main>
<h1>Allow access?</h1><p><b>{client}</b> asks to act for you.</p><p>Permissions: {scopes}</p>
<form method="post"><input type="hidden" name="ticket" value="{ticket}">
<button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>
</main></body></html>"""


class Endpoints:
    """One method for each endpoint."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        self._provider = server.provider
        self._authorize = AuthorizationHandler(server.provider)
        self._register = RegistrationHandler(server.provider, ClientRegistrationOptions(enabled=True))
        self._token = TokenHandler(server.provider, server.authenticator)
        self._revoke = RevocationHandler(server.provider, server.authenticator)

    def application(self) -> Starlette:
        """Return the whole server."""
        endpoints = [
            Route("/authorize", self.authorize),
            Route("/consent", self.consent, methods=["GET", "POST"]),
            Route("/token", self.token, methods=["POST"]),
            Route("/register", self.register, methods=["POST"]),
            Route("/revoke", self.revoke, methods=["POST"]),
            Route("/userinfo", self.userinfo),
            Route("/{path:path}", self.metadata),
        ]
        mounted = [Mount(self._server.issuer_path, routes=endpoints)] if self._server.issuer_path else []
        return Starlette(routes=[*mounted, *(endpoints[-1:] if mounted else endpoints)])

    async def metadata(self, request: Request) -> Response:
        return await metadata.answer(self._server, request)

    async def register(self, request: Request) -> Response:
        return await self._register.handle(request) if self._server.dcr else Response(status_code=404)

    # --- the browser's part -------------------------------------------------------------------------------------

    async def authorize(self, request: Request) -> Response:
        other = self._server.mixes_up_with
        if other is not None:
            return RedirectResponse(other.disguised(request.query_params), status_code=302)
        response = await self._authorize.handle(request)
        return self._with_issuer(response)

    async def consent(self, request: Request) -> Response:
        """Show the page; on a decision send the browser back."""
        given = await request.form() if request.method == "POST" else request.query_params
        ticket = str(given.get("ticket"))
        if ticket not in self._provider.waiting:
            return HTMLResponse("<h1>This page has expired</h1>", status_code=400)
        if request.method == "GET":
            client, asked = self._provider.waiting[ticket]
            name, scopes = client.client_name or client.client_id, " ".join(asked.scopes or ["everything"])
            return HTMLResponse(PAGE.format(client=escape(name), scopes=escape(scopes), ticket=escape(ticket)))
        client, asked = self._provider.waiting.pop(ticket)
        back = self._provider.allow(client, asked)
        if given.get("decision") != "allow":
            back = construct_redirect_uri(str(asked.redirect_uri), error="access_denied", state=asked.state)
        return self._with_issuer(RedirectResponse(back, status_code=302))

    def _with_issuer(self, response: Response) -> Response:
        """Add `iss` to an authorization response (RFC 9207), or a wrong one, or none."""
        target = response.headers.get("location", "")
        named = {"right": self._server.issuer, "wrong": metadata.ELSEWHERE}.get(self._server.iss)
        if target and named is not None and not target.startswith(f"{self._server.url}/consent?"):
            response.headers["location"] = construct_redirect_uri(target, iss=named)
        return response

    # --- the program's part -------------------------------------------------------------------------------------

    async def token(self, request: Request) -> Response:
        """Answer a token request; one whose sender left before its turn came is never read."""
        await request.body()
        if not await self._its_turn(request):
            return GONE
        response = self._server.failure() or await self._answer(request)
        await self._server.way_out.passing()
        return response

    async def revoke(self, request: Request) -> Response:
        completed, refusal = await self._completed(request)
        return refusal or await self._revoke.handle(completed)

    async def userinfo(self, request: Request) -> Response:
        """Say whose token it is (OpenID Connect Core 1.0, section 5.3)."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._server.userinfo is None or self._server.token(token) is None:
            return _error(401, "invalid_token")
        return JSONResponse(dict(self._server.userinfo))

    async def _its_turn(self, request: Request) -> bool:
        turn = asyncio.ensure_future(self._wait())
        gone = asyncio.ensure_future(_disconnect(request.receive))
        done, waiting = await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return gone not in done

    async def _wait(self) -> None:
        await asyncio.sleep(self._server.slow_tokens)
        await self._server.way_in.passing()

    async def _answer(self, request: Request) -> Response:
        form = await request.form()
        if self._server.reject_resource and "resource" in form:
            return _error(400, "invalid_target")
        completed, refusal = await self._completed(request)
        if refusal:
            return refusal
        own = form.get("grant_type") == "client_credentials" and self._server.client_credentials
        response = await (self._client_credentials(completed) if own else self._token.handle(completed))
        if self._server.account is not None and response.status_code == 200:
            response = _with_id_token(response, self._server.account)
        return _as_form(response) if self._server.form_encoded and response.status_code == 200 else response

    async def _client_credentials(self, request: Request) -> Response:
        """Issue a token to the client itself (RFC 6749, section 4.4), which the SDK's handler does not do."""
        try:
            client = await self._server.authenticator.authenticate_request(request)
        except AuthenticationError as error:
            return _error(401, "invalid_client", error.message)
        form = await request.form()
        if "client_credentials" not in client.grant_types or client.methods == [NONE]:
            return _error(400, "unauthorized_client")
        scope, resource = form.get("scope"), form.get("resource")
        issued = self._provider.issue_to_client(client, str(scope).split() if scope else None, resource)
        return JSONResponse(issued.model_dump(exclude_none=True), headers={"cache-control": "no-store"})

    async def _completed(self, request: Request) -> tuple[Request, Response | None]:
        """Put into the body what the SDK's handlers want there whatever the method: the client's id, and a secret."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            client_id = presented(form, request.headers.get("authorization")).client_id
        except AuthenticationError as error:
            return request, _error(401, "invalid_client", error.message)
        body = urlencode({"client_secret": "", **form, "client_id": client_id}).encode()
        return Request(request.scope, replay(body, request.receive)), None


async def _disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(status: int, code: str, description: str | None = None) -> Response:
    members = {"error": code, **({"error_description": description} if description else {})}
    return JSONResponse(members, status_code=status, headers={"cache-control": "no-store"})


def _with_id_token(response: Response, claims: Mapping[str, Any]) -> Response:
    """Add an ID token with these claims, which nobody has signed."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)]
    members = json.loads(bytes(response.body)) | {"id_token": f"{'.'.join(parts)}.c2ln"}
    return JSONResponse(members, headers={"cache-control": "no-store"})


def _as_form(response: Response) -> Response:
    return Response(urlencode(orjson.loads(response.body)), media_type="application/x-www-form-urlencoded")
