"""A document about signing in that cannot be used is told with its reason, and is neither waited for nor guessed."""

from __future__ import annotations

from typing import Any

import pytest

from connections import egress
from connections.egress.urls import refused
from oauth.protocol.steps import MetadataResponse
from tests.oauth.protocol.test_discovery import (
    CHALLENGE,
    HINT,
    LOGIN,
    MCP,
    NOTHING,
    OF_2025_03,
    OF_LOGIN,
    ORIGIN,
    PATH_FORM,
    PLAIN_CHALLENGE,
    ROOT_FORM,
    Walked,
    document,
    drive,
    resource,
    server,
)

HTTP = "http://mcp.example.com"
PRIVATE = MetadataResponse(trouble=refused("private_address").sentence, code="private_address")
Table = dict[str, MetadataResponse]


@pytest.fixture(autouse=True)
def _only_public(settings: Any) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = []


def walk(table: Table) -> Walked:
    """Answer as the table says what may be asked at all."""

    def answer(url: str) -> MetadataResponse:
        try:
            egress.check_hop(url)
        except egress.Refused as refusal:
            return MetadataResponse(trouble=refusal.sentence, code=refusal.code)
        return table.get(url, NOTHING)

    return drive(MCP, answer)


REFUSED: dict[str, tuple[Table, str]] = {
    "a private token endpoint": (
        {HINT: resource(), OF_LOGIN[0]: server(token_endpoint="https://10.0.0.1/token")},
        "its “token_endpoint” is at a private address.",
    ),
    "a token endpoint over http": (
        {HINT: resource(), OF_LOGIN[0]: server(token_endpoint="http://login.example.com/token")},
        "its “token_endpoint” begins with http://.",
    ),
    "a sign-in page over http": (
        {HINT: resource(), OF_LOGIN[1]: server(authorization_endpoint="http://login.example.com/in")},
        "its “authorization_endpoint” begins with http://.",
    ),
    "an issuer over http": (
        {OF_2025_03: server(HTTP, token_endpoint=f"{LOGIN}/t")},
        "its “issuer” begins with http://.",
    ),
    "a sign-in server at localhost": ({HINT: resource("http://localhost:8080")}, "the first one begins with http://."),
    "a private sign-in server": ({HINT: resource("https://10.0.0.1")}, "the first one is at a private address."),
    "one in a private network": (
        {HINT: resource("https://idp.internal")},
        "the first one exists only inside a private network.",
    ),
    "a name that leads to a private address": (
        {HINT: resource(), OF_LOGIN[0]: PRIVATE, OF_LOGIN[1]: PRIVATE},
        f"{LOGIN} is at a private address.",
    ),
    "no token endpoint": ({HINT: resource(), OF_LOGIN[0]: document(issuer=LOGIN)}, "it has no “token_endpoint”."),
    "a resource without its name": ({HINT: document(authorization_servers=[LOGIN])}, "it has no “resource”."),
    "a resource without its name, where it should be": (
        {PATH_FORM: document(authorization_servers=[LOGIN])},
        "it has no “resource”.",
    ),
    "Entra's name": ({HINT: resource(of="api://5c0c")}, "describes another server, api://5c0c,"),
    "a name that is none": ({PATH_FORM: resource(of="orders")}, "describes another server, orders,"),
    "the server's name over http": ({PATH_FORM: resource(of=f"{HTTP}/v1/mcp")}, f"says that it is at {HTTP}:"),
    "the server's name over http, at its root": ({ROOT_FORM: resource(of=HTTP)}, f"says that it is at {HTTP}:"),
}


@pytest.mark.parametrize(("table", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_a_document_that_is_there_is_told_with_what_is_wrong_in_it(table: Table, told: str) -> None:
    walked = walk({MCP: CHALLENGE if HINT in table else PLAIN_CHALLENGE, **table})
    assert walked.refusal is not None, walked.found
    assert (walked.refusal.code, told in walked.refusal.sentence) == ("metadata_refused", True), walked.refusal.sentence


def test_everything_over_http_is_told_as_that() -> None:
    challenge = MetadataResponse(401, b"", f'Bearer resource_metadata="{HTTP}/.well-known/oauth-protected-resource"')
    walked = walk({MCP: challenge, PATH_FORM: resource(HTTP, of=f"{HTTP}/v1/mcp")})
    assert walked.refusal is not None
    assert walked.refusal.code == "metadata_refused"
    assert "http://" in walked.refusal.sentence


@pytest.mark.parametrize("pointer", ["/about", "../about", "//mcp.example.com/about"])
def test_a_hint_that_is_relative_leads_where_it_means(pointer: str) -> None:
    challenge = MetadataResponse(401, b"", f'Bearer resource_metadata="{pointer}"')
    walked = walk({MCP: challenge, HINT: resource(), OF_LOGIN[0]: server()})
    assert walked.found is not None, walked.refusal
    assert walked.found.server.issuer == LOGIN


DOCUMENTS = (HINT, PATH_FORM, ROOT_FORM, OF_2025_03)


@pytest.mark.parametrize("status", [408, 429])
def test_a_server_that_asks_to_come_back_later_is_asked_later(status: int) -> None:
    walked = walk({MCP: CHALLENGE, **dict.fromkeys(DOCUMENTS, MetadataResponse(status))})
    assert walked.refusal is not None
    assert walked.refusal.code == "metadata_unavailable"


@pytest.mark.parametrize("status", [401, 403])
def test_what_strangers_are_not_shown_is_not_said_to_be_missing(status: int) -> None:
    walked = walk({MCP: CHALLENGE, **dict.fromkeys(DOCUMENTS, MetadataResponse(status))})
    told = [step.conclusion for step in walked.look.steps[1:]]
    assert set(told) == {f"It is not shown to strangers (HTTP {status})."}


@pytest.mark.parametrize("body", [b'{"message":"Not found"}', b"{}", b"<html>"])
def test_a_server_that_answers_every_address_has_no_document(body: bytes) -> None:
    page = MetadataResponse(200, body)
    walked = walk({MCP: PLAIN_CHALLENGE, **dict.fromkeys((PATH_FORM, ROOT_FORM, OF_2025_03), page)})
    assert walked.found is not None
    assert walked.found.guessed, "as before"


def test_a_broken_document_does_not_hide_a_sound_one() -> None:
    walked = walk({MCP: CHALLENGE, HINT: document(authorization_servers=[LOGIN]), PATH_FORM: resource(),
                   OF_LOGIN[0]: server(token_endpoint="http://a.example/t"), OF_LOGIN[1]: server()})  # fmt: skip
    assert walked.found is not None
    assert walked.found.server.token_endpoint == f"{LOGIN}/token"
    assert ORIGIN not in walked.found.trusted
