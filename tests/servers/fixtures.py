"""Fixtures that offer the servers of `tests/servers/` to every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import kinds, openid
from tests.servers.authorization.server import AuthorizationServer
from tests.servers.mail import MailServer, serving
from tests.servers.receiver import Receiver, answer
from tests.servers.running import Host, McpServer
from tests.servers.toolbox import Toolbox

StartReceiver = Callable[..., Receiver]
StartServer = Callable[..., McpServer]
StartAuthorizationServer = Callable[..., AuthorizationServer]


@pytest.fixture
def mcp_server(settings: Any) -> Iterator[StartServer]:
    """Start servers by kind: `mcp_server("legacy")`, see `tests/servers/kinds.py`; they end with the test."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()

    def start(kind: str = "dual", toolbox: Toolbox | None = None) -> McpServer:
        return kinds.start(host, kind, toolbox)

    yield start
    host.close()


@pytest.fixture
def authorization_server(settings: Any) -> Iterator[StartAuthorizationServer]:
    """Start authorization servers by their options: `authorization_server(dcr=False)`; they end with the test."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()
    yield lambda **options: AuthorizationServer(**options).start(host)
    host.close()


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    """Have mails sent to a real server of this test."""
    with serving() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", server.port, False
        yield server


@pytest.fixture
def openid_provider(settings: Any) -> Iterator[openid.OpenIdProvider]:
    """A provider of an organization, to which its people sign in."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()
    yield host.start(openid.OpenIdProvider(rules=[openid.answer]), None)
    host.close()


@pytest.fixture
def webhook_receiver(settings: Any) -> Iterator[StartReceiver]:
    """Start receivers of webhooks: `webhook_receiver(statuses=[500])`; they end with the test."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    host = Host()
    yield lambda **options: host.start(Receiver(rules=[answer], **options), None)
    host.close()
