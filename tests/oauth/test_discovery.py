"""Finding out where to sign in, driven by hand: every document and answer, in any order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.discovery import Ask, Found, Got, Look, metadata_urls
from oauth.errors import CannotSignIn

URL = "https://mcp.example.com/team/mcp"
ORIGIN = "https://mcp.example.com"
ISSUER = "https://login.example.com"
HINT = "https://mcp.example.com/hint"
RESOURCE = "/.well-known/oauth-protected-resource"
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
CHALLENGE = Got(401, www_authenticate=f'Bearer resource_metadata="{HINT}", scope="read write"')
MOST_ASKS = 1 + 3 + 3 * 3 + 1
NONE, DOWN, SILENT = Got(404), Got(503), Got(trouble="The server took too long to answer.")

Answers = Callable[[Ask], Got]


def written(**members: Any) -> Got:
    return Got(200, json.dumps(members).encode())


def server(issuer: str = ISSUER, **members: Any) -> Got:
    endpoints = {"authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token"}
    return written(**{"issuer": issuer, **endpoints, **members})


def resource(url: str = URL, *issuers: str, **members: Any) -> Got:
    return written(resource=url, authorization_servers=list(issuers or [ISSUER]), **members)


def field(documents: dict[str, Got], knock: Got = CHALLENGE) -> Answers:
    """A field of servers that has these documents and no others."""
    return lambda ask: knock if ask.method == "POST" else documents.get(ask.url, NONE)


def walked(answers: Answers, url: str = URL) -> tuple[Found | CannotSignIn, list[str], Look]:
    """What a whole walk comes to, what it asked for, and its notes."""
    look, asked = Look(url), []
    walk = look.walk()
    try:
        ask = next(walk)
        while True:
            asked.append(ask.url)
            assert len(asked) <= MOST_ASKS
            ask = walk.send(answers(ask))
    except StopIteration as end:
        return end.value, asked, look
    except CannotSignIn as refusal:
        return refusal, asked, look


# --- any answer ---

PLACES = [
    URL,
    ORIGIN,
    HINT,
    ISSUER,
    f"{ISSUER}/tenant",
    "https://evil.example",
    "http://10.0.0.1",
    "javascript:x",
    "",
    "x",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(PLACES) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)
MEMBERS = [
    "resource", "authorization_servers", "scopes_supported", "issuer", "token_endpoint", "authorization_endpoint",
    "registration_endpoint", "code_challenge_methods_supported", "client_id_metadata_document_supported",
]  # fmt: skip
DOCUMENTS = st.one_of(
    st.binary(),
    st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda members: json.dumps(members).encode()),
    st.lists(st.sampled_from(PLACES), max_size=9).map(lambda names: resource(URL, *names).body),
    st.sampled_from(PLACES).map(lambda issuer: server(issuer).body),
)
CHALLENGES = st.one_of(st.text(), st.sampled_from(["", *(f'Bearer resource_metadata="{place}"' for place in PLACES)]))
GOTS = st.one_of(
    st.builds(Got, st.sampled_from([200, 200, 200, 204, 301, 307, 401, 401, 403, 404, 500]), DOCUMENTS, CHALLENGES),
    st.sampled_from([NONE, DOWN, SILENT, CHALLENGE, resource(), server(), server(ORIGIN)]),
)


@given(
    st.lists(GOTS, min_size=MOST_ASKS, max_size=MOST_ASKS), st.sampled_from([URL, ORIGIN, f"{ORIGIN}/", f"{URL}?a=b"])
)
def test_any_answers_in_any_order_come_to_an_end(gots: list[Got], url: str) -> None:
    waiting = list(gots)
    outcome, asked, look = walked(lambda _: waiting.pop(0), url)
    assert [step.url for step in look.steps] == [place[:500] for place in asked]
    assert all(step.conclusion for step in look.steps)
    if isinstance(outcome, Found):
        assert urlsplit(outcome.resource).netloc == urlsplit(url).netloc
        assert outcome.server.issuer in outcome.trusted or outcome.server.issuer in {ORIGIN, f"{ORIGIN}/"}
    else:
        assert outcome.code in {"metadata_refused", "metadata_unavailable", "no_authorization_server"}
        assert outcome.sentence.endswith(".")


@pytest.mark.parametrize("count", [4, 1000])
def test_however_many_servers_are_named_three_are_asked(count: int) -> None:
    issuers = [f"{ISSUER}/{number}" for number in range(count)]
    outcome, asked, _ = walked(field({HINT: resource(URL, *issuers)}))
    assert isinstance(outcome, CannotSignIn)
    assert len(asked) == 2 + 3 * 3


# --- where documents are ---


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (ISSUER, [f"{ISSUER}{OAUTH}", f"{ISSUER}{OPENID}"]),
        (f"{ISSUER}/", [f"{ISSUER}{OAUTH}", f"{ISSUER}{OPENID}"]),
        (f"{ISSUER}/t/1", [f"{ISSUER}{OAUTH}/t/1", f"{ISSUER}{OPENID}/t/1", f"{ISSUER}/t/1{OPENID}"]),
        (f"{ISSUER}/t/", [f"{ISSUER}{OAUTH}/t", f"{ISSUER}{OPENID}/t", f"{ISSUER}/t{OPENID}"]),
        (f"{ISSUER}:8443/t", [f"{ISSUER}:8443{OAUTH}/t", f"{ISSUER}:8443{OPENID}/t", f"{ISSUER}:8443/t{OPENID}"]),
    ],
)
def test_metadata_of_an_issuer_is_looked_for_in_the_order_of_the_standards(issuer: str, urls: list[str]) -> None:
    assert metadata_urls(issuer) == urls
    for url in urls:
        outcome, _, _ = walked(field({HINT: resource(URL, issuer), url: server(issuer)}))
        assert isinstance(outcome, Found), url
        assert outcome.server.issuer == issuer


def test_the_resource_is_looked_for_where_the_challenge_says_then_by_path_then_at_the_root() -> None:
    _, asked, _ = walked(field({}))
    assert asked == [URL, HINT, f"{ORIGIN}{RESOURCE}/team/mcp", f"{ORIGIN}{RESOURCE}", f"{ORIGIN}{OAUTH}"]


def test_a_sign_in_is_found_with_what_to_name_to_it() -> None:
    documents = {HINT: resource(scopes_supported=["a", "b"]), f"{ISSUER}{OAUTH}": server()}
    outcome, asked, look = walked(field(documents))
    assert isinstance(outcome, Found)
    assert (outcome.resource, outcome.challenge_scopes, outcome.resource_scopes) == (URL, "read write", ("a", "b"))
    assert (outcome.trusted, outcome.challenged) == ((ISSUER,), True)
    assert asked == [URL, HINT, f"{ISSUER}{OAUTH}"]
    assert [step.good for step in look.steps] == [True] * 3


# --- what is not believed ---


@pytest.mark.parametrize("other", ["https://evil.example/team/mcp", f"{ORIGIN}/other", f"{ORIGIN}:8443/team/mcp"])
def test_a_resource_of_somebody_else_ends_the_walk(other: str) -> None:
    outcome, asked, _ = walked(field({HINT: resource(other), f"{ORIGIN}{RESOURCE}": resource()}))
    assert isinstance(outcome, CannotSignIn)
    assert (outcome.code, asked) == ("metadata_refused", [URL, HINT])


@pytest.mark.parametrize(
    "said", [f"{ISSUER}/", ISSUER.upper(), "https://evil.example", f"{ISSUER}/tenant", f"{ISSUER}:443"]
)
def test_a_server_that_says_it_is_another_is_not_used(said: str) -> None:
    outcome, asked, look = walked(field({HINT: resource(), f"{ISSUER}{OAUTH}": server(said)}))
    assert isinstance(outcome, CannotSignIn)
    assert outcome.code == "metadata_refused"
    assert asked[2:] == [f"{ISSUER}{OAUTH}", f"{ISSUER}{OPENID}"]
    assert not look.steps[2].good


@pytest.mark.parametrize("down", [DOWN, SILENT])
@pytest.mark.parametrize("where", [HINT, f"{ORIGIN}{RESOURCE}", f"{ORIGIN}{OAUTH}"])
def test_default_paths_are_not_guessed_while_a_document_cannot_be_had(where: str, down: Got) -> None:
    outcome, _, _ = walked(field({where: down}))
    assert isinstance(outcome, CannotSignIn)
    assert outcome.code == "metadata_unavailable"


def test_default_paths_are_guessed_only_for_who_asks_for_a_sign_in() -> None:
    outcome, _, _ = walked(field({}))
    assert isinstance(outcome, Found)
    assert (outcome.server.token_endpoint, outcome.trusted) == (f"{ORIGIN}/token", ())
    outcome, _, _ = walked(field({}, knock=Got(200)))
    assert isinstance(outcome, CannotSignIn)
    assert outcome.code == "no_authorization_server"


def test_the_second_server_is_used_when_the_first_cannot_be() -> None:
    documents = {HINT: resource(URL, f"{ISSUER}/gone", ISSUER), f"{ISSUER}{OAUTH}": server()}
    outcome, _, _ = walked(field(documents))
    assert isinstance(outcome, Found)
    assert outcome.server.issuer == ISSUER
