"""Calls that cannot go on as they began: each ends soon, and says truthfully whether anything was sent."""

from __future__ import annotations

import asyncio

import pytest
from django.utils import timezone

from connections import sealing
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import only_on
from tests.servers.running import Incoming, McpServer, Receive, Send
from tools import mcp_client
from tools.calls import life
from tools.mcp_client import Server
from tools.models import Call, Tool


def queued(acme: House, **more: object) -> Call:
    connection = acme.connection(tools_state="in_sync")
    definition = {"name": "echo", "inputSchema": {"type": "object"}}
    tool = Tool.objects.create(
        connection=connection, name="echo", public_name="orders__echo", definition=definition, digest="d",
        approved_definition=definition, approved_digest="d", approved_at=timezone.now(),
    )  # fmt: skip
    call = Call(
        tenant=acme.tenant, assignment=acme.assignment(), connection=connection, tool=tool, tool_name="orders__echo",
        tool_digest="d", server_url=connection.server_url,
    )  # fmt: skip
    call.sealed_arguments = sealing.seal({}, context=call.seal_context)
    for name, value in more.items():
        setattr(call, name, value)
    call.save()
    return call


@pytest.mark.django_db(transaction=True)  # workers look at rows in threads of their own
def test_a_queued_call_of_a_deleted_assignment_fails_unsent(acme: House) -> None:
    call = queued(acme, assignment=None)
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code) == ("failed", "asker_gone")


@pytest.mark.django_db(transaction=True)
def test_a_queued_call_whose_arguments_no_key_opens_fails_unsent(acme: House, no_other_keys: None) -> None:
    call = queued(acme, sealed_arguments="v1.00000000.AAAA")
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code) == ("failed", "seal_broken")


async def test_a_slow_handshake_counts_against_the_time_of_the_call(mcp_server: StartServer) -> None:
    async def dawdle(_: McpServer, __: Incoming, ___: Receive, ____: Send) -> bool:
        await asyncio.sleep(0.6)  # the server's own slowness, below each request's timeout
        return False

    server = mcp_server("legacy")
    server.rules += [only_on("initialize", dawdle), only_on("notifications/initialized", dawdle)]
    slow = Server(key=server.url, url=server.url, era="legacy", timeout=1.0)
    with pytest.raises(mcp_client.TimedOut) as timed_out:
        await mcp_client.call_tool(slow, "echo", {"text": "x"})
    assert (timed_out.value.kind, timed_out.value.outcome_unknown) == ("absolute", False)
    assert server.executions("echo") == 0
