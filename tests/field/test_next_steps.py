"""The next step is the next step: what is busy is not unreachable, and nobody signs in at what is not reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections.models import Connection, User
from connections.states import next_step
from tests.conftest import House
from tests.live import Api
from tests.servers.fixtures import StartServer
from tests.servers.kinds import answers, only_on
from tests.servers.running import Host, McpServer
from tests.servers.toolbox import furnished
from tools.models import Probe

Probed = Callable[[Connection], Probe]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("status", "headers", "reason", "words"),
    [
        (429, {}, "rate_limited", "slow down (HTTP 429)."),
        (429, {"retry_after": "30"}, "rate_limited", "wait 30 seconds"),
        (503, {}, "server_busy", "overloaded or being maintained (HTTP 503)."),
        (503, {"retry_after": "120"}, "server_busy", "wait 120 seconds"),
    ],
)
def test_a_server_that_asks_to_come_back_later_is_busy(
    acme: House, api: Api, mcp_server: StartServer, probed: Probed, status: int, headers: dict[str, str], reason: str,
    words: str,
) -> None:  # fmt: skip
    server = mcp_server("modern")
    server.behave(answers(status, b"secret detail", **headers))
    connection = acme.connection(url=server.url)
    probed(connection)
    shown = api.as_(acme.member_token(acme.admin)).get(f"/v1/connections/{connection.pk}").json()
    assert (shown["status"], shown["reachability"]["state"], shown["reachability"]["reason"]) == (
        "busy",
        "busy",
        reason,
    )
    assert words in shown["reachability"]["sentence"]
    assert shown["next_step"].startswith("Wait")
    server.behave()
    probed(connection)
    connection.refresh_from_db()
    assert (connection.headline, connection.next_step) == ("connected", "")


@pytest.mark.parametrize("status", [500, 502, 504, 521, 404])
def test_other_failures_are_not_called_busy(acme: House, mcp_server: StartServer, probed: Probed, status: int) -> None:
    server = mcp_server("modern")
    server.behave(answers(status, b"no"))
    connection = acme.connection(url=server.url)
    probed(connection)
    assert connection.headline in {"unreachable", "unsupported"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_listing_that_is_put_off_leaves_the_tools_as_they_are(
    acme: House, mcp_server: StartServer, probed: Probed, status: int
) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    probed(connection)
    server.behave(only_on("tools/list", answers(status, b"later")))
    probed(connection)
    assert (connection.headline, connection.tools_state) == ("busy", "in_sync")
    assert connection.tools.usable().count() > 0


@pytest.mark.parametrize(
    ("reachability", "reason"),
    [
        ("unreachable", "tls_failed"), ("unreachable", "certificate_incomplete"), ("unreachable", "no_tls"),
        ("unreachable", "connect_failed"), ("unreachable", "host_not_found"), ("unreachable", "connect_timeout"),
        ("unsupported_transport", "old_sse_transport"), ("busy", "server_busy"),
    ],
)  # fmt: skip
def test_nobody_is_sent_to_sign_in_at_a_server_that_is_not_reached(
    acme: House, signed_in: Callable[[User], Client], reachability: str, reason: str
) -> None:
    connection = acme.connection(
        authorization="oauth", credential_state="needs_sign_in", credential_reason="sign_in_needed",
        reachability_state=reachability, reachability_reason=reason, reachability_sentence="It is not reached.",
    )  # fmt: skip
    assert connection.next_step == next_step(reason)
    assert "Sign in" not in connection.next_step
    page = signed_in(acme.admin).get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert page.index('id="report"') < page.index('id="sign-in"')


def test_a_server_that_is_reached_still_asks_for_the_sign_in_first(acme: House, signed_in: Any) -> None:
    connection = acme.connection(
        authorization="oauth", credential_state="needs_sign_in", credential_reason="sign_in_needed",
        reachability_state="reachable", tools_state="changes_to_review", tools_reason="tools_to_review",
    )  # fmt: skip
    assert connection.next_step.startswith("Press Sign in")
    page = signed_in(acme.admin).get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert page.index('id="sign-in"') < page.index('id="report"')


@pytest.mark.parametrize("path", ["/sse", "/v1/sse/", "/SSE"])
def test_an_address_that_ends_in_sse_is_asked_before_it_is_judged(
    acme: House, api: Api, probed: Probed, open_egress: None, path: str
) -> None:
    box, host = furnished(), Host()
    server = host.start(McpServer(box, path=path), box.server().streamable_http_app(streamable_http_path=path))
    added = api.as_(acme.member_token(acme.admin)).post("/v1/connections", {"name": "Orders", "server_url": server.url})
    assert added.status_code == 201, added.text
    connection = acme.tenant.connections.get()
    assert connection.server_url.endswith(path)
    probed(connection)
    host.close()
    assert connection.headline == "connected"


def test_an_address_that_speaks_only_the_old_transport_is_still_refused(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    connection = acme.connection(url=mcp_server("old sse").url)
    assert connection.server_url.endswith("/sse")
    probed(connection)
    assert (connection.headline, connection.reachability_reason) == ("unsupported", "old_sse_transport")
