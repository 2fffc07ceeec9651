"""Words of strangers as people may read them: what has the form of a secret is left out, plain words stay."""

from __future__ import annotations

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
    "words",
    [
        "Write to help@acme.example or see https://acme.example/help.",
        "Ask a sk-il of us", "hf_model is unknown", "The asset AKI-1 is missing", "At 12:AAH",
    ],
)  # fmt: skip
def test_plain_words_stay(words: str) -> None:
    assert readable(words, 200) == words
