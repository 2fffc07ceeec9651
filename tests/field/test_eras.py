"""Old servers answer what they do not know in every way; the handshake decides, and the era may move at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from connections.models import Connection
from tests.conftest import House
from tests.servers import kinds
from tests.servers.field import old_ways
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer, Receive, Rule, Send
from tests.tools.conftest import OpenShop, open_shop  # noqa: F401 - a fixture
from tools import mcp_client
from tools.mcp_client import Server, eras
from tools.models import Call, Probe

ODD: dict[str, Rule] = {
    "500": kinds.answers(500),
    "501": kinds.answers(501),
    "502 of a proxy": kinds.answers(502, b"<html>", content_type="text/html"),
    "403": kinds.answers(403),
    "401": kinds.answers(401),
    "401 with a challenge": kinds.answers(401, www_authenticate='Bearer scope="a"'),
    "400": kinds.answers(400, b"Bad Request: Server not initialized", content_type="text/plain"),
    "a hang-up": old_ways.hangs_up,
    "silence": kinds.hangs,
    "an endless stream": kinds.trickles,
    "a flood": kinds.floods,
}


def at(server: McpServer, **more: Any) -> Server:
    return Server(key=server.url, url=server.url, **more)


@pytest.mark.parametrize("odd", ODD)
def test_a_check_finds_the_old_server_behind_an_odd_answer(
    acme: House,
    mcp_server: StartServer,
    probed: Callable[[Connection], Probe],
    monkeypatch: pytest.MonkeyPatch,
    odd: str,
) -> None:
    monkeypatch.setattr(eras, "MODERN_PATIENCE", 1.0)
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("server/discover", ODD[odd]))
    connection = acme.connection(url=server.url)
    report = probed(connection)
    assert (report.outcome, connection.era, connection.headline) == ("passed", "legacy", "connected"), report.stages


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (kinds.answers(500), mcp_client.ServerFailed),
        (kinds.answers(401, www_authenticate="Bearer"), mcp_client.Unauthorized),
        (kinds.answers(403), mcp_client.Forbidden),
        (old_ways.hangs_up, mcp_client.ConnectionLost),
    ],
)
async def test_what_refuses_the_handshake_as_well_is_told_as_it_is(
    mcp_server: StartServer, answer: Rule, error: type[Exception]
) -> None:
    server = mcp_server("legacy")
    server.behave(answer)
    with pytest.raises(error):
        await mcp_client.discover(at(server))


@pytest.mark.parametrize(
    "answer", [kinds.answers(429, retry_after="3"), kinds.answers(307, location="https://a.example/")]
)
async def test_who_asks_us_to_wait_or_to_go_elsewhere_is_not_asked_again(mcp_server: StartServer, answer: Rule) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, answer)
    with pytest.raises(mcp_client.McpError):
        await mcp_client.discover(at(server))
    assert server.count("initialize") == 0


async def test_a_modern_server_that_slept_is_modern(mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eras, "MODERN_PATIENCE", 1.0)
    server = mcp_server("modern")
    server.rules.insert(0, kinds.once(kinds.hangs))
    assert (await mcp_client.discover(at(server))).era == "modern"


def plain(params: dict[str, Any]) -> bool:
    return not params["capabilities"]


def of_june(params: dict[str, Any]) -> bool:
    return bool(params["protocolVersion"] == "2025-06-18")


@pytest.mark.parametrize("accepted", [plain, of_june])
@pytest.mark.parametrize(
    "refusal",
    [
        kinds.says(error={"code": -32602, "message": "Unrecognized field"}),
        kinds.says(error={"code": -32603, "message": "Cannot construct instance"}),
        kinds.says(error={"code": -32600, "message": "Unsupported protocol version"}),
        kinds.answers(400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no"}}'),
        kinds.answers(500, b"{}"),
        kinds.answers(400, b'Unrecognized field "form"', content_type="text/plain"),
        kinds.answers(422, b'{"detail":[{"loc":["elicitation"],"msg":"Extra inputs are not permitted"}]}'),
        kinds.answers(400, b'{"status":400,"error":"Bad Request","message":"Unknown property form"}'),
        kinds.says(error={"code": -32700, "message": "Parse error"}),
        kinds.says(error={"code": -32000, "message": "Unknown field elicitation"}),
        kinds.answers(400),
    ],
)
async def test_a_handshake_is_said_in_simpler_words(mcp_server: StartServer, accepted: Any, refusal: Rule) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, old_ways.unless(accepted, refusal))
    assert (await mcp_client.discover(at(server))).era == "legacy"
    before = server.count("initialize")
    await mcp_client.close(at(server))
    await mcp_client.discover(at(server, era="legacy"))
    assert server.count("initialize") == before + 1, "what worked is remembered"


@pytest.mark.parametrize(
    "refusal",
    [
        kinds.answers(400, b'{"message":"X-Tenant-Id header is required"}'),
        kinds.answers(422, b"{}"),
        kinds.answers(402, b'{"message":"Unknown plan"}'),
    ],
)
async def test_a_handshake_that_is_refused_for_another_reason_is_said_once(
    mcp_server: StartServer, refusal: Rule
) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("initialize", refusal))
    with pytest.raises(mcp_client.McpError):
        await mcp_client.discover(at(server))
    assert server.count("initialize") == 1


@pytest.mark.parametrize("status", [400, 404, 405, 500, 503])
async def test_what_a_server_makes_of_a_notice_settles_nothing(mcp_server: StartServer, status: int) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("notifications/initialized", kinds.answers(status)))
    assert (await mcp_client.discover(at(server))).era == "legacy"


async def test_a_notice_that_wants_a_sign_in_is_told(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("notifications/initialized", kinds.answers(401)))
    with pytest.raises(mcp_client.Unauthorized):
        await mcp_client.discover(at(server))


async def test_a_handshake_with_a_version_that_has_none_is_told_as_that(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.behave(kinds.only_on("initialize", kinds.says(result={"protocolVersion": "2026-07-28"})), kinds.only_legacy)
    with pytest.raises(
        mcp_client.UnsupportedVersion, match="a handshake with version 2026-07-28, which has none"
    ) as told:
        await mcp_client.discover(at(server))
    assert "known" not in told.value.sentence


def refuses(code: int, message: str = "Unsupported protocol version", **data: Any) -> Rule:
    return kinds.says(error={"code": code, "message": message, "data": data})


NAMED: dict[str, tuple[str, Rule]] = {
    "the example of the standard": ("2024-11-05", refuses(-32602, supported=["2024-11-05"], requested="2025-11-25")),
    "one of 2025": ("2025-03-26", refuses(-32602, supported=["2025-03-26"])),
    "the newest of several": ("2025-06-18", refuses(-32602, supported=["2024-11-05", "2025-06-18", "2031-01-01"])),
    "by the code of today": ("2025-03-26", refuses(-32022, supported=["2025-03-26"], requested="x")),
    "by the code of today, June": ("2025-06-18", refuses(-32022, supported=["2025-06-18"])),
    "in a 400 with the code of today": ("2025-03-26", kinds.answers(
        400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2025-03-26"]}}}'
    )),
    "under another name": ("2024-11-05", refuses(-32602, supportedVersions=["2024-11-05"])),
    "in words": ("2025-03-26", refuses(-32000, "Unsupported protocol version: 2025-11-25 (supported: 2025-03-26)")),
    "in words, June": ("2025-06-18", refuses(-32602, "Bad protocol version 2025-11-25, use 2024-11-05 or 2025-06-18")),
    "in a 400 of nobody": ("2025-06-18", kinds.answers(400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,'
        b'"message":"Bad Request: Unsupported protocol version (supported versions: 2025-06-18, 2025-03-26)"}}')),
    "in a 400 of text": ("2025-03-26", kinds.answers(
        400, b"Bad Request: Unsupported protocol version (supported versions: 2025-03-26)", content_type="text/plain"
    )),
    "as text in its data": ("2025-03-26", refuses(-32602, supported="2025-03-26, 2024-11-05")),
    "in the words of its data": ("2024-11-05", refuses(-32602, "Bad Request", reason="only 2024-11-05 is supported")),
    "in words without a space": ("2024-11-05", refuses(-32602, "Invalid protocolVersion")),
    "nowhere": ("2025-03-26", refuses(-32000, "Unsupported protocol version")),
    "nowhere, in a 400 of text": ("2025-03-26", kinds.answers(
        400, b"unsupported MCP-Protocol-Version", content_type="text/plain"
    )),
    "in a 406 without a name": ("2025-06-18", kinds.answers(
        406, b"Unsupported protocol version", content_type="text/plain"
    )),
}  # fmt: skip


UNNAMED = {"nowhere", "nowhere, in a 400 of text", "in words without a space"}


@pytest.mark.parametrize("how", NAMED)
def test_the_version_that_a_server_names_is_offered(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe], how: str
) -> None:
    version, refusal = NAMED[how]
    server = mcp_server("legacy")
    server.rules.insert(0, old_ways.unless(lambda params: params["protocolVersion"] == version, refusal))
    connection = acme.connection(url=server.url)
    report = probed(connection)
    assert (report.outcome, connection.protocol_version) == ("passed", version), report.stages
    before = server.count("initialize")
    assert before <= (5 if how in UNNAMED else 4)
    probed(connection)
    assert server.count("initialize") <= before + 1, "what worked is remembered"


@pytest.mark.parametrize("code", [-32602, -32022, -32000])
def test_a_version_that_nobody_knows_is_named(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe], code: int
) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("initialize", refuses(code, supported=["1.0", "let-me-in", 5, "2031-12-01"])))
    connection = acme.connection(url=server.url)
    assert probed(connection).reason == "unsupported_version"
    assert connection.reachability_sentence.endswith("known here. It speaks 1.0, 2031-12-01.")
    assert server.count("initialize") == 1


async def test_blanks_around_a_version_are_no_part_of_it(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("initialize", kinds.says(result={"protocolVersion": " 2025-06-18\n"})))
    assert (await mcp_client.discover(at(server))).protocol_version == "2025-06-18"


@pytest.mark.parametrize(("answered", "told"), [("1.0", " It speaks 1.0."), ("let-me-in", ""), ("2025-12-01", "-01.")])
def test_a_version_that_is_answered_and_not_known_is_named(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe], answered: str, told: str
) -> None:
    server = mcp_server("legacy")
    result = {"protocolVersion": answered, "capabilities": {}, "serverInfo": {"name": "x"}}
    server.rules.insert(0, kinds.only_on("initialize", kinds.says(result=result)))
    connection = acme.connection(url=server.url)
    assert probed(connection).reason == "unsupported_version"
    assert connection.reachability_sentence.endswith(told or "known here."), connection.reachability_sentence


async def test_a_handshake_that_is_refused_for_another_reason_is_not_repeated(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    refusal = kinds.says(error={"code": -32050, "message": "X-Tenant-Id header is required"})
    server.rules.insert(0, kinds.only_on("initialize", refusal))
    with pytest.raises(mcp_client.RpcError, match="-32050"):
        await mcp_client.discover(at(server))
    assert server.count("initialize") == 1


@pytest.mark.parametrize(("before", "after"), [("modern", "legacy"), ("legacy", "modern")])
def test_a_call_is_made_again_at_once_when_the_era_has_moved(
    open_shop: OpenShop,  # noqa: F811
    before: str,
    after: str,
) -> None:
    shop = open_shop(kind=before)
    server = shop.server
    assert shop.call("echo", {"text": "before"}).status_code == 200
    server.expire_sessions()
    server.behave(*kinds.RULES[after])
    answer = shop.call("echo", {"text": "after"})
    assert (answer.status_code, server.executions("echo")) == (200, 2), answer.text
    assert Connection.objects.due(timezone.now()).exists(), "a check finds out what else is new"


def wants_a_handshake(status: int, code: int, message: str) -> Rule:
    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        if "mcp-session-id" in request.headers or request.rpc_method == "initialize":
            return False
        return await kinds.fault(send, status, code, message, id_=request.rpc_id)

    return rule


BEFORE_A_HANDSHAKE: dict[str, Rule] = {
    "-32002": wants_a_handshake(200, -32002, "Server not initialized"),
    "-32600": wants_a_handshake(200, -32600, "Received request before initialization was complete"),
    "-32000": wants_a_handshake(400, -32000, "Bad Request: Server has not been initialized"),
    "a method": wants_a_handshake(200, -32601, "Method not allowed: send initialize first"),
    "an order": wants_a_handshake(400, -32602, "Client must call `initialize` before other requests"),
    "422": kinds.only_on("tools/call", old_ways.without_a_session(kinds.answers(422, b'{"detail":[]}'))),
}


@pytest.mark.parametrize("words", BEFORE_A_HANDSHAKE)
def test_a_call_is_made_again_at_once_when_a_server_wants_a_handshake_now(
    open_shop: OpenShop,  # noqa: F811
    words: str,
) -> None:
    shop = open_shop(kind="modern")
    shop.server.behave(BEFORE_A_HANDSHAKE[words], kinds.only_legacy)
    answer = shop.call("echo", {"text": "after"})
    assert (answer.status_code, shop.server.executions("echo")) == (200, 1), answer.text


@pytest.mark.parametrize("words", BEFORE_A_HANDSHAKE)
def test_a_modern_server_that_says_the_same_of_a_call_is_told_as_it_is(
    open_shop: OpenShop,  # noqa: F811
    words: str,
) -> None:
    shop = open_shop(kind="modern")
    shop.server.rules.insert(0, kinds.only_on("tools/call", BEFORE_A_HANDSHAKE[words]))
    answer = shop.call("echo", {"text": "x"})
    code = "upstream_unexpected_status" if words == "422" else "upstream_rpc_error"
    assert (answer.status_code, answer.json()["code"]) == (502, code), answer.text
    assert (shop.server.count("tools/call"), shop.server.executions("echo")) == (1, 0)


@pytest.mark.parametrize(
    "words",
    [
        "The drone was not found", "Call the office before noon", "The form must be initialled", "No such town",
        "The database could not be reached", "Database not initialized", "The vault is not yet initialized",
    ],
)  # fmt: skip
def test_other_words_about_a_call_ask_no_server_for_its_era(open_shop: OpenShop, words: str) -> None:  # noqa: F811
    shop = open_shop(kind="modern")
    asked = shop.server.count("server/discover")
    shop.server.rules.insert(0, kinds.only_on("tools/call", kinds.says(error={"code": -32602, "message": words})))
    shop.call("echo", {"text": "x"})
    assert (shop.server.count("tools/call"), shop.server.count("server/discover")) == (1, asked)


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_pinned_era_is_kept(open_shop: OpenShop, era: str) -> None:  # noqa: F811
    shop = open_shop(kind=era)
    shop.set(era_choice=era)
    shop.server.expire_sessions()
    shop.server.behave(*kinds.RULES["legacy" if era == "modern" else "modern"])
    answer = shop.call("echo", {"text": "after"})
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_era_pinned")
    assert shop.server.executions("echo") == 0
    assert Call.objects.get().state == "failed"


def test_a_legacy_server_that_learns_the_modern_era_is_noticed_by_the_next_check(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe]
) -> None:
    server = mcp_server("legacy")
    connection = acme.connection(url=server.url)
    assert (probed(connection).outcome, connection.era) == ("passed", "legacy")
    server.behave(*kinds.RULES["dual"])
    assert (probed(connection).outcome, connection.era) == ("passed", "modern")
