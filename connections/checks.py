"""Deploy checks: what an operator has opened on purpose is named at every `check --deploy`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's own name


@register(Tags.security, deploy=True)
def egress_is_closed(**_: Any) -> list[CheckMessage]:
    """Warn when the egress may reach private networks or plain http."""
    if not settings.EGRESS_ALLOWED_NETWORKS:
        return []
    networks = ", ".join(settings.EGRESS_ALLOWED_NETWORKS)
    return [
        Warning(
            f"EGRESS_ALLOWED_NETWORKS lets connections reach private networks, also over plain http: {networks}.",
            hint="Leave it empty unless the MCP servers of a trusted organization live there.",
            id="connections.W001",
        )
    ]


@register(Tags.security, deploy=True)
def mail_is_sent(**_: Any) -> list[CheckMessage]:
    """Warn when no mail is sent."""
    if settings.EMAIL_BACKEND != settings.NO_MAIL:
        return []
    return [
        Warning(
            "EMAIL_HOST is not set, so nobody is mailed: neither what needs them, nor an invitation.",
            hint="Set EMAIL_HOST to a mail server that takes the product's mails.",
            id="connections.W002",
        )
    ]


@register(Tags.security, deploy=True)
def clients_are_told_apart(**_: Any) -> list[CheckMessage]:
    """Warn when there is a proxy in front that TRUSTED_PROXIES does not name."""
    if settings.SECURE_PROXY_SSL_HEADER is None or settings.TRUSTED_PROXIES:
        return []
    return [
        Warning(
            "TRUST_FORWARDED_PROTO is set and TRUSTED_PROXIES is not, so all clients seem to come from the proxy.",
            hint="Set TRUSTED_PROXIES to the proxy's address: limits of tries are kept for each client's address.",
            id="connections.W003",
        )
    ]


@register(Tags.security, deploy=True)
def the_proxy_is_believed(**_: Any) -> list[CheckMessage]:
    """Warn when TLS is to end at a proxy that is not believed."""
    if not settings.SECURE_SSL_REDIRECT or settings.SECURE_PROXY_SSL_HEADER is not None:
        return []
    return [
        Warning(
            "PUBLIC_URL is https and TRUST_FORWARDED_PROTO is not set, so behind a proxy that ends TLS each page "
            "redirects to itself.",
            hint="Set TRUST_FORWARDED_PROTO=true, and have the proxy overwrite X-Forwarded-Proto.",
            id="connections.W004",
        )
    ]
