"""A complete `.env` for a given PUBLIC_URL: secrets made anew, and everything else with its default."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

HEADER = """\
# The settings of {public_url}, for compose.yaml and for processes started by hand.
# Keep this file secret, and SEAL_KEYS apart from backups of the database: without them no stored credential opens.
"""
OPTIONAL = """
# Without a mail server nobody is mailed: neither what needs them, nor an invitation.
# EMAIL_HOST=mail.{host}
# EMAIL_HOST_USER=
# EMAIL_HOST_PASSWORD=

# The proxies in front, and what else has a default: see Running it in the help.
# TRUSTED_PROXIES=10.0.0.7
# EGRESS_ALLOWED_NETWORKS=10.20.0.0/16
# EGRESS_CA_FILE=/etc/ssl/our-ca.pem
# LOG_LEVEL=INFO
"""


def seal_key() -> str:
    """Return a new key for SEAL_KEYS: 256 random bits."""
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


def secret_key() -> str:
    """Return a new SECRET_KEY."""
    return secrets.token_urlsafe(50)


def env_file(public_url: str) -> str:
    """Return the text of a `.env` with which the product starts at `public_url`, a good one."""
    host = host_of(public_url)
    postgres, valkey = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    values = {
        "PUBLIC_URL": public_url,
        "ALLOWED_HOSTS": host,
        "SECRET_KEY": secret_key(),
        "SEAL_KEYS": seal_key(),
        "METRICS_TOKEN": secrets.token_urlsafe(32),
        # compose.yaml takes the two passwords, and says itself where the servers are.
        "POSTGRES_PASSWORD": postgres,
        "VALKEY_PASSWORD": valkey,
        "DATABASE_URL": f"postgresql://duvo:{postgres}@127.0.0.1/duvo",
        "REDIS_URL": f"redis://:{valkey}@127.0.0.1:6379/0",
        # The proxy in front ends TLS and must overwrite X-Forwarded-Proto. Without this each page redirects to itself.
        "TRUST_FORWARDED_PROTO": str(public_url.startswith("https://")).lower(),
    }
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return HEADER.format(public_url=public_url) + lines + OPTIONAL.format(host=host)


def host_of(public_url: str) -> str:
    """Return the host of an address as ALLOWED_HOSTS has it."""
    host = urlsplit(public_url).hostname or ""
    return f"[{host}]" if ":" in host else host
