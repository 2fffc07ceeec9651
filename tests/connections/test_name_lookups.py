"""Names are looked up without a thread, each tenant has its share, and what comes back is judged each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from connections import egress
from connections.context import acting_for
from connections.egress import names, network
from connections.egress.names import Names
from tests.servers.names import SERVER_FAILED, NameServer, name_server

PUBLIC, OTHER, PUBLIC_V6 = "93.184.216.34", "93.184.216.35", "2606:2800:220:1:248:1893:25c8:1946"


@pytest.fixture
def dns() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.fixture
async def looked_up(dns: NameServer) -> AsyncIterator[Names]:
    """The look-ups of this test's loop, at that server."""
    made = Names([dns.address])
    yield made
    await made.aclose()


async def until(met: Callable[[], object]) -> None:
    """Wait for what the name server hears."""
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 - it happens in another loop
            await asyncio.sleep(0.005)


async def judged(looked_up: Names, host: str) -> list[str]:
    """Resolve a host as the egress does for https."""
    return await network.resolve_async(host, 443, https=True, resolver=looked_up.resolve, timeout=30)


async def refused(looked_up: Names, host: str) -> egress.Refused | egress.Unreachable:
    with pytest.raises((egress.Refused, egress.Unreachable)) as failure:
        await judged(looked_up, host)
    assert isinstance(failure.value, egress.Refused | egress.Unreachable)
    return failure.value


async def test_a_name_has_all_its_addresses_of_both_kinds(dns: NameServer, looked_up: Names) -> None:
    dns.names("mcp.acme.test", PUBLIC, OTHER, PUBLIC_V6)
    assert set(await judged(looked_up, "MCP.acme.test.")) == {PUBLIC, OTHER, PUBLIC_V6}


