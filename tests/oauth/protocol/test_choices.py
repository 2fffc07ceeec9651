"""The decisions of a sign-in: which client, which method, which scopes, whose answer, and when to renew."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.errors import CannotSignIn
from oauth.protocol import choices
from oauth.protocol.choices import ClientKind
from oauth.protocol.metadata import ServerMetadata
from oauth.protocol.steps import DiscoveryResult

LOGIN = "https://login.example.com"
CIMD_URL = "https://connections.example.com/client.json"
BASIC, POST, NONE, SIGNED = "client_secret_basic", "client_secret_post", "none", "private_key_jwt"
CODE, MACHINE = "authorization_code", "client_credentials"
NOW = datetime(2026, 7, 28, 12, 0, tzinfo=UTC)
LIFETIMES = st.floats(min_value=1e-9, max_value=10 * 365 * 86_400)
SPREADS = st.integers(0, 1000).map(random.Random)


def server(**members: Any) -> ServerMetadata:
    return ServerMetadata.model_validate({"issuer": LOGIN, "token_endpoint": f"{LOGIN}/token"} | members)


# --- which client ---------------------------------------------------------------------------------------------------

READS_DOCUMENTS = {"client_id_metadata_document_supported": True}
REGISTERS = {"registration_endpoint": f"{LOGIN}/register"}


def supporting(*methods: str) -> dict[str, Any]:
    return {"token_endpoint_auth_methods_supported": list(methods)}


@pytest.mark.parametrize(
    ("client_id", "members", "cimd_url", "grant", "kind"),
    [
        # a client ID of one's own comes before everything
        ("mine", {}, CIMD_URL, CODE, ClientKind.PREREGISTERED),
        ("mine", READS_DOCUMENTS | REGISTERS, CIMD_URL, CODE, ClientKind.PREREGISTERED),
        ("mine", {}, "", MACHINE, ClientKind.PREREGISTERED),
        # then a client ID metadata document, before registration
        ("", READS_DOCUMENTS, CIMD_URL, CODE, ClientKind.CIMD),
        ("", READS_DOCUMENTS | REGISTERS, CIMD_URL, CODE, ClientKind.CIMD),
        ("", READS_DOCUMENTS | supporting(BASIC, NONE), CIMD_URL, CODE, ClientKind.CIMD),
        # also where only methods with a secret are listed
        ("", READS_DOCUMENTS | REGISTERS | supporting(BASIC, SIGNED), CIMD_URL, CODE, ClientKind.CIMD),
        ("", READS_DOCUMENTS | supporting(BASIC), CIMD_URL, CODE, ClientKind.CIMD),
        ("", READS_DOCUMENTS | supporting(), CIMD_URL, CODE, ClientKind.CIMD),
        # which needs an https address of ours, and a server that says so
        ("", READS_DOCUMENTS | REGISTERS, "", CODE, ClientKind.DCR),
        ("", REGISTERS | supporting(BASIC, NONE), CIMD_URL, CODE, ClientKind.DCR),
        ("", READS_DOCUMENTS, "", CODE, None),
        # then registration
        ("", REGISTERS, CIMD_URL, CODE, ClientKind.DCR),
        ("", REGISTERS, "", CODE, ClientKind.DCR),
        # else a person
        ("", {}, CIMD_URL, CODE, None),
        ("", READS_DOCUMENTS | REGISTERS, CIMD_URL, MACHINE, None),
    ],
)
def test_the_first_rung_that_holds_is_taken(
    client_id: str, members: dict[str, Any], cimd_url: str, grant: str, kind: ClientKind | None
) -> None:
    rung = choices.client_approach(server(**members), client_id=client_id, cimd_url=cimd_url, grant=grant)
    assert rung.kind == kind
    assert rung.sentence.endswith(".")


@pytest.mark.parametrize(
    ("issuer", "methods", "safe"),
    [
        (LOGIN, ["S256"], True),
        (LOGIN, ["plain", "S256"], True),
        (LOGIN, ["plain"], False),
        (LOGIN, ["s256"], False),
        (LOGIN, [], False),
        (LOGIN, None, False),
        ("https://login.microsoftonline.com/acme/v2.0", None, True),
        ("https://login.microsoftonline.com.example.com/acme", None, False),
        ("https://accounts.google.com", None, False),
    ],
)
def test_a_server_without_s256_is_refused_unless_its_provider_is_known_for_it(
    issuer: str, methods: list[str] | None, safe: bool
) -> None:
    described = server(issuer=issuer, code_challenge_methods_supported=methods)
    if safe:
        choices.check_pkce(described)
        return
    with pytest.raises(CannotSignIn) as refusal:
        choices.check_pkce(described)
    assert refusal.value.code == "pkce_missing"


# --- which method ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "options", "method"),
    [
        ([BASIC, POST], {"has_secret": True}, POST),
        ([BASIC], {"has_secret": True}, BASIC),
        ([POST, NONE], {"has_secret": True}, POST),
        (None, {"has_secret": True}, BASIC),
        ([], {"has_secret": True}, BASIC),
        ([SIGNED], {"has_secret": True}, BASIC),
        ([BASIC], {"has_secret": False}, NONE),
        (None, {"has_secret": False}, NONE),
        ([SIGNED], {"has_secret": False, "has_key": True}, SIGNED),
        ([BASIC, SIGNED], {"has_secret": True, "has_key": True}, BASIC),
        ([BASIC, POST], {"has_secret": True, "chosen": BASIC}, BASIC),
        ([BASIC], {"has_secret": True, "chosen": POST}, POST),
        ([BASIC], {"has_secret": False, "chosen": SIGNED}, SIGNED),
        (None, {"has_secret": True, "chosen": NONE}, NONE),
    ],
)
def test_the_method_is_as_chosen_or_one_that_both_sides_can_do(
    supported: list[str] | None, options: dict[str, Any], method: str
) -> None:
    assert choices.auth_method(supported, **options) == method


@pytest.mark.parametrize(
    ("supported", "method"),
    [
        (None, BASIC),
        ([], BASIC),
        ([BASIC, POST, NONE], POST),
        ([NONE, BASIC], BASIC),
        ([NONE], NONE),
        ([SIGNED, NONE], NONE),
    ],
)
def test_a_registration_asks_for_a_method_that_the_server_supports(supported: list[str] | None, method: str) -> None:
    assert choices.registration_method(supported) == method


def test_a_server_with_unknown_methods_only_needs_a_client_id() -> None:
    with pytest.raises(CannotSignIn) as refusal:
        choices.registration_method(["tls_client_auth", SIGNED])
    assert refusal.value.code == "client_id_needed"


# --- which scopes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "challenged", "resource", "advertised", "more", "asked"),
    [
        ("mine  too", "read", ("all",), None, {}, "mine too"),
        ("", "read write read", ("all",), None, {}, "read write"),
        ("", "", ("all", "more"), None, {}, "all more"),
        ("", "", (), None, {}, ""),
        ("", "", None, None, {}, ""),
        # what the sign-in server knows is not asked for just because it knows it
        ("", "", None, ["everything"], {}, ""),
        # a step-up asks for what was had and what was missing
        ("", "read", None, None, {"missing": "write", "had": "read list"}, "read list write"),
        ("mine", "read", None, None, {"missing": "write", "had": "mine"}, "mine write"),
        ("", "", None, None, {"missing": "write", "had": ""}, "write"),
        ("", "read", None, None, {"missing": "", "had": "old"}, "read"),
        # offline_access where it is advertised, but never alone
        ("", "read", None, ["read", "offline_access"], {}, "read offline_access"),
        ("mine", "", None, ["offline_access"], {}, "mine offline_access"),
        ("offline_access mine", "", None, ["offline_access"], {}, "offline_access mine"),
        ("", "read", None, ["read"], {}, "read"),
        ("", "", None, ["offline_access"], {}, ""),
        ("", "", None, ["offline_access"], {"missing": "write", "had": "read"}, "read write offline_access"),
    ],
)
def test_scopes_come_from_settings_then_the_challenge_then_the_resource(
    configured: str,
    challenged: str,
    resource: tuple[str, ...] | None,
    advertised: list[str] | None,
    more: dict[str, str],
    asked: str,
) -> None:
    found = DiscoveryResult(server(scopes_supported=advertised), "https://mcp.example.com/mcp", challenged, resource)
    assert choices.scopes(found, configured=configured, **more) == asked


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=6).map(" ".join)


@given(WORDS, WORDS, WORDS, WORDS)
def test_a_step_up_never_asks_for_less_than_there_was_and_for_nothing_twice(
    configured: str, challenged: str, had: str, missing: str
) -> None:
    found = DiscoveryResult(server(scopes_supported=["offline_access"]), "https://mcp.example.com/mcp", challenged)
    asked = choices.scopes(found, configured=configured, missing=missing, had=had).split()
    assert len(asked) == len(set(asked))
    assert {*(configured or challenged).split(), *missing.split()} <= set(asked)
    assert not missing or set(had.split()) <= set(asked)


@pytest.mark.parametrize(
    ("granted", "asked", "lacking"),
    [
        ("read write", "read", ""),
        ("read", "read write list", "write list"),
        ("", "a b", "a b"),
        ("ready", "read", "read"),
    ],
)
def test_what_was_asked_for_and_not_granted_is_named(granted: str, asked: str, lacking: str) -> None:
    assert choices.not_granted(granted, asked) == lacking


# --- whose answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promised", "iss", "expected"),
    [
        (True, LOGIN, True),
        (True, None, False),
        (True, f"{LOGIN}/", False),
        (True, "https://evil.example.com", False),
        (False, None, True),
        (False, LOGIN, True),
        (False, LOGIN.upper(), False),
        (False, "", False),
        (False, "https://evil.example.com", False),
    ],
)
def test_only_the_server_that_was_asked_may_answer(promised: bool, iss: str | None, expected: bool) -> None:
    asked = server(authorization_response_iss_parameter_supported=promised)
    assert choices.expected_iss(asked, iss) is expected


# --- when to renew --------------------------------------------------------------------------------------------------


@given(LIFETIMES, st.booleans(), SPREADS)
def test_a_renewal_comes_before_the_end_by_at_most_a_third_of_the_lifetime(
    expires_in: float, renewable: bool, spread: random.Random
) -> None:
    at = choices.renew_at(NOW, expires_in, renewable=renewable, spread=spread)
    lifetime = timedelta(seconds=expires_in)
    assert at is not None
    assert NOW <= at <= NOW + lifetime
    margin = NOW + lifetime - at
    assert margin <= lifetime / 3 + timedelta(microseconds=1)
    assert margin <= (timedelta(minutes=10) if renewable else timedelta(days=3))


def test_a_token_without_an_end_is_never_renewed_and_never_stale() -> None:
    assert choices.renew_at(NOW, None, renewable=True, spread=random.Random(1)) is None
    assert not choices.is_stale(NOW, NOW - timedelta(days=9999), None)


@pytest.mark.parametrize(
    ("lifetime", "age", "stale"),
    [(3600, 0, False), (3600, 3569, False), (3600, 3570, True), (3600, 3601, True), (30, 19, False), (30, 20, True)],
)
def test_a_token_is_stale_shortly_before_its_end(lifetime: int, age: int, stale: bool) -> None:
    obtained = NOW - timedelta(seconds=age)
    assert choices.is_stale(NOW, obtained, obtained + timedelta(seconds=lifetime)) is stale


@given(LIFETIMES, st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_stale_token_stays_stale_and_one_that_has_ended_is_stale(lifetime: float, age: float, later: float) -> None:
    ends = NOW + timedelta(seconds=lifetime)
    first, second = sorted([NOW + timedelta(seconds=age), NOW + timedelta(seconds=later)])
    assert choices.is_stale(first, NOW, ends) <= choices.is_stale(second, NOW, ends)
    assert choices.is_stale(ends, NOW, ends)


@given(st.integers(0, 10_000), SPREADS)
def test_the_next_try_comes_soon_and_never_much_later_than_ten_minutes(failures: int, spread: random.Random) -> None:
    wait = choices.retry_at(NOW, failures, spread) - NOW
    assert timedelta(seconds=12) <= wait <= timedelta(seconds=720)


def test_tries_become_rarer_with_every_failure_until_ten_minutes() -> None:
    class Still(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return 1.0

    waits = [(choices.retry_at(NOW, failures, Still()) - NOW).total_seconds() for failures in range(9)]
    assert waits == [15, 30, 60, 120, 240, 480, 600, 600, 600]
