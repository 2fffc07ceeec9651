"""`manage.py seals`: which keys are in use where, and what an operator may do with each."""

from __future__ import annotations

import base64
import socket
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from redis import Redis

from connections import key_holders, sealing
from connections.models import Credential
from tests.conftest import House
from tools.models import Call, StoredContent

OLD, NEW = (base64.urlsafe_b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))


@pytest.fixture
def having(settings: Any) -> Any:
    """The settings of this process."""
    return settings


@pytest.fixture
def keys(having: Any) -> dict[str, str]:
    """The ids of the two keys; the old one is alone in use."""
    having.SEAL_KEYS = [OLD, NEW]
    old, new = sealing.key_ids()
    having.SEAL_KEYS = [OLD]
    return {"old": old, "new": new}


@pytest.fixture
def secret(acme: House, keys: dict[str, str]) -> Credential:
    row = Credential(connection=acme.connection(), kind=Credential.Kind.API_KEY)
    row.set("s3cret", by=acme.admin)
    return row


Captured = pytest.CaptureFixture[str]


def told(capsys: Captured) -> dict[str, str]:
    """What the command says of each key, by its id."""
    capsys.readouterr()
    call_command("seals")
    parts = capsys.readouterr().out.strip().split("\n\n")
    return {part[:8]: part for part in parts}


@pytest.mark.smoke
def test_the_way_from_one_key_to_another(
    secret: Credential, keys: dict[str, str], having: Any, capsys: Captured
) -> None:
    """Last, first, rotate, drop: at each step it says what may be done next, and what not yet."""
    old, new = keys["old"], keys["new"]
    key_holders.note("web", [old])
    said = told(capsys)
    assert said.keys() == {old}
    assert "first: it seals" in said[old]
    assert "1 in connections.Credential.sealed" in said[old]

    having.SEAL_KEYS = [OLD, NEW]
    assert "May not be put first yet: it is unknown to web on" in told(capsys)[new]
    settings_of_all(old, new)
    assert "May be put first if it is newer" in told(capsys)[new]

    having.SEAL_KEYS = [NEW, OLD]
    assert f"May not be dropped yet: it still seals what is new in web on {socket.gethostname()}" in told(capsys)[old]
    settings_of_all(new, old)
    said = told(capsys)
    assert said[new].endswith("Seals what is new.")
    assert "May not be dropped before `manage.py rotate_seals` has run" in said[old]

    call_command("rotate_seals")
    said = told(capsys)
    assert "1 in connections.Credential.sealed" in said[new]
    assert "has sealed   nothing" in said[old]
    assert "or dropped if it is older" in said[old]

    having.SEAL_KEYS = [NEW]
    assert told(capsys).keys() == {new}


def settings_of_all(*keys: str) -> None:
    """All processes are replaced by others with these keys."""
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.delete(key_holders.SHOWN)
    key_holders.note("web", keys)


def test_a_first_key_that_others_do_not_have_is_told(
    secret: Credential, keys: dict[str, str], having: Any, capsys: Captured
) -> None:
    having.SEAL_KEYS = [NEW, OLD]
    key_holders.note("calls", [keys["old"]])
    assert f"is unknown to calls on {socket.gethostname()}: there it cannot be opened" in told(capsys)[keys["new"]]


def test_what_no_key_here_opens_is_an_error(
    secret: Credential, keys: dict[str, str], having: Any, capsys: Captured
) -> None:
    having.SEAL_KEYS = [NEW]
    with pytest.raises(CommandError, match=f"What {keys['old']} sealed cannot be opened here"):
        call_command("seals")
    said = capsys.readouterr().out
    assert "not in SEAL_KEYS here" in said
    assert "s3cret" not in said
    assert OLD not in said


def test_sealed_files_are_counted_by_their_names(
    secret: Credential, keys: dict[str, str], having: Any, capsys: Captured, acme: House
) -> None:
    connection = secret.connection
    call = Call.objects.create(tenant=acme.tenant, connection=connection, tool_name="orders__echo")
    StoredContent.objects.create(call=call, number=1, size=1, file=f"{acme.tenant.pk}/{call.pk}-00.{keys['old']}")
    assert "1 in tools.StoredContent.file" in told(capsys)[keys["old"]]
