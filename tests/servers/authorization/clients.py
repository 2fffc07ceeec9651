"""Clients of a test authorization server, and the documents by which some introduce themselves (CIMD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp.shared.auth import OAuthClientInformationFull

from tests.loopback import NO_TLS
from tests.servers.authorization.behaviour import NONE, SIGNED


class Client(OAuthClientInformationFull):
    """A client, and how it may prove itself at the token endpoint."""

    methods: list[str]

    def validate_scope(self, requested_scope: str | None) -> list[str] | None:
        """Hold a client to its registered scopes only if it registered some."""
        if self.scope is not None:
            return super().validate_scope(requested_scope)
        return requested_scope.split() if requested_scope else None


@dataclass
class Documents:
    """Client ID metadata documents: given by the test, or fetched from loopback over http."""

    given: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    async def client(self, client_id: str) -> Client | None:
        """Return the client that the document describes, None if it describes none."""
        try:
            document = self.given.get(client_id) or await self._fetch(client_id)
            return _described(client_id, document)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return None

    async def _fetch(self, client_id: str) -> Any:
        url = self.elsewhere.get(client_id, client_id)
        if urlsplit(url).hostname != "127.0.0.1":
            raise ValueError("only loopback can be reached from here")
        self.fetched.append(url)
        return await fetch_json(url)


async def fetch_json(url: str) -> Any:
    """Fetch a JSON document from loopback, following no redirect."""
    async with httpx2.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        response = await client.get(url)
    if response.status_code != 200 or not response.headers["content-type"].startswith("application/json"):
        raise ValueError("not a JSON document")
    return response.json()


def _described(client_id: str, document: Mapping[str, Any]) -> Client:
    if document["client_id"] != client_id or not document["redirect_uris"] or not document["client_name"]:
        raise ValueError("the document is not this client's")
    method = document.get("token_endpoint_auth_method", NONE)
    if "client_secret" in document or method not in {NONE, SIGNED}:
        raise ValueError("no shared secret can be established by a document")
    return Client(**document, methods=[method])