async def test_an_answer_is_kept_for_its_ttl_and_no_longer(
    dns: NameServer, looked_up: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns.names("kept.acme.test", PUBLIC, ttl=3600)
    dns.names("fresh.acme.test", PUBLIC, ttl=0)
    for _ in range(3):
        assert await judged(looked_up, "kept.acme.test") == [PUBLIC]
    assert dns.asked["kept.acme.test"] == 2, "once for each kind of address"
    await judged(looked_up, "fresh.acme.test")
    dns.names("fresh.acme.test", OTHER)
    assert await judged(looked_up, "fresh.acme.test") == [OTHER]
    found = looked_up._kept["kept.acme.test"]
    assert found.until <= asyncio.get_running_loop().time() + names.LONGEST_KEPT, "whatever its TTL says"


async def test_a_name_that_is_rebound_is_judged_anew(dns: NameServer, looked_up: Names, settings: object) -> None:
    dns.names("evil.test", PUBLIC, ttl=0)
    assert await judged(looked_up, "evil.test") == [PUBLIC]
    dns.names("evil.test", "127.0.0.1", ttl=3600)
    assert (await refused(looked_up, "evil.test")).code == "private_address"
    heard = dns.asked["evil.test"]
    assert (await refused(looked_up, "evil.test")).code == "private_address"
    assert dns.asked["evil.test"] == heard, "what is kept is judged as well"


@pytest.mark.parametrize("private", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_one_private_address_spoils_the_answer(dns: NameServer, looked_up: Names, private: str) -> None:
    dns.names("mixed.test", PUBLIC, private)
    assert (await refused(looked_up, "mixed.test")).code == "private_address"
    dns.names("alias.test", private, aliases=["a.test", "b.test", "c.test"])
    assert (await refused(looked_up, "alias.test")).code == "private_address"


async def test_aliases_are_followed_to_their_addresses(dns: NameServer, looked_up: Names) -> None:
    dns.names("alias.test", PUBLIC, aliases=[f"hop{number}.test" for number in range(10)])
    assert await judged(looked_up, "alias.test") == [PUBLIC]


async def test_a_name_that_does_not_exist_says_so_and_may_exist_soon(
    dns: NameServer, looked_up: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        failure = await refused(looked_up, "later.acme.test")
        assert (failure.code, "does not exist" in failure.sentence) == ("host_not_found", True)
    assert dns.asked["later.acme.test"] <= 2, "it is kept for a moment"
    assert names.MISSING_KEPT <= 10
    looked_up._kept.clear()
    looked_up._made = float("-inf")  # as after these seconds
    dns.names("later.acme.test", PUBLIC)
    assert await judged(looked_up, "later.acme.test") == [PUBLIC]


async def test_a_name_without_addresses_does_not_exist(dns: NameServer, looked_up: Names) -> None:
    dns.names("mail-only.test")
    assert (await refused(looked_up, "mail-only.test")).code == "host_not_found"
    dns.names("endless.test", aliases=[f"hop{number}.test" for number in range(200)])
    assert (await refused(looked_up, "endless.test")).code in {"host_not_found", "dns_failed"}


async def test_a_name_server_that_fails_is_no_missing_name(dns: NameServer, looked_up: Names) -> None:
    dns.names("broken.test", status=SERVER_FAILED)
    failure = await refused(looked_up, "broken.test")
    assert (failure.code, "right now" in failure.sentence) == ("dns_failed", True)
    dns.names("broken.test", PUBLIC)
    assert await judged(looked_up, "broken.test") == [PUBLIC], "a failure is not kept"


async def test_a_name_server_that_is_silent_or_lies_did_not_answer(dns: NameServer, looked_up: Names) -> None:
    dns.names("silent.test", silent=True)
    dns.names("forged.test", PUBLIC, another_id=True)
    for failure in await asyncio.gather(*(refused(looked_up, host) for host in ("silent.test", "forged.test"))):
        assert (failure.code, "did not answer in time" in failure.sentence) == ("dns_failed", True)


async def test_what_is_cut_off_is_asked_again_by_tcp(dns: NameServer, looked_up: Names) -> None:
    dns.names("short.test", PUBLIC, only_by_tcp=True)
    assert await judged(looked_up, "short.test") == [PUBLIC]
    many = [f"93.184.{high}.{low}" for high in range(4) for low in range(1, 251)]
    dns.names("many.test", *many)
    assert set(await judged(looked_up, "many.test")) < set(many)
    assert len(await judged(looked_up, "many.test")) == network.MOST_ADDRESSES
    dns.names("spoilt.test", *many, "10.0.0.1")
    assert (await refused(looked_up, "spoilt.test")).code == "private_address", "every address is judged"


@pytest.mark.parametrize("host", ["x" * 64 + ".test", "a..test", "ä.test", "under score.test", ""])
async def test_what_is_no_name_is_refused(looked_up: Names, host: str) -> None:
    assert (await refused(looked_up, host)).code in {"host_not_found", "dns_failed"}


@pytest.mark.parametrize(("host", "address"), [("0x7f.1", "127.0.0.1"), ("[::1]", "::1"), ("2130706433", "127.0.0.1")])
async def test_an_address_is_asked_of_nobody(dns: NameServer, looked_up: Names, host: str, address: str) -> None:
    assert await looked_up.resolve(host.strip("[]"), 443) == [address]
    assert not dns.asked


async def test_no_search_list_is_applied(
    dns: NameServer, looked_up: Names, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "corp.test")  # what resolv.conf says as `search`
    dns.names("intranet.corp.test", PUBLIC)
    assert (await refused(looked_up, "intranet")).code == "host_not_found"
    assert set(dns.asked) == {"intranet"}


@pytest.mark.parametrize("whose", ["rival", ""], ids=["in rival's name", "on a page, for whomever"])
async def test_three_hundred_slow_names_of_rival_leave_acmes_look_ups_as_they_are(
    dns: NameServer, looked_up: Names, whose: str
) -> None:
    dns.names("mcp.acme.test", PUBLIC, ttl=0)
    with acting_for(whose):
        for number in range(300):
            dns.names(f"slow{number}.rival.test", silent=True)
        slow = [asyncio.create_task(refused(looked_up, f"slow{number}.rival.test")) for number in range(300)]
    await until(lambda: len(dns.asked) == names.MOST_OF_ONE)
    with acting_for(whose and "acme"):
        for _ in range(5):
            assert await judged(looked_up, "mcp.acme.test") == [PUBLIC]
    assert sum(name.startswith("slow") for name in dns.asked) == names.MOST_OF_ONE
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_many_who_ask_for_one_name_ask_once(dns: NameServer, looked_up: Names) -> None:
    dns.names("mcp.acme.test", PUBLIC, ttl=0)
    found = await asyncio.gather(*(judged(looked_up, "mcp.acme.test") for _ in range(200)))
    assert found == [[PUBLIC]] * 200
    assert dns.asked["mcp.acme.test"] == 2


async def test_who_gives_up_takes_nothing_from_those_who_wait(dns: NameServer, looked_up: Names) -> None:
    zone = dns.names("mcp.acme.test", PUBLIC, silent=True)
    first = asyncio.create_task(judged(looked_up, "mcp.acme.test"))
    second = asyncio.create_task(judged(looked_up, "mcp.acme.test"))
    await until(lambda: dns.asked)
    first.cancel()
    zone.silent = False
    assert await second == [PUBLIC], "the second try of the same look-up"


async def test_localhost_is_known_without_a_name_server(looked_up: Names) -> None:
    assert "127.0.0.1" in await looked_up.resolve("localhost", 443)


def test_each_loop_has_its_own_look_ups_and_leaves_none_behind() -> None:
    for _ in range(3):
        assert "127.0.0.1" in asyncio.run(names.system_resolver("localhost", 443))
    assert all(not loop.is_closed() for loop in list(names._names)[:-1])


def test_a_machine_without_a_name_server_says_so() -> None:
    async def tried() -> str:
        made = Names(["127.0.0.1:1"])
        try:
            return (await refused(made, "mcp.acme.test")).code
        finally:
            await made.aclose()

    assert asyncio.run(tried()) == "dns_failed"
