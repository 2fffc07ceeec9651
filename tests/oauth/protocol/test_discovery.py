"""The walk through a server's documents, driven by hand: which it asks for, in which order, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.errors import CannotSignIn
from oauth.protocol.discovery import MetadataDiscovery, metadata_urls
from oauth.protocol.metadata import ServerMetadata
from oauth.protocol.steps import DiscoveryResult, MetadataResponse

MCP = "https://mcp.example.com/v1/mcp"
HINT = "https://mcp.example.com/about"
ORIGIN = "https://mcp.example.com"
LOGIN = "https://login.example.com"
PATH_FORM = f"{ORIGIN}/.well-known/oauth-protected-resource/v1/mcp"
ROOT_FORM = f"{ORIGIN}/.well-known/oauth-protected-resource"
OF_2025_03 = f"{ORIGIN}/.well-known/oauth-authorization-server"
OF_LOGIN = [f"{LOGIN}/.well-known/oauth-authorization-server", f"{LOGIN}/.well-known/openid-configuration"]
MOST_ASKS = 1 + 3 + 3 * 3  # the server, its own metadata, three servers in three places each

NOTHING = MetadataResponse(404)
NO_ANSWER = MetadataResponse(trouble="The server cannot be reached.")
CHALLENGE = MetadataResponse(401, b"", f'Bearer resource_metadata="{HINT}", scope="read write"')
OPEN = MetadataResponse(200, b'{"jsonrpc": "2.0", "id": 1, "result": {}}')
PLAIN_CHALLENGE = MetadataResponse(401, b"", "Bearer")


def document(**members: Any) -> MetadataResponse:
    return MetadataResponse(200, json.dumps(members).encode())


def resource(*servers: str, of: str = MCP, **more: Any) -> MetadataResponse:
    return document(resource=of, authorization_servers=list(servers or (LOGIN,)), **more)


def server(issuer: str = LOGIN, **more: Any) -> MetadataResponse:
    return document(**{"issuer": issuer, "token_endpoint": f"{issuer}/token"} | more)


@dataclass
class Walked:
    """What was asked for, and how it ended."""

    look: MetadataDiscovery
    asked: list[str] = field(default_factory=list)
    found: DiscoveryResult | None = None
    refusal: CannotSignIn | None = None


def walk(answers: dict[str, MetadataResponse], url: str = MCP, *, trusts: str = "") -> Walked:
    """Answer each URL as the table says, with 404 what is not in it."""
    return drive(url, lambda asked: answers.get(asked, NOTHING), trusts=trusts)


def drive(url: str, answer: Any, *, trusts: str = "") -> Walked:
    walked = Walked(MetadataDiscovery(url, trusts=trusts))
    steps = walked.look.walk()
    try:
        ask = next(steps)
        while True:
            walked.asked.append(ask.url)
            assert len(walked.asked) <= MOST_ASKS
            ask = steps.send(answer(ask.url))
    except StopIteration as end:
        walked.found = end.value
    except CannotSignIn as refusal:
        walked.refusal = refusal
    return walked


# --- what is asked for, in which order ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ({MCP: CHALLENGE, HINT: resource(), OF_LOGIN[0]: server()}, [MCP, HINT, OF_LOGIN[0]]),
        ({MCP: CHALLENGE, HINT: resource(), OF_LOGIN[1]: server()}, [MCP, HINT, *OF_LOGIN]),
        ({MCP: CHALLENGE, PATH_FORM: resource(), OF_LOGIN[0]: server()}, [MCP, HINT, PATH_FORM, OF_LOGIN[0]]),
        (
            {MCP: CHALLENGE, ROOT_FORM: resource(), OF_LOGIN[0]: server()},
            [MCP, HINT, PATH_FORM, ROOT_FORM, OF_LOGIN[0]],
        ),
        ({MCP: PLAIN_CHALLENGE, PATH_FORM: resource(), OF_LOGIN[0]: server()}, [MCP, PATH_FORM, OF_LOGIN[0]]),
        (
            {MCP: OPEN, ROOT_FORM: resource(), OF_LOGIN[0]: server()},
            [MCP, PATH_FORM, ROOT_FORM, OF_LOGIN[0]],
        ),
        ({MCP: PLAIN_CHALLENGE, OF_2025_03: server(ORIGIN)}, [MCP, PATH_FORM, ROOT_FORM, OF_2025_03]),
        ({MCP: PLAIN_CHALLENGE}, [MCP, PATH_FORM, ROOT_FORM, OF_2025_03]),
    ],
    ids=["hint", "openid", "path form", "root form", "no hint", "no challenge", "of 2025-03-26", "guessed"],
)
def test_documents_are_asked_for_in_the_order_of_the_standard(
    answers: dict[str, MetadataResponse], asked: list[str]
) -> None:
    walked = walk(answers)
    assert walked.asked == asked
    assert walked.found is not None
    assert [step.url for step in walked.look.steps] == asked
    assert walked.found.challenged is (answers[MCP].status == 401)


def test_a_server_at_the_root_has_one_place_for_its_metadata() -> None:
    assert walk({f"{ORIGIN}/": OPEN}, f"{ORIGIN}/").asked == [f"{ORIGIN}/", ROOT_FORM, OF_2025_03]


def test_a_server_that_does_not_know_the_modern_request_is_asked_for_a_handshake() -> None:
    for status in (200, 202, 400, 404, 405, 500):
        assert walk({MCP: MetadataResponse(status)}).asked[:3] == [MCP, MCP, PATH_FORM]
    for answer in (OPEN, MetadataResponse(401), MetadataResponse(307)):
        assert walk({MCP: answer}).asked[:2] == [MCP, PATH_FORM]


def test_a_hint_to_a_place_that_is_asked_anyway_is_asked_once() -> None:
    challenge = MetadataResponse(401, b"", f'Bearer resource_metadata="{PATH_FORM}"')
    assert walk({MCP: challenge}).asked == [MCP, PATH_FORM, ROOT_FORM, OF_2025_03]


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (LOGIN, OF_LOGIN),
        (f"{LOGIN}/", OF_LOGIN),
        (
            f"{LOGIN}/acme",
            [
                f"{LOGIN}/.well-known/oauth-authorization-server/acme",
                f"{LOGIN}/.well-known/openid-configuration/acme",
                f"{LOGIN}/acme/.well-known/openid-configuration",
            ],
        ),
        (
            f"{LOGIN}:8443/realms/acme/",
            [
                f"{LOGIN}:8443/.well-known/oauth-authorization-server/realms/acme",
                f"{LOGIN}:8443/.well-known/openid-configuration/realms/acme",
                f"{LOGIN}:8443/realms/acme/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_metadata_of_an_issuer_is_looked_for_in_these_places(issuer: str, urls: list[str]) -> None:
    assert metadata_urls(issuer) == urls


def test_only_three_of_the_named_servers_are_asked() -> None:
    named = [f"https://login{number}.example.com/acme" for number in range(6)]
    walked = walk({MCP: CHALLENGE, HINT: resource(*named)})
    assert walked.asked[2:] == [url for issuer in named[:3] for url in metadata_urls(issuer)]
    assert len(walked.asked) == 2 + 3 * 3


# --- what is found --------------------------------------------------------------------------------------------------


def test_what_was_found_keeps_every_scope_and_the_issuers_as_they_are_written() -> None:
    answers = {MCP: CHALLENGE, HINT: resource(LOGIN, f"{LOGIN}/b", scopes_supported=["all"]), OF_LOGIN[0]: server()}
    found = walk(answers).found
    assert found is not None
    assert (found.resource, found.challenge_scopes, found.resource_scopes) == (MCP, "read write", ("all",))
    assert (found.server.issuer, found.trusted) == (LOGIN, (LOGIN, f"{LOGIN}/b"))


def test_the_second_server_is_used_when_the_first_has_no_metadata() -> None:
    other = "https://other.example.com"
    answers = {MCP: CHALLENGE, HINT: resource(other, LOGIN), OF_LOGIN[0]: server()}
    found = walk(answers).found
    assert found is not None
    assert found.server.issuer == LOGIN


def test_default_paths_are_guessed_only_where_a_sign_in_is_asked_for() -> None:
    found = walk({MCP: PLAIN_CHALLENGE}).found
    assert found is not None
    assert found.server == ServerMetadata(
        issuer=ORIGIN,
        authorization_endpoint=f"{ORIGIN}/authorize",
        token_endpoint=f"{ORIGIN}/token",
        registration_endpoint=f"{ORIGIN}/register",
        code_challenge_methods_supported=["S256"],
    )
    assert found.trusted == ()


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({}, "no_authorization_server"),
        ({MCP: NO_ANSWER}, "no_authorization_server"),
        ({MCP: MetadataResponse(403)}, "no_authorization_server"),
        ({MCP: PLAIN_CHALLENGE, PATH_FORM: NO_ANSWER}, "metadata_unavailable"),
        ({MCP: PLAIN_CHALLENGE, OF_2025_03: MetadataResponse(503)}, "metadata_unavailable"),
        ({MCP: CHALLENGE, HINT: resource()}, "no_authorization_server"),
        ({MCP: CHALLENGE, HINT: resource(), OF_LOGIN[0]: NO_ANSWER}, "metadata_unavailable"),
        ({MCP: CHALLENGE, HINT: resource(), OF_LOGIN[0]: server(f"{LOGIN}/a")}, "metadata_refused"),
        ({MCP: CHALLENGE, HINT: resource(), OF_LOGIN[0]: server(f"{LOGIN}:8443")}, "metadata_refused"),
        ({MCP: CHALLENGE, HINT: resource(of="https://other.example.com/v1/mcp")}, "metadata_refused"),
        ({MCP: CHALLENGE, HINT: resource(of=f"{ORIGIN}/v1/mcp/more")}, "metadata_refused"),
        ({MCP: PLAIN_CHALLENGE, OF_2025_03: server(LOGIN)}, "metadata_refused"),
        (
            {MCP: CHALLENGE, HINT: MetadataResponse(200, b"<html>"), OF_2025_03: MetadataResponse(500)},
            "metadata_unavailable",
        ),
    ],
)
def test_what_leaves_no_way_to_sign_in_has_a_code(answers: dict[str, MetadataResponse], code: str) -> None:
    walked = walk(answers)
    assert walked.refusal is not None
    assert walked.refusal.code == code
    assert not walked.look.steps[-1].good
    assert len(walked.look.steps) == len(walked.asked)


def test_another_servers_metadata_ends_the_walk_at_once() -> None:
    answers = {MCP: CHALLENGE, HINT: resource(of="https://rival.example.com/mcp"), PATH_FORM: resource()}
    assert walk(answers).asked == [MCP, HINT]


# --- anything, in any order -----------------------------------------------------------------------------------------

URLS = st.sampled_from([MCP, ORIGIN, f"{ORIGIN}/", LOGIN, f"{LOGIN}/acme", "https://[::1", "http://localhost", "x", ""])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | URLS | st.lists(URLS | st.none(), max_size=5)
NAMES = [*ServerMetadata.model_fields, "resource", "authorization_servers", "signed_metadata"]
LIKELY = st.builds(lambda url, urls: {"resource": url, "authorization_servers": urls}, URLS, st.lists(URLS, max_size=5))
SERVERS = st.builds(lambda url: {"issuer": url, "token_endpoint": f"{LOGIN}/token"}, URLS)
DOCUMENTS = LIKELY | SERVERS | st.dictionaries(st.sampled_from(NAMES), VALUES)
BODIES = st.binary(max_size=40) | st.one_of(DOCUMENTS, VALUES).map(lambda value: json.dumps(value).encode())
CHALLENGES = st.text(max_size=40) | URLS.map(lambda url: f'Bearer resource_metadata="{url}", scope="a b"')
GOTS = st.builds(
    MetadataResponse,
    status=st.sampled_from([200, 200, 200, 0, 204, 301, 401, 403, 404, 429, 500, 503]),
    body=BODIES,
    www_authenticate=CHALLENGES,
    trouble=st.sampled_from(["", "", "", "The server cannot be reached."]),
)


@given(st.lists(GOTS, min_size=MOST_ASKS, max_size=MOST_ASKS), st.sampled_from([MCP, ORIGIN, f"{ORIGIN}/a b/?c=d"]))
def test_any_answers_in_any_order_end_in_a_server_or_in_a_refusal(answers: list[MetadataResponse], url: str) -> None:
    coming: Iterable[MetadataResponse] = iter(answers)
    walked = drive(url, lambda _: next(coming))
    assert (walked.found is None) is (walked.refusal is not None)
    assert len(walked.look.steps) == len(walked.asked)
    assert all(step.conclusion and len(step.conclusion) <= 500 and len(step.url) <= 500 for step in walked.look.steps)
    if walked.found is not None:
        assert walked.found.server.token_endpoint
        assert not walked.found.trusted or walked.found.server.issuer in walked.found.trusted[:3]
