"""What is wrong with a port that speaks no TLS as it should, told as what it is and with the step that helps."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from connections import egress
from connections.egress import network
from connections.states import next_step
from tests.connections.listeners import listening
from tests.servers.field.chains import Chain
from tests.servers.field.sockets import answers, hangs_up, port, resets, silent

HOST = "mcp.acme.example"
ALERT = bytes([21, 3, 3, 0, 2, 2])  # a record with a fatal alert; its number follows (RFC 8446, section 6)


@pytest.fixture(autouse=True)
def _loopback_is_open(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setattr(network, "CONNECT_TIMEOUT", 0.5)


async def loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


async def refused_at(number: int) -> egress.Unreachable:
    with egress.observe() as steps, pytest.raises(egress.Unreachable) as failure:
        await egress.reach(f"https://{HOST}:{number}/mcp", resolver=loopback)
    assert (steps[-1].stage, steps[-1].code, steps[-1].sentence) == ("tls", failure.value.code, failure.value.sentence)
    assert next_step(failure.value.code)
    assert failure.value.sent is False
    return failure.value


@pytest.mark.parametrize(
    ("greeting", "heard", "code", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", silent, "no_tls", "SSH server"),
        (b"SSH-2.0-dropbear\r\n", hangs_up, "no_tls", "SSH server"),
        (b"220 mail.example ESMTP\r\n", silent, "no_tls", "mail or FTP"),
        (b"* OK IMAP4rev1 ready\r\n", silent, "no_tls", "mail server"),
        (b"", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no_tls", "does not speak TLS"),
        (b"", answers(b"<html>no</html>"), "no_tls", "does not speak TLS"),
        (b"", hangs_up, "tls_closed", "hung up"),
        (b"", resets, "tls_closed", "reset"),
        (b"", silent, "tls_timeout", "does not answer"),
        (b"", answers(ALERT + bytes([112])), "tls_failed", "no certificate for this host name"),
        (b"", answers(ALERT + bytes([40])), "tls_failed", "handshake failure"),
        (b"", answers(ALERT + bytes([70])), "tls_failed", "outdated"),
        (b"", answers(ALERT + bytes([116])), "tls_failed", "certificate from us"),
    ],
)
async def test_a_port_that_is_no_https_server_is_told_as_what_it_is(
    greeting: bytes, heard: Any, code: str, words: str
) -> None:
    async with port(greeting, heard) as number:
        failure = await refused_at(number)
    assert (failure.code, words in failure.sentence) == (code, True), failure.sentence


@pytest.mark.parametrize(
    ("public", "trusted", "intermediate", "root", "code", "words"),
    [
        (True, True, False, False, "certificate_incomplete", "without the intermediate one (“Acme Intermediate”)"),
        (True, False, False, False, "certificate_incomplete", "Acme Intermediate"),
        (True, False, True, False, "certificate_incomplete", "its chain of certificates without"),
        (False, True, False, False, "tls_failed", "an intermediate one is missing, or it comes from an authority"),
        (False, False, True, False, "tls_failed", "Acme Root"),
        (True, False, True, True, "tls_failed", "authority that is not trusted here"),
        (True, True, False, True, "certificate_incomplete", "Acme Intermediate"),
    ],
)
async def test_a_chain_with_a_gap_is_told_from_an_authority_that_is_not_trusted(
    tmp_path: Path, settings: Any, public: bool, trusted: bool, intermediate: bool, root: bool, code: str, words: str
) -> None:
    chain = Chain(tmp_path, public=public)
    settings.EGRESS_CA_FILE = chain.file if trusted else None
    tls = chain.server(HOST, sends_intermediate=intermediate, sends_root=root)
    async with listening(tls=tls) as listener:
        failure = await refused_at(listener.port)
        assert (failure.code, words in failure.sentence) == (code, True), failure.sentence
        assert listener.requests == []  # also the second look asks nothing


async def test_a_whole_chain_is_let_in_as_before(tmp_path: Path, settings: Any) -> None:
    chain = Chain(tmp_path)
    settings.EGRESS_CA_FILE = chain.file
    async with listening(tls=chain.server(HOST, sends_intermediate=True)) as listener:
        await egress.reach(f"https://{HOST}:{listener.port}/", resolver=loopback)


async def test_a_certificate_for_another_name_is_no_gap_in_a_chain(tmp_path: Path, settings: Any) -> None:
    chain = Chain(tmp_path)
    settings.EGRESS_CA_FILE = chain.file
    async with listening(tls=chain.server("other.example", sends_intermediate=True)) as listener:
        failure = await refused_at(listener.port)
    assert (failure.code, "another host name" in failure.sentence) == ("tls_failed", True)
    assert egress.tls_context().verify_mode == ssl.CERT_REQUIRED


def test_the_loop_of_the_product_tells_the_same(tmp_path: Path, settings: Any) -> None:
    chain = Chain(tmp_path)
    settings.EGRESS_CA_FILE = chain.file

    async def told() -> list[str]:
        codes = []
        for greeting, heard in ((b"SSH-2.0-x\r\n", silent), (b"", hangs_up), (b"", resets), (b"", silent)):
            async with port(greeting, heard) as number:
                codes.append((await refused_at(number)).code)
        async with listening(tls=chain.server(HOST, sends_intermediate=False)) as listener:
            codes.append((await refused_at(listener.port)).code)
        return codes

    assert egress.run(told()) == ["no_tls", "tls_closed", "tls_closed", "tls_timeout", "certificate_incomplete"]
