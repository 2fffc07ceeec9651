"""The public key set is read by anybody: no look at it opens a key, and no key is entered that is dear to prove."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from django.test import Client

from connections import signing_keys
from connections.forms import ConnectionForm
from connections.models import Connection, Credential
from tests.conftest import House

SOUND = rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def made_of(p: int, q: int, *, d: int = 3, e: int = 65537) -> str:
    """A key of these numbers, whether they fit or not, as anybody can write one."""

    def integer(number: int) -> bytes:
        return tagged(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))

    def tagged(tag: int, content: bytes) -> bytes:
        length = len(content)
        size = length.to_bytes((length.bit_length() + 7) // 8 or 1, "big")
        return bytes([tag]) + (bytes([length]) if length < 128 else bytes([128 + len(size)]) + size) + content

    from base64 import encodebytes

    numbers = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), 1)
    body = encodebytes(tagged(0x30, b"".join(map(integer, numbers)))).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\n"


HOSTILE: dict[str, Callable[[], str]] = {
    "RSA of 8,192 bits": lambda: made_of((1 << 4095) + 1, (1 << 4095) + 3),
    "RSA of 4,104 bits": lambda: made_of((1 << 2051) + 1, (1 << 2052) + 1),
    "RSA of 1,024 bits": lambda: made_of((1 << 511) + 1, (1 << 511) + 3),
    "RSA with one long factor": lambda: made_of((1 << 4090) + 1, 3),
    "RSA with numbers that are no primes": lambda: made_of((1 << 1023) + 1, (1 << 1024) + 1),
    "RSA with a long exponent": lambda: made_of(
        SOUND.private_numbers().p, SOUND.private_numbers().q, e=(1 << 2000) + 1
    ),
    "a curve that nobody signs with": lambda: pem(ec.generate_private_key(ec.SECP256K1())),
    "Ed25519": lambda: pem(ed25519.Ed25519PrivateKey.generate()),
    "DSA": lambda: pem(dsa.generate_private_key(2048)),
    "no key": lambda: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    "a long text": lambda: "-----BEGIN PRIVATE KEY-----\n" + "A" * 1_000_000,
}


@pytest.fixture
def connection(acme: House) -> Connection:
    return acme.connection(authorization="oauth")


def entered(acme: House, connection: Connection, key: str) -> ConnectionForm:
    data = ConnectionForm.data_of(connection) | {"oauth_token_auth": "private_key_jwt", "oauth_signing_key": key}
    return ConnectionForm(data, instance=connection, tenant=acme.tenant, user=acme.admin)


def published(connection: Connection) -> list[dict[str, Any]]:
    answer = Client().get(f"/v1/oauth/mcp/keys/{connection.pk}.json")
    assert answer.status_code == 200
    keys: list[dict[str, Any]] = answer.json()["keys"]
    return keys


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.usefixtures("open_egress")
def test_a_key_that_is_dear_or_useless_is_refused_at_its_field(acme: House, connection: Connection, kind: str) -> None:
    key = HOSTILE[kind]()
    started = time.process_time()
    form = entered(acme, connection, key)
    assert "oauth_signing_key" in form.errors, kind
    assert time.process_time() - started < 5, "an 8,192-bit key took 18 s, a factor of 4,090 bits about one"


@pytest.mark.parametrize(
    "key", [SOUND, *(ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))]
)
def test_a_key_that_can_sign_is_taken_and_its_public_half_is_published(
    acme: House, connection: Connection, key: Any
) -> None:
    signing_keys.check(pem(key))
    Credential(connection=connection, kind="oauth_signing_key").set(pem(key), by=None)
    (public,) = published(connection)
    assert public["alg"] in {"RS256", "ES256", "ES384", "ES512"}
    assert public["kid"] == signing_keys.identifier(signing_keys.load(pem(key)))
    assert not {"d", "p", "q", "dp", "dq", "qi"} & public.keys()


def test_nobody_who_reads_the_key_set_has_the_key_opened(connection: Connection) -> None:
    """Where what is sealed cannot be opened at all, the key set is as before."""
    row = Credential(connection=connection, kind="oauth_signing_key")
    row.set(signing_keys.make(), by=None)
    before = published(connection)
    Credential.objects.filter(pk=row.pk).update(sealed="v1.nobody.AAAA")
    assert published(connection) == before
    assert len(before) == 1


def test_a_connection_without_a_key_or_with_another_method_publishes_nothing(connection: Connection) -> None:
    assert published(connection) == []
    Credential(connection=connection, kind="oauth_client_secret").set("s", by=None)
    assert published(connection) == []
    Credential(connection=connection, kind="oauth_signing_key").set(signing_keys.make(), by=None)
    Connection.objects.filter(pk=connection.pk).update(authorization="none")
    assert published(connection) == []
