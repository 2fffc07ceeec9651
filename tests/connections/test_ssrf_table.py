"""No trick opens a socket: not what a person enters, not a later hop, not what a name server answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from pytest_django import Settings

from connections import egress
from connections.egress.network import resolve_async
from tests.connections.listeners import Listener, listening, send
from tests.connections.ssrf import LOOPBACK_HOSTS, PRIVATE_ANSWERS, REFUSED

PUBLIC = "93.184.216.34"


@pytest.fixture
async def inner(settings: Settings) -> AsyncIterator[Listener]:
    """A service of our own network that would answer; even its port is allowed."""
    async with listening() as listener:
        settings.EGRESS_ALLOWED_PORTS = [443, 8443, listener.port]
        yield listener
        assert listener.accepted == 0


class Names:
    """A name server that gives one list of addresses after the other, and the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(("url", "code"), REFUSED)
def test_a_url_in_the_table_is_refused_before_any_name_is_resolved(url: str, code: str) -> None:
    with pytest.raises(egress.Refused) as refusal:
        egress.check_url(url)
    assert refusal.value.code == code
    assert refusal.value.sentence.endswith(".")


def test_the_table_is_long_enough() -> None:
    assert len(REFUSED) > 100


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
        ("https://MCP.Example.com:443/Mcp?key=A%2Fb", "https://mcp.example.com/Mcp?key=A%2Fb"),
        ("https://mcp.example.com.:8443", "https://mcp.example.com:8443"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://8.8.8.8/mcp", "https://8.8.8.8/mcp"),
        ("https://[2606:4700:0::1]:8443/mcp", "https://[2606:4700::1]:8443/mcp"),
        ("https://my_tools.example.com/mcp/assess", "https://my_tools.example.com/mcp/assess"),
    ],
)
def test_a_usable_url_gets_its_normal_form(url: str, normal: str) -> None:
    assert egress.check_url(url) == normal


def test_an_opened_network_lets_its_names_addresses_ports_and_plain_http_through(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["10.0.0.0/8"]
    for url in ("http://10.0.0.7:9000/mcp", "http://mcp.internal:9000/mcp", "https://tools/mcp"):
        assert egress.check_url(url) == url
    for url, code in (
        ("http://127.0.0.1:9000/mcp", "private_address"),
        ("http://8.8.8.8/mcp", "https_required"),
        ("https://8.8.8.8:22/mcp", "port_forbidden"),
    ):
        with pytest.raises(egress.Refused) as refusal:
            egress.check_url(url)
        assert refusal.value.code == code


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_no_spelling_of_loopback_reaches_the_inner_service(inner: Listener, host: str) -> None:
    for scheme in ("https", "http"):
        url = f"{scheme}://{host}:{inner.port}/"
        with pytest.raises(egress.Refused):
            await egress.fetch("GET", url)
        with pytest.raises((egress.Refused, httpx2.InvalidURL)):
            await egress.client().get(url, follow_redirects=True)
        with pytest.raises(egress.Refused) as refusal:
            await send(egress.pool(), "GET", url)
        assert refusal.value.code == "private_address"
        with pytest.raises(egress.Refused):
            await egress.reach(url)


@pytest.mark.parametrize("answer", PRIVATE_ANSWERS)
async def test_a_name_that_leads_inside_is_refused_also_when_only_one_of_its_addresses_does(
    inner: Listener, answer: str
) -> None:
    url = f"https://mcp.example.com:{inner.port}/"
    for found in ([answer], [PUBLIC, answer], [answer, PUBLIC]):
        with pytest.raises(egress.Refused) as refusal:
            await send(egress.GuardedPool(resolver=Names(found)), "GET", url)
        assert refusal.value.code == "private_address"
        with pytest.raises(egress.Refused):
            await egress.fetch("GET", url, through=egress.GuardedPool(resolver=Names(found)))


async def test_a_name_that_is_rebound_after_the_check_is_refused_when_it_is_connected(inner: Listener) -> None:
    names = Names([PUBLIC], ["127.0.0.1"])
    assert await resolve_async("evil.example", inner.port, https=True, resolver=names, timeout=5) == [PUBLIC]
    with pytest.raises(egress.Refused) as refusal:
        await egress.fetch("GET", f"https://evil.example:{inner.port}/", through=egress.GuardedPool(resolver=names))
    assert refusal.value.code == "private_address"


async def test_a_connection_goes_to_the_very_addresses_that_were_judged(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with listening() as listener, egress.GuardedPool(resolver=names) as pool:
        assert (await send(pool, "GET", f"http://mcp.example.com:{listener.port}/")).status == 200
        assert names.asked == 1


async def test_plain_http_is_refused_to_a_public_address_even_if_another_network_is_open(
    settings: Settings,
) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with pytest.raises(egress.Refused) as refusal:
        await send(egress.GuardedPool(resolver=Names([PUBLIC])), "GET", "http://mcp.example.com/")
    assert refusal.value.code == "https_required"


async def test_a_port_that_is_not_allowed_is_refused_at_every_hop() -> None:
    with pytest.raises(egress.Refused) as refusal:
        await send(egress.GuardedPool(resolver=Names([PUBLIC])), "GET", "https://mcp.example.com:22/")
    assert refusal.value.code == "port_forbidden"


async def test_a_redirect_into_the_inner_network_is_not_followed(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    async with listening() as target:
        moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n" % target.port
        async with listening(moved) as listener:
            answer = await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
            assert answer.status == 302
            assert (listener.accepted, target.accepted) == (1, 0)


async def test_a_redirect_is_judged_even_by_a_client_that_follows(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    moved = b"HTTP/1.1 307 Moved\r\nlocation: https://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    async with listening(moved) as listener, egress.client() as http:
        with pytest.raises(egress.Refused) as refusal:
            await http.get(f"http://127.0.0.1:{listener.port}/", follow_redirects=True)
        assert refusal.value.code == "private_address"


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
)
async def test_a_proxy_in_the_environment_is_not_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    async with listening() as proxy, listening() as listener:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        assert (await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")).status == 200
        assert (listener.accepted, proxy.accepted) == (1, 0)


async def test_websockets_and_socket_files_have_no_way_through(inner: Listener) -> None:
    for scheme in ("ws", "wss"):
        with pytest.raises(egress.Refused):
            await send(egress.pool(), "GET", f"{scheme}://127.0.0.1:{inner.port}/")
    with pytest.raises(egress.Refused):
        await egress.PinnedBackend(https=True).connect_unix_socket("/run/docker.sock")
