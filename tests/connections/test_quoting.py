"""Words of strangers as people may read them: what has the form of a secret is left out, plain words stay."""

from __future__ import annotations

import time

import pytest

from connections.egress.urls import SECRET_VALUE
from connections.quoting import LEFT_OUT, readable

REST = "A1b2C3d4E5f6G7h8"
KEYS = [
    "sk-", "sk_live_", "pk_live_", "rk_live_", "rk_test_", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_",
    "glpat-", "xoxb-", "xapp-", "AIza", "AKIA", "ASIA", "hf_", "ntn_", "lin_api_", "npm_", "dop_v1_", "tvly-", "fc-",
    "duvo_", "SG.", "shpat_", "whsec_", "123456:AAH",
]  # fmt: skip


@pytest.mark.parametrize("beginning", KEYS)
def test_what_is_a_secret_in_an_address_is_one_in_words(beginning: str) -> None:
    key = f"{beginning}{REST}"
    assert SECRET_VALUE.match(key)
    assert readable(f"The key {key} is bad. Get another.", 200) == f"The key {LEFT_OUT} is bad. Get another."
    assert readable(f"It is {key}. Bad.", 200) == f"It is {LEFT_OUT}. Bad."
    assert key not in readable(f'{{"key":"{key}"}}', 200)


@pytest.mark.parametrize(
    "address", ["postgres://u:p@", "mysql://root:a/b@", "https://ann:p@ss@", "redis://:hunter2@", "https://hunter2@"]
)
def test_who_signs_in_by_an_address_is_left_out(address: str) -> None:
    scheme = address.partition("://")[0]
    assert readable(f"No route to {address}db.acme.example/shop", 200) == (
        f"No route to {scheme}://{LEFT_OUT}@db.acme.example/shop"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Server=db;User Id=sa;Password=hunter2secret;", f"Server=db;User Id=sa;Password={LEFT_OUT};"),
        ('{"api_key": "abcdef0123456789"}', f'{{"api_key": "{LEFT_OUT}"}}'),
        ("AccountKey=abc0123456789==;EndpointSuffix=x", f"AccountKey={LEFT_OUT};EndpointSuffix=x"),
        ("Cookie: sessionid=abcdef0123456789; a=b", f"Cookie: sessionid={LEFT_OUT}; a=b"),
        ("access_token:abcdef0123456789 is bad", f"access_token:{LEFT_OUT} is bad"),
        ("Authorization: Basic dXNlcjpodW50ZXIyc2VjcmV0", f"Authorization: {LEFT_OUT}"),
        ("got bearer: abcdef0123456789", f"got {LEFT_OUT}"),
        ("got Bearer%20abcdef0123456789", f"got {LEFT_OUT}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", LEFT_OUT),
    ],
)
def test_what_its_name_tells_is_left_out(words: str, told: str) -> None:
    assert readable(words, 200) == told


@pytest.mark.parametrize(
    "words",
    [
        "password: must have 8 characters", "token: required", "Basic authentication is off",
        "The token ended at 12:05", "secret = null", "bearer: no", "pwd=", "password is wrong",
        "Write to help@acme.example or see https://acme.example/help.",
        "Ask a sk-il of us", "hf_model is unknown", "The asset AKI-1 is missing", "At 12:AAH",
        "npm_config_registry is missing", "hf_hub_download_failed", "No fc-barcelona-tickets", "pkce_challenge_missing",
        "skill_not_available", "See https://a.example:8443/users/joe@example.com",
    ],
)  # fmt: skip
def test_plain_words_stay(words: str) -> None:
    assert readable(words, 200) == words


HOSTILE = [
    "password=", "token:a", "secret='", "basic a", "-----BEGIN PRIVATE KEY-----", "bearer:", "api_key",
    "://a", "://:", "://a:", "sk-.", "sk-a", "xoxb-.", "1", "bot1:AA", "bearer ", "eyJ", "eyJa.", "hf_", "a@", "@", "-",
    " ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_long(piece: str) -> None:
    """By CPU time of this thread: a text of this length had taken some seconds, on the event loop."""
    for text in (piece * (200_000 // len(piece)), "bearer" + piece * 50_000, "://a:" + piece * 50_000):
        began = time.thread_time()
        readable(text, 200_000)
        assert time.thread_time() - began < 1.5
