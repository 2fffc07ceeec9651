"""Keys with which we sign for a client: made here or entered as PEM, and published as a key set (RFC 7517)."""

from __future__ import annotations

from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

Key = ECKey | RSAKey

SMALLEST_RSA = 2048  # bits, RFC 7518, section 3.3
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class BadKey(ValueError):
    """This is not a private key that can sign: enter an RSA (2048 bits or more) or EC (P-256) key in PEM."""


def make() -> str:
    """Return a new private key (P-256) as PEM."""
    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def load(pem: str) -> Key:
    """Return the private key in a PEM; raises BadKey."""
    for kind in (ECKey, RSAKey):
        try:
            key = kind.import_key(pem.strip())
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private and (not isinstance(key, RSAKey) or key.raw_value.key_size >= SMALLEST_RSA):
            return key
    raise BadKey(BadKey.__doc__)


def algorithm(key: Key) -> str:
    """Return the algorithm to sign with (RFC 7518, section 3.1)."""
    return _CURVES[str(key.curve_name)] if isinstance(key, ECKey) else "RS256"


def identifier(key: Key) -> str:
    """Return the key's own name: its thumbprint (RFC 7638)."""
    return key.thumbprint()


def public_set(pem: str) -> dict[str, Any]:
    """Return the key set with the public half; raises BadKey."""
    key = load(pem)
    public = key.as_dict(private=False)
    return {"keys": [{**public, "kid": identifier(key), "use": "sig", "alg": algorithm(key)}]}
