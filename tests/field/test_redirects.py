"""A redirect is not followed: its target is named, and offered where it is the same host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections import egress, redirects
from connections.models import Connection, User
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import answers
from tools.models import Probe

Probed = Callable[[Connection], Probe]
SignedIn = Callable[[User | None], Client]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("status", "location", "target", "same_host"),
    [
        (307, "/mcp/", "{origin}/mcp/", True),
        (308, "{origin}/v2/mcp", "{origin}/v2/mcp", True),
        (301, "v2/mcp?session=m4rk", "{origin}/v2/mcp", True),
        (302, "https://8.8.8.8/mcp", "https://8.8.8.8/mcp", False),
        (301, "https://8.8.8.8/logins/mcp", "https://8.8.8.8/logins/mcp", False),
        (307, "https://ann:pw@8.8.8.8/mcp", "", False),
        (307, "file:///etc/passwd", "", False),
        (307, "http://169.254.169.254/latest", "", False),
        (307, "", "", False),
    ],
)
def test_where_a_server_sends_us_is_named_and_offered_on_the_same_host_only(
    acme: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn,
    status: int, location: str, target: str, same_host: bool,
) -> None:  # fmt: skip
    server = mcp_server("modern")
    headers = {"location": location.format(origin=server.origin)} if location else {}
    server.behave(answers(status, **headers))
    connection = acme.connection(url=server.url)
    probed(connection)
    connection.refresh_from_db()
    named = target.format(origin=server.origin)
    assert connection.reachability_reason == "redirected"
    assert named in connection.reachability_sentence
    assert "m4rk" not in connection.reachability_sentence
    assert ("sends us to http" in connection.reachability_sentence) == bool(named)
    assert redirects.offered(connection) == (named if same_host else "")
    page = signed_in(acme.admin).get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert ("Use this address" in page) == same_host


@pytest.mark.parametrize(
    "location",
    [
        "https://8.8.8.8/cdn-cgi/access/login/mcp.acme.example?kid=m4rk",
        "https://8.8.8.8/oauth2/v2.0/authorize?client_id=m4rk",
        "/.auth/login/aad?post_login_redirect_uri=m4rk",
        "/users/sign_in",
        "https://8.8.8.8/saml2/idp?SAMLRequest=m4rk",
    ],
)
def test_a_page_where_people_sign_in_is_told_as_that_and_never_offered(
    acme: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn, location: str
) -> None:
    server = mcp_server("modern")
    server.behave(answers(302, location=location))
    connection = acme.connection(url=server.url)
    probed(connection)
    connection.refresh_from_db()
    assert connection.reachability_reason == "sign_in_page"
    assert connection.reachability_sentence.startswith("A page where people sign in stands before the server.")
    assert "m4rk" not in connection.reachability_sentence
    assert "service token" in connection.next_step
    page = signed_in(acme.admin).get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert "Use this address" not in page


@pytest.mark.parametrize(
    ("location", "shown", "offered"),
    [
        ("http://mcp.acme.example/mcp/", "http://mcp.acme.example/mcp/", "https://mcp.acme.example/mcp/"),
        ("http://mcp.acme.example:80/v2?a=b", "http://mcp.acme.example:80/v2", "https://mcp.acme.example/v2"),
        ("http://mcp.acme.example:8000/mcp/", "http://mcp.acme.example:8000/mcp/", "https://mcp.acme.example/mcp/"),
        ("http://mcp.acme.example/mcp", "http://mcp.acme.example/mcp", ""),
        ("/mcp/", "https://mcp.acme.example/mcp/", "https://mcp.acme.example/mcp/"),
    ],
)
def test_a_server_that_does_not_know_that_it_is_behind_https_is_offered_with_it(
    acme: House, settings: Any, location: str, shown: str, offered: str
) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = []
    url = "https://mcp.acme.example/mcp"
    reason, sentence = redirects.about(url, 307, location)
    assert sentence.startswith(f"The server sends us to {shown} (HTTP 307)")
    connection = acme.connection(url=url, reachability_reason=reason, reachability_sentence=sentence)
    assert redirects.offered(connection) == offered


@pytest.mark.parametrize("location", ["http://other.example/mcp/", "http://10.0.0.1/mcp", "http://a@mcp.acme.example/"])
def test_another_host_without_encryption_is_not_named(settings: Any, location: str) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = []
    with pytest.raises(egress.Refused):
        redirects.about("https://mcp.acme.example/mcp", 307, location)


def test_the_offered_address_is_taken_with_one_press_by_admins_only(
    acme: House, rival: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn
) -> None:
    server = mcp_server("modern")
    right = server.url
    server.behave(answers(307, location="/mcp"))
    connection = acme.connection(url=f"{server.origin}/old")
    probed(connection)
    path = f"/admin/connections/connection/{connection.pk}/use-address/"
    for user in (acme.member, acme.auditor, rival.admin):
        assert signed_in(user).post(path).status_code in {302, 403, 404}
        assert Connection.objects.get(pk=connection.pk).server_url.endswith("/old")
    answer = signed_in(acme.admin).post(path, follow=True)
    assert f"The address is {right} now." in answer.content.decode()
    connection = Connection.objects.get(pk=connection.pk)
    assert connection.server_url == right
    again = signed_in(acme.admin).post(path, follow=True).content.decode()
    assert "Nothing was changed" in again


def test_a_stored_secret_does_not_follow_to_another_port_of_the_host(
    acme: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn
) -> None:
    server, other = mcp_server("modern"), mcp_server("modern")
    server.behave(answers(307, location=other.url))
    connection = acme.connection(url=server.url, authorization="api_key")
    connection.credentials.model(connection=connection, kind="api_key").set("m4rk-0123456789", by=acme.admin)
    probed(connection)
    assert all("m4rk" not in str(request.headers) for request in server.requests if request.method == "GET")
    path = f"/admin/connections/connection/{connection.pk}/use-address/"
    answer: Any = signed_in(acme.admin).post(path, follow=True)
    assert "is not sent to another server" in answer.content.decode()
    assert Connection.objects.get(pk=connection.pk).server_url == server.url
