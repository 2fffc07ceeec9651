"""The credential state of an OAuth connection follows from its rows, and always says what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import oauth
from connections.models import Connection, Tenant
from connections.states import CredentialState, next_step
from oauth import credential_state
from oauth.models import Registration, SignIn
from oauth.protocol.choices import ClientKind

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
# Codes that end on the callback's page or with a call, where the sentence itself says what to do.
NO_STATE = {
    "bad_token_answer", "callback_refused", "cannot_sign_in", "code_missing", "connection_changed", "expired_state",
    "foreign_session", "no_session", "provider_refused", "provider_unavailable", "replayed", "sign_in_failed",
    "unknown_state", "wrong_issuer",
}  # fmt: skip


def sign_in(**members: Any) -> SignIn:
    connection = Connection(tenant=Tenant(), authorization="oauth", server_url="https://mcp.example.com/mcp")
    row = SignIn(
        connection=connection, registration=Registration(connection=connection, kind=ClientKind.DCR, client_id="1"),
        server_url=connection.server_url, server={"issuer": "https://as.example.com"},
    )  # fmt: skip
    for name, value in members.items():
        setattr(row, name, value)
    return row


@pytest.mark.parametrize(
    ("members", "state", "reason"),
    [
        ({}, "ready", ""),
        ({"expires_at": NOW + timedelta(hours=1), "renewable": True}, "ready", ""),
        ({"expires_at": NOW - timedelta(hours=1), "renewable": True}, "ready", ""),
        ({"expires_at": NOW + timedelta(hours=1), "renewable": True, "failures": 1}, "ready", ""),
        ({"expires_at": NOW + timedelta(hours=1), "renewable": True, "failures": 2}, "expiring", "refresh_failing"),
        ({"expires_at": NOW - timedelta(hours=1), "renewable": True, "failures": 1}, "expired", "refresh_failing"),
        ({"expires_at": NOW + timedelta(days=9)}, "ready", ""),
        ({"expires_at": NOW + timedelta(days=2)}, "expiring", "sign_in_ends"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "expired", "sign_in_ended"),
        ({"ended_at": NOW, "ended_because": "sign_in_ended"}, "expired", "sign_in_ended"),
        ({"ended_at": NOW, "ended_because": "sign_in_revoked"}, "refused", "sign_in_revoked"),
        ({"ended_at": NOW, "ended_because": "client_forgotten"}, "refused", "client_forgotten"),
        ({"ended_at": NOW, "ended_because": "issuer_changed"}, "refused", "issuer_changed"),
        ({"missing_scopes": "write"}, "refused", "insufficient_scope"),
        ({"missing_scopes": "write", "step_ups": 9}, "refused", "scope_not_granted"),
        ({"refused_at": NOW}, "refused", "token_refused"),
    ],
)
def test_one_sign_in_stands_like_this(members: dict[str, Any], state: str, reason: str) -> None:
    found = credential_state.of_sign_in(sign_in(**members), NOW)
    assert (found.state, found.reason) == (state, reason)
    assert found.sentence
    assert bool(next_step(reason)) == bool(reason)
    assert next_step(reason) or found.state == CredentialState.READY


def test_a_moment_is_written_with_its_day_unless_it_is_today() -> None:
    assert credential_state.moment(NOW + timedelta(hours=2), NOW) == "14:00 UTC"
    tokyo = ZoneInfo("Asia/Tokyo")
    assert credential_state.moment(NOW + timedelta(hours=2), NOW, tokyo) == "23:00 JST"
    assert credential_state.moment(NOW + timedelta(hours=4), NOW, tokyo) == "01:00 JST on 2026-11-23"
    assert credential_state.moment(NOW + timedelta(days=1), NOW) == "12:00 UTC on 2026-11-23"


def test_every_reason_has_a_next_step() -> None:
    folder = Path(oauth.__file__).parent
    said: Callable[[str], list[str]] = re.compile(r'code="([a-z_]+)"|^    code = "([a-z_]+)"', re.MULTILINE).findall
    files = [*folder.glob("*.py"), *folder.glob("protocol/*.py")]
    codes = {"".join(pair) for path in files for pair in said(path.read_text())}
    assert len(codes) > 15
    assert {code for code in codes - NO_STATE if not next_step(code)} == set()
