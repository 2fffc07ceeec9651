"""The decisions of a sign-in, as tables and as promises about any input."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.models import TokenAuth
from oauth import choices
from oauth.discovery import Found
from oauth.errors import CannotSignIn
from oauth.metadata import ServerMetadata
from oauth.models import Kind

ISSUER = "https://login.example.com"
CIMD = "https://duvo.example.com/client.json"
BASIC, POST, NONE, SIGNED = "client_secret_basic", "client_secret_post", "none", "private_key_jwt"
NOW = datetime(2026, 7, 28, 12, tzinfo=UTC)
SECONDS = st.floats(min_value=0.001, max_value=10 * 365 * 86_400.0)
MOMENTS = st.integers(0, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds))
WORDS = st.lists(st.sampled_from(["read", "write", "admin", "offline_access", "files:all"]), max_size=4).map(" ".join)


def server(**members: object) -> ServerMetadata:
    return ServerMetadata.model_validate({"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", **members})


def found(challenge: str = "", resource: tuple[str, ...] | None = None, offered: list[str] | None = None) -> Found:
    return Found(server(scopes_supported=offered), "https://mcp.example.com/mcp", challenge, resource)


# --- which client ---


@pytest.mark.parametrize(
    ("client_id", "cimd_url", "members", "kind"),
    [
        ("acme-1", CIMD, {"client_id_metadata_document_supported": True}, Kind.PREREGISTERED),
        ("", CIMD, {"client_id_metadata_document_supported": True}, Kind.CIMD),
        ("", CIMD, {"client_id_metadata_document_supported": True, "token_endpoint_auth_methods_supported": [NONE]},
         Kind.CIMD),
        ("", CIMD, {"client_id_metadata_document_supported": True, "token_endpoint_auth_methods_supported": [BASIC],
                    "registration_endpoint": f"{ISSUER}/register"}, Kind.DCR),
        ("", CIMD, {"client_id_metadata_document_supported": True, "token_endpoint_auth_methods_supported": [BASIC]},
         None),
        ("", "", {"client_id_metadata_document_supported": True}, None),
        ("", "", {"registration_endpoint": f"{ISSUER}/register"}, Kind.DCR),
        ("", CIMD, {}, None),
    ],
)  # fmt: skip
def test_the_first_rung_that_holds_is_taken(
    client_id: str, cimd_url: str, members: dict[str, object], kind: Kind | None
) -> None:
    rung = choices.rung(server(**members), client_id=client_id, cimd_url=cimd_url, grant="authorization_code")
    assert (rung.kind, rung.sentence.endswith(".")) == (kind, True)


def test_client_credentials_need_a_client_of_ones_own() -> None:
    offers = server(registration_endpoint=f"{ISSUER}/register", client_id_metadata_document_supported=True)
    for client_id, kind in (("", None), ("robot", Kind.PREREGISTERED)):
        rung = choices.rung(offers, client_id=client_id, cimd_url=CIMD, grant="client_credentials")
        assert rung.kind == kind


@pytest.mark.parametrize("methods", [None, [], ["plain"], ["s256"]])
def test_without_s256_nobody_signs_in(methods: list[str] | None) -> None:
    with pytest.raises(CannotSignIn) as refusal:
        choices.check_pkce(server(code_challenge_methods_supported=methods))
    assert refusal.value.code == "pkce_missing"
    choices.check_pkce(server(code_challenge_methods_supported=["plain", "S256"]))


@pytest.mark.parametrize(
    ("issuer", "fine"),
    [
        ("https://login.microsoftonline.com/acme/v2.0", True),
        ("https://login.microsoftonline.com.evil.example/acme", False),
        ("https://evil-login.microsoftonline.com.example/", False),
    ],
)
def test_only_a_provider_known_for_s256_may_leave_it_unsaid(issuer: str, fine: bool) -> None:
    silent = server().model_copy(update={"issuer": issuer})
    if fine:
        choices.check_pkce(silent)
    else:
        with pytest.raises(CannotSignIn):
            choices.check_pkce(silent)


# --- which method ---


@pytest.mark.parametrize(
    ("supported", "chosen", "has_secret", "has_key", "method"),
    [
        (None, "", False, False, NONE),
        ([BASIC], "", False, False, NONE),
        (None, "", False, True, SIGNED),
        (None, "", True, False, BASIC),
        ([], "", True, False, BASIC),
        ([BASIC], "", True, False, BASIC),
        ([POST], "", True, False, POST),
        ([BASIC, POST], "", True, False, POST),
        (["tls_client_auth"], "", True, False, BASIC),
        ([NONE], "", True, True, BASIC),
        ([POST], BASIC, True, False, BASIC),
        ([POST], SIGNED, True, True, SIGNED),
        ([BASIC], NONE, True, False, NONE),
    ],
)
def test_the_method_is_what_is_chosen_or_what_both_sides_can_do(
    supported: list[str] | None, chosen: str, has_secret: bool, has_key: bool, method: str
) -> None:
    assert choices.auth_method(supported, chosen=chosen, has_secret=has_secret, has_key=has_key) == method


@pytest.mark.parametrize(
    ("supported", "method"),
    [
        (None, BASIC), ([], BASIC), ([NONE], NONE), ([BASIC], BASIC), ([POST], POST), ([NONE, POST], POST),
        ([BASIC, POST, NONE], POST), ([SIGNED, NONE], NONE), ([SIGNED, BASIC], BASIC),
    ],
)  # fmt: skip
def test_the_method_to_register_with_is_one_that_the_server_supports(supported: list[str] | None, method: str) -> None:
    assert choices.registration_method(supported) == method


def test_a_server_without_a_method_that_we_know_asks_for_a_client_id() -> None:
    with pytest.raises(CannotSignIn) as refusal:
        choices.registration_method([SIGNED, "tls_client_auth"])
    assert refusal.value.code == "client_id_needed"


@given(st.none() | st.lists(st.sampled_from([*TokenAuth.values, "tls_client_auth", ""])), st.booleans(), st.booleans())
def test_a_method_is_never_one_that_we_have_nothing_for(
    supported: list[str] | None, has_secret: bool, has_key: bool
) -> None:
    method = choices.auth_method(supported, has_secret=has_secret, has_key=has_key)
    assert has_secret or method not in {BASIC, POST}
    assert has_key or method != SIGNED


# --- which scopes ---


@pytest.mark.parametrize(
    ("what", "known", "asked"),
    [
        (found(), {}, ""),
        (found("read"), {}, "read"),
        (found("", ("all",)), {}, "all"),
        (found("read", ("all",)), {}, "read"),
        (found("", ()), {}, ""),
        (found("read", ("all",)), {"configured": "mine"}, "mine"),
        (found("", None, ["openid", "email"]), {}, ""),
        (found("read", None, ["offline_access"]), {}, "read offline_access"),
        (found("", ("a",), ["offline_access"]), {"configured": "mine"}, "mine offline_access"),
        (found("", None, ["offline_access"]), {}, ""),
        (found("read offline_access", None, ["offline_access"]), {}, "read offline_access"),
        (found("read"), {"missing": "write", "had": "read list"}, "read list write"),
        (found("read"), {"missing": "", "had": "read list"}, "read"),
        (found(), {"missing": "write", "had": ""}, "write"),
        (found("", ("a",), ["offline_access"]), {"missing": "write", "had": "a"}, "a write offline_access"),
        (found("b"), {"configured": "a", "missing": "w", "had": "a h"}, "a h w"),
    ],
)
def test_scopes_come_from_the_first_who_names_them(what: Found, known: dict[str, str], asked: str) -> None:
    assert choices.scopes(what, **{"configured": "", **known}) == asked


@given(WORDS, WORDS, WORDS, WORDS, st.booleans())
def test_a_step_up_asks_for_what_was_there_and_what_was_missing(
    configured: str, challenge: str, missing: str, had: str, offline: bool
) -> None:
    what = found(challenge, None, ["offline_access"] if offline else None)
    asked = choices.scopes(what, configured=configured, missing=missing, had=had).split()
    assert len(asked) == len(set(asked))
    assert set(missing.split()) <= set(asked)
    assert not missing or set(had.split()) <= set(asked)
    assert not asked or not offline or "offline_access" in asked
    assert set(choices.not_granted(had, " ".join(asked)).split()) == set(asked) - set(had.split())


# --- who answered (RFC 9207) ---


@pytest.mark.parametrize(
    ("promised", "iss", "fits"),
    [
        (True, ISSUER, True), (True, None, False), (True, "", False), (True, f"{ISSUER}/", False),
        (False, ISSUER, True), (False, None, True), (False, "", False), (False, f"{ISSUER}/", False),
        (True, ISSUER.upper(), False), (False, "https://evil.example", False), (True, f" {ISSUER}", False),
        (False, "https://LOGIN.example.com", False), (False, "https://login.example.com:443", False),
    ],
)  # fmt: skip
def test_an_answer_is_taken_from_the_issuer_that_was_asked(promised: bool, iss: str | None, fits: bool) -> None:
    asked = server(authorization_response_iss_parameter_supported=promised)
    assert choices.expected_iss(asked, iss) is fits


# --- when to renew ---


@given(MOMENTS, SECONDS, st.booleans(), st.integers())
def test_a_renewal_lies_in_the_last_third_of_a_life(now: datetime, life: float, renewable: bool, seed: int) -> None:
    at = choices.renew_at(now, life, renewable=renewable, spread=random.Random(seed))
    end, blink = now + timedelta(seconds=life), timedelta(microseconds=2)
    assert at is not None
    assert now - blink <= at <= end
    longest = timedelta(minutes=10) if renewable else choices.ENDS_SOON
    assert end - at <= min(timedelta(seconds=life) / 3, longest) + blink


def test_what_has_no_end_is_never_renewed() -> None:
    assert choices.renew_at(NOW, None, renewable=True, spread=random.Random(1)) is None
    assert choices.is_stale(NOW, NOW, None) is False


@given(MOMENTS, SECONDS, st.floats(0, 2), st.floats(0, 2))
def test_who_is_stale_stays_stale(obtained: datetime, life: float, one: float, other: float) -> None:
    end = obtained + timedelta(seconds=life)
    sooner, later = (obtained + timedelta(seconds=life * part) for part in sorted((one, other)))
    assert choices.is_stale(sooner, obtained, end) <= choices.is_stale(later, obtained, end)
    assert choices.is_stale(end, obtained, end)
    assert not choices.is_stale(obtained, obtained, obtained + timedelta(seconds=max(life, 1)))


@given(st.integers(0, 10_000), st.integers())
def test_a_pause_grows_to_twelve_minutes_at_most(failures: int, seed: int) -> None:
    pause = choices.retry_at(NOW, failures, random.Random(seed)) - NOW
    assert timedelta(seconds=12) <= pause <= timedelta(minutes=12)
