"""Signing in with one's company against a provider that others wrote: django-oauth-toolkit."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from django.test import Client

from connections.models import Company, MailDomain, User
from connections.people import company
from duvo import stack
from tests.conftest import House
from tests.loopback import NO_TLS
from tests.servers.toolkit import CLIENT, EMAIL, SECRET

pytestmark = pytest.mark.django_db

PATIENCE = 120  # seconds; a start takes 3 on an idle machine


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "provider.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.toolkit", str(port), company.redirect_uri()],
            stdout=log,
            stderr=log,
            preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
        )
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert process.poll() is None, (tmp_path / "provider.log").read_text()
            assert time.monotonic() < deadline, "the provider did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/o"
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_bea_comes_in_through_her_company(acme: House, issuer: str, open_egress: None) -> None:
    row = Company(tenant=acme.tenant, issuer=issuer, client_id=CLIENT, default_role="auditor")
    row.seal_secret(SECRET)
    row.save()
    MailDomain.objects.create(name="acme.example", company=row)
    browser = Client()
    there = browser.post("/account/company/", {"email": EMAIL})["Location"]
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60) as company_s_browser:
        while there.startswith(issuer.removesuffix("o")):
            there = str(company_s_browser.get(there).next_request.url)
    assert there.startswith(company.redirect_uri())
    answer = browser.get(there[there.index("/account/") :])
    assert (answer.status_code, answer["Location"]) == (302, "/admin/"), answer.content.decode()
    bea = User.objects.get(username=EMAIL)
    assert (bea.first_name, acme.membership(bea).role) == ("Bea Bright", "auditor")
    assert browser.get("/admin/").status_code == 200
