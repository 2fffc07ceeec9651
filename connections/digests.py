"""Digests under keys derived from SEAL_KEYS: somebody with the database alone cannot guess and compare the values."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_LENGTH = 40  # hex digits: 160 bits, as many as a session's row has room for


def keyed(purpose: str, value: str) -> list[str]:
    """Return the digest under each of SEAL_KEYS; the first is to be stored, the others were before a rotation."""
    keys = _keys(tuple(settings.SEAL_KEYS), purpose)
    return [hmac.digest(key, value.encode("utf-8", "surrogatepass"), "sha256").hex()[:_LENGTH] for key in keys]


@lru_cache(maxsize=16)
def _keys(entries: tuple[str, ...], purpose: str) -> list[bytes]:
    info = b"duvo digest " + purpose.encode()
    return [
        HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(urlsafe_b64decode(entry)) for entry in entries
    ]
