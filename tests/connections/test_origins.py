"""A secret goes to the server that it was entered for and to no other, whatever the rows say when it is used."""

from __future__ import annotations

from typing import Any

import pytest

from connections import egress, rotation
from connections.errors import SealBroken, SecretOfAnotherServer
from connections.forms import ConnectionForm
from connections.models import Connection, Credential, Tenant
from tests.conftest import House

MARK = "s3cret-m4rk"
HERE = "https://8.8.8.8/mcp"

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://mcp.example.com/mcp", "https://mcp.example.com"),
        ("https://MCP.Example.com:443/other?a=b", "https://mcp.example.com"),
        ("HTTPS://mcp.example.com./", "https://mcp.example.com"),
        ("https://mcp.example.com:8443/mcp", "https://mcp.example.com:8443"),
        ("http://mcp.example.com:80", "http://mcp.example.com"),
        ("http://[::1]:9/mcp", "http://[::1]:9"),
        ("https://user@mcp.example.com/", "https://mcp.example.com"),
        ("https://mcp.example.com:port/", ""),
        ("https:///mcp", ""),
        ("ftp://mcp.example.com/", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_an_origin_is_scheme_host_and_port_in_one_spelling(url: str, origin: str) -> None:
    assert egress.origin(url) == origin


def kept(house: House, **data: Any) -> Connection:
    start = {"name": "Orders", "server_url": HERE, "enabled": True, **data}
    form = ConnectionForm(start, tenant=house.tenant, user=house.admin)
    assert form.is_valid(), form.errors
    return form.save()


SECRETS = [
    {"authorization": "api_key", "api_key": MARK},
    {"authorization": "api_key", "api_key": MARK, "api_key_header": "X-Key"},
    {"authorization": "headers", "headers": f"X-Key: {MARK}"},
    {"authorization": "none", "extra_headers": f"X-Key: {MARK}"},
]


@pytest.mark.smoke
@pytest.mark.parametrize("data", SECRETS)
@pytest.mark.parametrize(
    "elsewhere",
    ["https://8.8.4.4/mcp", "https://8.8.8.8:8443/mcp", "http://8.8.8.8/mcp", "https://8.8.8.8.example/mcp", ""],
)
def test_a_secret_whose_connection_was_moved_under_it_is_not_opened(
    acme: House, data: dict[str, str], elsewhere: str
) -> None:
    connection = kept(acme, **data)
    assert MARK in str(connection.request_headers())
    Connection.objects.filter(pk=connection.pk).update(server_url=elsewhere)
    moved = Connection.objects.prefetch_related("credentials").get(pk=connection.pk)
    with pytest.raises(SecretOfAnotherServer):
        moved.request_headers()
    Connection.objects.filter(pk=connection.pk).update(server_url=f"{HERE}/v2")
    assert MARK in str(Connection.objects.get(pk=connection.pk).request_headers())


def test_a_row_that_was_read_before_the_move_does_not_get_the_secret_that_was_entered_after_it(acme: House) -> None:
    connection = kept(acme, authorization="api_key", api_key="old")
    stale = Connection.objects.get(pk=connection.pk)
    form = ConnectionForm(
        ConnectionForm.data_of(connection) | {"server_url": "https://8.8.4.4/mcp", "api_key": MARK},
        instance=connection, tenant=acme.tenant, user=acme.admin,
    )  # fmt: skip
    assert form.is_valid(), form.errors
    form.save()
    assert stale.server_url == HERE
    with pytest.raises(SecretOfAnotherServer):
        stale.request_headers()


def test_who_writes_to_the_database_does_not_make_a_secret_fit_either(acme: House) -> None:
    connection = kept(acme, authorization="api_key", api_key=MARK)
    elsewhere = "https://8.8.4.4/mcp"
    Connection.objects.filter(pk=connection.pk).update(server_url=elsewhere)
    for changes in (
        {"origin": egress.origin(elsewhere)},
        {"origin": "", "issuer": ""},
        {"origin": egress.origin(elsewhere), "issuer": "https://issuer.example"},
        {"kind": "oauth_signing_key"},
    ):
        Credential.objects.update(**{"origin": egress.origin(HERE), "issuer": "", "kind": "api_key"} | changes)
        with pytest.raises(SealBroken):
            Credential.objects.get().open()


def test_a_clients_secret_is_one_issuers(acme: House) -> None:
    connection = kept(acme, authorization="oauth", oauth_client_id="we", oauth_client_secret=MARK)
    row = Credential.objects.get()
    with pytest.raises(SecretOfAnotherServer):
        row.open(issuer="https://issuer.example")
    row.bind("https://issuer.example")
    assert row.open(issuer="https://issuer.example") == MARK
    late = Credential.objects.get(pk=row.pk)
    late.issuer = ""  # as another process has read it a moment ago
    with pytest.raises(SealBroken):
        late.bind("https://evil.example")
    with pytest.raises(SecretOfAnotherServer):
        Credential.objects.get().open(issuer="https://evil.example")
    form = ConnectionForm(
        ConnectionForm.data_of(connection) | {"oauth_client_secret": "new"},
        instance=connection, tenant=acme.tenant, user=acme.admin,
    )  # fmt: skip
    assert form.is_valid()
    form.save()
    assert Credential.objects.get().issuer == ""


def test_the_secret_of_a_webhook_signs_for_its_receiver_only(acme: House) -> None:
    Tenant.objects.update(webhook_url="https://8.8.8.8/hook")
    tenant = Tenant.objects.get()
    secret = tenant.make_webhook_secret()
    Tenant.objects.update(webhook_url="https://8.8.8.8/other")
    assert Tenant.objects.get().webhook_secret() == secret
    Tenant.objects.update(webhook_url="https://8.8.4.4/hook")
    with pytest.raises(SealBroken, match="another receiver"):
        Tenant.objects.get().webhook_secret()


def test_of_two_who_make_a_webhooks_secret_at_once_one_is_shown_it(acme: House) -> None:
    first, second = Tenant.objects.get(), Tenant.objects.get()
    secret = first.make_webhook_secret()
    assert secret
    assert second.make_webhook_secret() == ""
    assert Tenant.objects.get().webhook_secret() == secret


def test_a_secret_that_fits_no_more_is_rotated_with_the_others(acme: House, settings: Any) -> None:
    connection = kept(acme, authorization="api_key", api_key=MARK)
    Connection.objects.update(server_url="https://8.8.4.4/mcp")
    old = list(settings.SEAL_KEYS)
    settings.SEAL_KEYS = ["bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleS0=", *old]
    assert sum(progress.broken for progress in rotation.rotate()) == 0
    settings.SEAL_KEYS = settings.SEAL_KEYS[:1]
    Connection.objects.filter(pk=connection.pk).update(server_url=HERE)
    assert MARK in str(Connection.objects.get(pk=connection.pk).request_headers())
