"""An organization with an OAuth connection to a real MCP server, and a person at a browser who signs in to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client

from connections.models import Connection, User
from oauth.models import SignIn
from tests.conftest import House
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import AuthorizationServer, approve
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.servers.running import McpServer
from tools.catalog import probing


@dataclass
class Scene:
    """One connection of acme, its MCP server, and the authorization server that guards it."""

    house: House
    server: McpServer
    auth: AuthorizationServer
    connection: Connection
    client: Client

    def path(self, button: str) -> str:
        return f"/admin/connections/connection/{self.connection.pk}/{button}/"

    def press(self, button: str, client: Client | None = None, **form: str) -> HttpResponse:
        return (client or self.client).post(self.path(button), form)

    def depart(self, **form: str) -> str:
        """Press Sign in and return where the browser is sent."""
        answer = self.press("sign-in", **form)
        assert answer.status_code == 302, answer.content[:300]
        return str(answer["Location"])

    def come_back(self, callback: str, client: Client | None = None) -> HttpResponse:
        parts = urlsplit(callback)
        return (client or self.client).get(f"{parts.path}?{parts.query}")

    def sign_in(self, **form: str) -> HttpResponse:
        """Sign in from end to end, as a person who allows everything."""
        return self.come_back(approve(self.depart(**form)))

    @property
    def sign_in_row(self) -> SignIn:
        return SignIn.objects.select_related("connection__tenant", "registration").get(connection=self.connection)

    @property
    def state(self) -> tuple[str, str]:
        self.connection.refresh_from_db()
        return self.connection.credential_state, self.connection.credential_reason

    def probe(self) -> Any:
        report = probing.probe(self.connection.pk)
        self.connection.refresh_from_db()
        return report

    def said(self) -> list[str]:
        """The messages that the next page shows."""
        page = self.client.get(f"/admin/connections/connection/{self.connection.pk}/change/")
        return [str(message) for message in page.context["messages"]]


StartScene = Callable[..., Scene]


@pytest.fixture
def scene(
    transactional_db: None,
    acme: House,
    mcp_server: StartServer,
    authorization_server: StartAuthorizationServer,
    signed_in: Callable[[User | None], Client],
) -> StartScene:
    """`scene(dcr=False, connection={...}, protected={...})`: options go to the authorization server."""

    def start(
        connection: dict[str, Any] | None = None,
        protected: dict[str, Any] | None = None,
        kind: str = "dual",
        **options: Any,
    ) -> Scene:
        server, auth = mcp_server(kind), authorization_server(**options)
        protect(server, auth, **(protected or {}))
        row = acme.connection(
            url=server.url, authorization="oauth", credential_state="needs_sign_in", **(connection or {})
        )
        return Scene(acme, server, auth, row, signed_in(acme.admin))

    return start
