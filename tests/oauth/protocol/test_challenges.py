"""Reading `WWW-Authenticate`: what servers in the field send, and anything else that fits into a header."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.protocol.challenges import LONGEST, missing_scopes, parse

POINTER = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"

HEADERS: list[tuple[str | None, dict[str, str]]] = [
    (None, {}),
    ("", {}),
    ("Bearer", {}),
    ("Bearer ", {}),
    ("Basic realm=x", {}),
    ('Bearer realm="x"', {"realm": "x"}),
    ('bearer REALM="x"', {"realm": "x"}),
    (f'Bearer resource_metadata="{POINTER}"', {"resource_metadata": POINTER}),
    (f"Bearer resource_metadata={POINTER}", {"resource_metadata": POINTER}),
    (f'Bearer realm="OAuth",resource_metadata="{POINTER}"', {"realm": "OAuth", "resource_metadata": POINTER}),
    (f'Bearer realm="OAuth" resource_metadata="{POINTER}"', {"realm": "OAuth", "resource_metadata": POINTER}),
    ('Bearer\terror="invalid_token" ,\t scope = "a b"', {"error": "invalid_token", "scope": "a b"}),
    ('Bearer , error="invalid_token"', {"error": "invalid_token"}),
    ('Bearer error="invalid_token", error_description="say \\"please\\", twice"',
     {"error": "invalid_token", "error_description": 'say "please", twice'}),
    ('Bearer realm="", scope="read"', {"realm": "", "scope": "read"}),
    ('Bearer scope="first", scope="second"', {"scope": "first"}),
    ('Basic realm="a", Bearer scope="read"', {"scope": "read"}),
    ('Bearer scope="read", Basic realm="b"', {"scope": "read"}),
    ('Basic realm="a, Bearer b", Bearer scope="read"', {"scope": "read"}),
    ('Basic realm="\\"a\\", Bearer scope=bad", Bearer scope="read"', {"scope": "read"}),
    ('Bearer error="invalid_token",, scope="read"', {"error": "invalid_token", "scope": "read"}),
    ('Bearer, Bearer scope="read"', {"scope": "read"}),
    ('DPoP algs="ES256", Bearer error=invalid_token, scope=read', {"error": "invalid_token", "scope": "read"}),
    ('Bearer authorization_uri="https://login.example.com/t/authorize", error="insufficient_claims"',
     {"authorization_uri": "https://login.example.com/t/authorize", "error": "insufficient_claims"}),
    ('Bearer realm="never closed', {}),
    ('Bearer scope="read", realm="never closed', {"scope": "read"}),
    ("BearerToken scope=read", {}),
    ('Bearer realm="ü"', {"realm": "ü"}),
]  # fmt: skip


@pytest.mark.parametrize(("header", "parameters"), HEADERS)
def test_challenges_of_the_field_are_read(header: str | None, parameters: dict[str, str]) -> None:
    assert parse(header) == parameters


@pytest.mark.parametrize(
    ("header", "scopes"),
    [
        ('Bearer error="insufficient_scope", scope="read write"', "read write"),
        ('Bearer error="insufficient_scope", scope="write write"', "write"),
        ('Bearer error="insufficient_scope"', ""),
        ('Bearer error="insufficient_scope", scope="ok b\\"ad ö"', "ok"),
        ('Bearer error="invalid_token", scope="read"', None),
        ('Bearer scope="read"', None),
        (None, None),
    ],
)
def test_missing_scopes_are_those_of_a_challenge_about_scopes(header: str | None, scopes: str | None) -> None:
    assert missing_scopes(header) == scopes


PIECES = st.sampled_from(
    ["Bearer", "Basic", " ", "\t", ",", ";", "=", '"', "'", "\\", "scope", "error", "insufficient_scope", "ü"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_no_header_is_an_error(header: str) -> None:
    for text in (header, f"Bearer {header}", f'Bearer error="insufficient_scope", scope="{header}"'):
        assert all(name == name.lower() for name in parse(text))
        scopes = missing_scopes(text)
        assert scopes is None or scopes == " ".join(scopes.split())


NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["C"]))


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_whatever_is_quoted_is_read_back(parameters: dict[str, str]) -> None:
    escaped = {name: re.sub(r'(["\\])', r"\\\1", value) for name, value in parameters.items()}
    assert parse("Bearer " + ", ".join(f'{name}="{value}"' for name, value in escaped.items())) == parameters


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "\t",
        ",",
        ", ",
        "a",
        "a ",
        "a=b ",
        '"',
        "\\",
        'a="',
        "Bearer ",
        ",Bearer ",
        "'",
        ";",
        "; ",
        ";a ",
        "a='b' ",
        "a=b c,",
        ",Bearer a=b",
    ],
)
@pytest.mark.parametrize("start", ["", "Bearer ", "Bearer a=b", 'Bearer a="'])
def test_a_hostile_header_costs_no_time(start: str, piece: str) -> None:
    header = start + piece * (LONGEST // len(piece)) + "!"
    began = time.thread_time()
    missing_scopes(header[: LONGEST - 1] + "!")
    assert time.thread_time() - began < 0.2
