"""Documents in which servers describe themselves: what is kept, and that nothing in them is an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.protocol.metadata import (
    LONGEST_SCOPES,
    MOST_SCOPES,
    MetadataError,
    ResourceMetadata,
    ServerMetadata,
    covers,
    read,
    valid_scopes,
)

ISSUER = "https://login.example.com"
SERVER: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
}
RESOURCE: dict[str, Any] = {"resource": "https://mcp.example.com/mcp", "authorization_servers": [ISSUER]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS: list[tuple[type[ResourceMetadata | ServerMetadata], dict[str, Any]]] = [
    (ResourceMetadata, RESOURCE),
    (ServerMetadata, SERVER),
]


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


def believed(body: bytes, kind: type[Any]) -> Any:
    """The document, or the sentence that says why it is none."""
    try:
        return read(body, kind)
    except MetadataError as fault:
        return fault.sentence


@pytest.mark.parametrize(("kind", "document"), KINDS)
@given(body=st.one_of(st.binary(), JSON.map(written)))
def test_no_bytes_are_an_error_of_ours(body: bytes, kind: type[Any], document: dict[str, Any]) -> None:
    found = believed(body, kind)
    assert isinstance(found, kind) or (found.endswith(".") and len(found) < 120)


@pytest.mark.parametrize(("kind", "document"), KINDS)
@given(data=st.data())
def test_no_member_is_an_error_of_ours(data: st.DataObject, kind: type[Any], document: dict[str, Any]) -> None:
    name = data.draw(st.sampled_from(sorted(kind.model_fields)))
    found = believed(written({**document, name: data.draw(JSON)}), kind)
    assert isinstance(found, kind | str)


def test_what_postgresql_cannot_keep_is_refused() -> None:
    with pytest.raises(MetadataError, match="character"):
        read(written({**SERVER, "grant_types_supported": ["\0"]}), ServerMetadata)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b"[" * 60_000, b'{"a":' * 60_000, b"\xff\xfe", b"<html></html>", b"NaN"]
)
def test_what_is_no_document_is_said_to_be_none(body: bytes) -> None:
    for kind, _ in KINDS:
        with pytest.raises(MetadataError, match=r"is not a JSON object|has no"):
            read(body, kind)


def test_null_and_empty_members_are_left_out() -> None:
    found = read(written({**SERVER, "registration_endpoint": None, "scopes_supported": ""}), ServerMetadata)
    assert (found.registration_endpoint, found.scopes_supported) == ("", None)


@pytest.mark.parametrize("name", ["issuer", "token_endpoint"])
def test_a_missing_member_is_named(name: str) -> None:
    with pytest.raises(MetadataError, match=f"It has no “{name}”."):
        read(written({key: value for key, value in SERVER.items() if key != name}), ServerMetadata)


def test_an_issuer_stays_byte_for_byte_what_it_was() -> None:
    for issuer in ("https://Login.Example.com", "https://login.example.com:443/", "https://login.example.com/a//b/"):
        assert read(written({**SERVER, "issuer": issuer}), ServerMetadata).issuer == issuer


def test_a_fault_repeats_nothing_of_the_document() -> None:
    with pytest.raises(MetadataError) as fault:
        read(written({**SERVER, "token_endpoint": "https://user:s3cret@login.example.com/"}), ServerMetadata)
    assert fault.value.sentence == "Its “token_endpoint” cannot be used."
    assert fault.value.__cause__ is None


@given(st.lists(st.text(max_size=30) | st.from_regex(r"[a-z:/.]{1,20}", fullmatch=True), max_size=300))
def test_scopes_are_words_that_can_be_sent(words: list[str]) -> None:
    scopes = valid_scopes(words)
    assert len(scopes) == len(set(scopes)) <= MOST_SCOPES
    assert len(" ".join(scopes)) <= LONGEST_SCOPES
    assert " ".join(scopes).split() == scopes
    assert all(scope.isascii() and '"' not in scope and "\\" not in scope for scope in scopes)


def test_as_many_scopes_are_kept_as_fit_into_a_row() -> None:
    words = [f"https://www.example.com/auth/{number}/{'x' * 60}" for number in range(MOST_SCOPES)]
    scopes = valid_scopes(words)
    assert scopes == words[: len(scopes)]
    assert LONGEST_SCOPES - 200 < len(" ".join(scopes)) <= LONGEST_SCOPES


@pytest.mark.parametrize(
    ("resource", "url", "fits"),
    [
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/mcp/", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp/", True),
        ("https://mcp.example.com", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/", "https://mcp.example.com/mcp", True),
        ("https://MCP.example.com/", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/v1", "https://mcp.example.com/v1/mcp", True),
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp?team=1", True),
        ("https://mcp.example.com/m", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com/mcp/tools", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com/MCP", "https://mcp.example.com/mcp", False),
        ("https://evil.example/mcp", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com.evil.example/", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com:8443/mcp", "https://mcp.example.com/mcp", False),
        ("http://mcp.example.com/mcp", "https://mcp.example.com/mcp", False),
    ],
)
def test_metadata_covers_what_is_at_or_below_its_resource(resource: str, url: str, fits: bool) -> None:
    assert covers(resource, url) is fits
