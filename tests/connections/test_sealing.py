"""Secrets at rest: bound to their row, rotated online."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from connections import key_holders, rotation, sealing
from connections.errors import SealBroken, SealKeyUnknown
from connections.models import Credential
from tests.conftest import House

OLD, NEW = (base64.urlsafe_b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))


@pytest.fixture
def old_key(settings: Any) -> None:
    settings.SEAL_KEYS = [OLD]


def secret_of(house: House, value: str = "s3cret") -> Credential:
    row = Credential(connection=house.connection(), kind=Credential.Kind.API_KEY)
    row.set(value, by=house.admin)
    return row


@given(value=st.recursive(st.none() | st.booleans() | st.text(), st.lists), context=st.text())
def test_what_was_sealed_opens_in_its_context(value: Any, context: str) -> None:
    assert sealing.unseal(sealing.seal(value, context=context), context=context) == value


@given(one=st.text(), other=st.text())
def test_a_seal_opens_in_no_other_context(one: str, other: str) -> None:
    sealed = sealing.seal("s3cret", context=one)
    if one != other:
        with pytest.raises(SealBroken):
            sealing.unseal(sealed, context=other)


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_seal_in_which_one_bit_changed_does_not_open(position: int, bit: int) -> None:
    version, key, blob = sealing.seal("s3cret", context="here").split(".")
    raw = bytearray(base64.urlsafe_b64decode(blob))
    raw[position % len(raw)] ^= 1 << bit
    with pytest.raises(SealBroken):
        sealing.unseal(f"{version}.{key}.{base64.urlsafe_b64encode(raw).decode()}", context="here")


@pytest.mark.parametrize("text", ["", "v1", "v1..", "v1.0000000.AAAA", "v2.x.y", "plain text", "v1.x.é"])
def test_what_is_no_seal_does_not_open(text: str) -> None:
    with pytest.raises(SealBroken):
        sealing.unseal(text, context="here")


def test_the_same_secret_is_never_sealed_alike() -> None:
    assert sealing.seal("s3cret", context="here") != sealing.seal("s3cret", context="here")


def test_a_secret_copied_to_a_rivals_row_does_not_open(acme: House, rival: House) -> None:
    ours, theirs = secret_of(acme), secret_of(rival, "theirs")
    assert ours.open() == "s3cret"
    theirs.sealed = ours.sealed
    with pytest.raises(SealBroken):
        theirs.open()


@pytest.mark.smoke
def test_rotation_seals_anew_and_the_old_key_can_go(acme: House, old_key: None, settings: Any) -> None:
    row = secret_of(acme)
    before = row.sealed
    settings.SEAL_KEYS = [NEW, OLD]
    assert row.open() == "s3cret"
    call_command("rotate_seals")
    row.refresh_from_db()
    assert row.sealed != before
    settings.SEAL_KEYS = [NEW]
    assert row.open() == "s3cret"
    assert not any(progress.total for progress in rotation.rotate())


def test_rotation_shows_its_progress_and_names_what_no_key_opens(
    acme: House, old_key: None, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    row = secret_of(acme)
    settings.SEAL_KEYS = [NEW]
    with pytest.raises(CommandError, match=r"1 in connections\.Credential\.sealed"):
        call_command("rotate_seals")
    row.refresh_from_db()
    settings.SEAL_KEYS = [NEW, OLD]
    call_command("rotate_seals")
    assert "connections.Credential.sealed: 1 of 1" in capsys.readouterr().out
    assert row.open() == "s3cret"


def test_a_secret_set_during_rotation_is_not_overwritten(acme: House, old_key: None, settings: Any) -> None:
    row = secret_of(acme)
    settings.SEAL_KEYS = [NEW, OLD]
    steps = rotation.rotate()
    next(steps)
    stale = Credential.objects.get(pk=row.pk)
    row.set("newer", by=None)
    assert rotation._reseal(Credential, stale, "sealed")
    for _ in steps:
        pass
    assert Credential.objects.get(pk=row.pk).open() == "newer"


def test_every_column_that_holds_seals_is_rotated() -> None:
    columns = {
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if field.name.startswith("sealed") and hasattr(field, "column")
    }
    assert columns == set(rotation.sealed_columns())


def test_a_key_that_is_unknown_here_may_be_another_processes(settings: Any, old_key: None) -> None:
    sealed = sealing.seal("s3cret", context="here")
    settings.SEAL_KEYS = [NEW]
    with pytest.raises(SealKeyUnknown):
        sealing.unseal(sealed, context="here")


def test_a_key_that_nobody_has_shown_is_lost(settings: Any, old_key: None, no_other_keys: None) -> None:
    sealed = sealing.seal("s3cret", context="here")
    old = sealing.key_ids()
    settings.SEAL_KEYS = [NEW]
    with pytest.raises(SealBroken):
        sealing.unseal(sealed, context="here")
    key_holders.note("web", [*sealing.key_ids(), *old])
    key_holders.forget()
    with pytest.raises(SealKeyUnknown):
        sealing.unseal(sealed, context="here")
    with pytest.raises(SealBroken):
        sealing.unseal("v1.00000000.AAAA", context="here")


def test_a_digest_is_compared_with_the_key_that_made_it(settings: Any, old_key: None) -> None:
    digest = sealing.keyed_digest(b"six digits", context="here")
    for keys in ([OLD], [OLD, NEW], [NEW, OLD]):
        settings.SEAL_KEYS = keys
        assert sealing.same_digest(digest, b"six digits", context="here") is True
        assert sealing.same_digest(digest, b"seven digits", context="here") is False
        assert sealing.same_digest(digest, b"six digits", context="there") is False
    assert sealing.keyed_digest(b"six digits", context="here") != digest, "the first key makes them"
    settings.SEAL_KEYS = [NEW]
    assert sealing.same_digest(digest, b"six digits", context="here") is None, "with its key gone nobody knows"


def test_no_key_counts_as_lost_while_redis_is_away(settings: Any, old_key: None, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    key_holders.note("web", sealing.key_ids())
    assert key_holders.seen() is None
    assert not key_holders.is_lost("00000000")


def test_an_empty_redis_knows_from_its_first_process_on_since_when_it_is_told(
    settings: Any, no_other_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when everybody has had the time to show a key may one that nobody showed count as lost."""
    monkeypatch.setattr(key_holders, "_began", 0.0)
    with Redis.from_url(settings.REDIS_URL) as client:
        client.delete(key_holders.SINCE)
        key_holders.note("web", sealing.key_ids())
        since = float(client.get(key_holders.SINCE))
        key_holders.note("calls", sealing.key_ids())
        assert float(client.get(key_holders.SINCE)) == since
        key_holders.forget()
        assert not key_holders.is_lost("00000000")
        client.set(key_holders.SINCE, since - 3600)
        key_holders.forget()
        assert key_holders.is_lost("00000000")


def test_what_a_process_showed_an_hour_ago_is_forgotten(settings: Any, no_other_keys: None) -> None:
    with Redis.from_url(settings.REDIS_URL) as client:
        client.zadd(key_holders.SHOWN, {"web gone 01234567": time.time() - key_holders.REMEMBERED - 1})
    key_holders.note("web", ["89abcdef", "01234568"])
    [holder] = key_holders.seen() or []
    assert (holder.kind, holder.keys) == ("web", ("89abcdef", "01234568"))
    assert key_holders.at_work([holder], time.time()) == [holder]
    assert key_holders.at_work([holder], time.time() + key_holders.AT_WORK) == []
