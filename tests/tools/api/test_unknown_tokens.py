"""Tokens that nobody has cost next to nothing, and whoever tries them stops nobody else."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import RequestFactory

from tests.conftest import House
from tests.live import Api
from tools import callers
from tools.callers import UNKNOWN_AT_ONCE
from tools.models import AccessToken
from tools.models.assignments import digest_of

pytestmark = pytest.mark.smoke

DOORS = ["/v1/tools", "/v1/calls/0192d3a0-0000-7000-8000-000000000000"]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time that the database is asked for a token."""
    asked: list[str] = []
    load = callers.principals._load

    def noted(digests: Collection[str]) -> Mapping[str, callers.Principal]:
        asked.extend(digests)
        return load(digests)

    monkeypatch.setattr(callers.principals, "_load", noted)
    return asked


def made_up() -> str:
    return f"duvo_{secrets.token_urlsafe(32)}"


@pytest.mark.parametrize("path", DOORS)
def test_an_address_has_so_many_unknown_tokens_and_then_waits(
    api: Api, acme: House, lookups: list[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "SLOWED_DOWN_FOR", 0.0)
    answers = [api.as_(made_up()).get(path) for _ in range(UNKNOWN_AT_ONCE + 20)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:UNKNOWN_AT_ONCE] == [401] * UNKNOWN_AT_ONCE
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) > 10
    assert len(lookups) == len(answers) - len(refused)
    assert refused[0].json()["code"] == "too_many_tries"
    assert refused[0].headers["Retry-After"] == "1"


async def test_who_guesses_without_a_pause_is_made_to_pause(acme: House, rf: RequestFactory, db: None) -> None:
    request = rf.get(DOORS[1])
    for _ in range(UNKNOWN_AT_ONCE):
        callers._tries.charge(callers.Bucket(callers.share_of(callers.address_of(request)), UNKNOWN_AT_ONCE, 1e-6))
    began = time.monotonic()
    many = [callers.recognize(digest_of(made_up()), request) for _ in range(callers.MOST_SLOWED_DOWN + 1)]
    refused = await asyncio.gather(*many, return_exceptions=True)
    assert {type(refusal) for refusal in refused} == {callers.TooManyTries}
    assert callers.SLOWED_DOWN_FOR <= time.monotonic() - began < 2 * callers.SLOWED_DOWN_FOR + 5
    assert callers._slowed_down == 0


@pytest.mark.parametrize("path", DOORS)
def test_who_has_a_good_token_is_served_beside_a_guesser_of_the_same_address(api: Api, acme: House, path: str) -> None:
    token = acme.token()
    mine = api.as_(token).get(path).status_code
    assert mine in {200, 404}
    for _ in range(UNKNOWN_AT_ONCE + 5):
        api.as_(made_up()).get(path)
    callers.principals.clear()  # as it is after a second
    assert api.as_(token).get(path).status_code == mine


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer, and each token notes its use.")
def test_many_good_tokens_of_one_address_may_come_at_once(api: Api, acme: House) -> None:
    tokens = [acme.token(acme.assignment(f"Job {number}")) for number in range(UNKNOWN_AT_ONCE + 10)]
    with ThreadPoolExecutor(len(tokens)) as programs:
        answers = programs.map(lambda token: api.as_(token).get(DOORS[1]).status_code, tokens)
    assert set(answers) == {404}


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("token", ["x", "duvo_", "duvo_short", f"duvo_{'x' * 44}", f"other{'x' * 43}", "a.b.c"])
def test_what_is_no_token_is_never_looked_up_and_counts_for_nothing(
    api: Api, acme: House, lookups: list[str], path: str, token: str
) -> None:
    assert [api.as_(token).get(path).status_code for _ in range(UNKNOWN_AT_ONCE + 5)] == [401] * (UNKNOWN_AT_ONCE + 5)
    assert lookups == []


def test_a_program_that_repeats_a_token_that_was_revoked_hears_401_each_time(api: Api, acme: House) -> None:
    row, token = AccessToken.issue(assignment=acme.assignment())
    assert api.as_(token).get("/v1/tools").status_code == 200
    row.revoke()
    callers.principals.clear()
    assert {api.as_(token).get("/v1/tools").status_code for _ in range(UNKNOWN_AT_ONCE + 10)} == {401}


def test_unknown_tokens_push_no_good_one_out_of_what_is_known(acme: House) -> None:
    few = callers.LoadingCache(lambda keys: {key: key for key in keys if key == "good"}, seconds=3600.0, most=3)
    few.get_sync("good")
    for number in range(10):
        few.get_sync(f"unknown {number}")
    assert few.get_cached("good") == "good"


def test_what_is_known_of_strangers_is_bounded() -> None:
    tries = callers.Local(most=10)
    for number in range(100):
        tries.ask(1, callers.Bucket(str(number), 1, 1.0))
    assert len(tries._kept) == 10
