"""Secrets at rest: sealed with FernetBytes under keys of our own, bound to the row they belong to.

A sealed value is the text `v1.<key id>.<base64 of iv, ciphertext, time and MAC>`. Three keys are derived by HKDF-SHA256
from each entry of SEAL_KEYS: one encrypts (AES-256-CBC), one signs (HMAC-SHA256 over the context and the ciphertext),
so a ciphertext that is copied to another tenant or row does not open, and one makes digests of what is sealed, which
tell nothing without it. The first entry seals, all open.
"""

from __future__ import annotations

import hmac
import json
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import b2a_base64
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django_cryptography.utils.crypto import FernetBytes, InvalidToken

from connections import key_holders
from connections.errors import SealBroken, SealKeyUnknown

_VERSION = "v1"
_KEY_ID = re.compile("[0-9a-f]{8}")
_MAC_BYTES = 32
_TIME_BYTES = 8


class _Key(NamedTuple):
    id: str
    encryption: bytes
    signing: bytes
    digesting: bytes


class _ContextSigner:
    """Signs ciphertexts together with the context they belong to, as FernetBytes asks of a signer."""

    def __init__(self, key: bytes, context: str) -> None:
        self._key, self._context = key, context.encode()

    def sign(self, value: bytes, current_time: int) -> bytes:
        payload = value + struct.pack(">Q", current_time)
        return payload + self._mac(payload)

    def unsign(self, signed_value: bytes, ttl: int | None = None) -> bytes:
        payload, mac = signed_value[:-_MAC_BYTES], signed_value[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(payload)):
            raise InvalidToken
        return payload[:-_TIME_BYTES]

    def _mac(self, payload: bytes) -> bytes:
        # The length keeps context and payload apart: no two pairs give the same bytes.
        return hmac.digest(self._key, struct.pack(">I", len(self._context)) + self._context + payload, "sha256")


def seal(value: Any, *, context: str) -> str:
    """Return the JSON-able value sealed with the first key, openable only in the same context."""
    return seal_bytes(json.dumps(value, separators=(",", ":")).encode(), context=context)


def unseal(sealed: str, *, context: str) -> Any:
    """Return the value; raises as `unseal_bytes`."""
    return json.loads(unseal_bytes(sealed, context=context))


def seal_bytes(data: bytes, *, context: str) -> str:
    """Return the bytes sealed with the first key as text."""
    key = _keys(tuple(settings.SEAL_KEYS))[0]
    blob = _fernet(key, context).encrypt(data)
    # In the plain alphabet: for the other one, which is read as well, a large value is walked through once more.
    return f"{_VERSION}.{key.id}.{b2a_base64(blob, newline=False).decode()}"


def unseal_bytes(sealed: str, *, context: str) -> bytes:
    """Return the bytes; raises SealBroken when key, context or content do not fit.

    Raises SealKeyUnknown when another process may have the key: while keys are rotated not all have the same.
    """
    version, _, rest = sealed.partition(".")
    key_id, _, blob = rest.partition(".")
    key = next((key for key in _keys(tuple(settings.SEAL_KEYS)) if key.id == key_id), None)
    if version != _VERSION or not _KEY_ID.fullmatch(key_id):
        raise SealBroken
    if key is None:
        raise SealBroken if key_holders.is_lost(key_id) else SealKeyUnknown
    try:
        return _fernet(key, context).decrypt(urlsafe_b64decode(blob))
    except (InvalidToken, ValueError) as error:
        raise SealBroken from error


def keyed_digest(data: bytes, *, context: str) -> str:
    """Return a digest of what is sealed elsewhere, made with the first key: `<key id>.<base64>`, 52 characters.

    With the key one can compare two of them; with the database alone nobody can guess the data and compare.
    """
    key = _keys(tuple(settings.SEAL_KEYS))[0]
    return f"{key.id}.{_digested(key, data, context)}"


def same_digest(digest: str, data: bytes, *, context: str) -> bool | None:
    """Tell whether a digest is of this data in this context; None when the key that made it is gone."""
    key_id, _, rest = digest.partition(".")
    key = next((key for key in _keys(tuple(settings.SEAL_KEYS)) if key.id == key_id), None)
    return None if key is None else hmac.compare_digest(rest, _digested(key, data, context))


def key_ids() -> list[str]:
    """Return the ids of SEAL_KEYS, that of the key that seals first."""
    return [key.id for key in _keys(tuple(settings.SEAL_KEYS))]


def sealed_with_current_key(sealed: str) -> bool:
    """Tell whether the first of SEAL_KEYS sealed this value; rotation re-seals the others."""
    return sealed.startswith(current_prefix())


def current_prefix() -> str:
    """Return how every value begins that the first of SEAL_KEYS sealed."""
    return f"{_VERSION}.{_keys(tuple(settings.SEAL_KEYS))[0].id}."


def _fernet(key: _Key, context: str) -> FernetBytes:
    # The package's protocol asks for text and ages, too; FernetBytes itself only signs and unsigns bytes.
    return FernetBytes(key.encryption, cast("Any", _ContextSigner(key.signing, context)))


def _digested(key: _Key, data: bytes, context: str) -> str:
    mac = hmac.digest(key.digesting, struct.pack(">I", len(context.encode())) + context.encode() + data, "sha256")
    return urlsafe_b64encode(mac).rstrip(b"=").decode()


@lru_cache(maxsize=8)
def _keys(entries: tuple[str, ...]) -> list[_Key]:
    return [_derive(urlsafe_b64decode(entry)) for entry in entries]


def _derive(secret: bytes) -> _Key:
    def hkdf(purpose: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"duvo seal " + purpose).derive(secret)

    key_id = sha256(hkdf(b"id")).hexdigest()[:8]
    return _Key(id=key_id, encryption=hkdf(b"encrypt"), signing=hkdf(b"sign"), digesting=hkdf(b"digest"))
