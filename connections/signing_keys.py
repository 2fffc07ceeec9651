"""Keys with which we sign for a client: made here or entered as PEM, and published as a key set (RFC 7517).

A key is validated once, when it is entered: whether the factors of an RSA key are primes takes seconds for long
numbers, so that is checked last, only of numbers within bounds, and never of a key that is stored.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, RSAKey

Key = ECKey | RSAKey

SMALLEST_RSA = 2048  # bits, RFC 7518, section 3.3
LARGEST_RSA = 4096  # bits; validating one takes a third of a second, one of 8,192 bits up to 18 seconds
LONGEST_PEM = 8_000  # characters; an RSA key of 4,096 bits has 3,300
_LONGEST_EXPONENT = 64  # bits; almost every key has 65537
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class BadKey(ValueError):
    """This is not a private key that can sign: enter an RSA (2048 to 4096 bits) or EC (P-256, P-384, P-521) key in PEM."""  # noqa: E501 - its docstring is its message


def make() -> str:
    """Return a new private key (P-256) as PEM."""
    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def check(pem: str) -> None:
    """Validate a private key that somebody enters, in less than a second whatever is in it; raises BadKey."""
    raw = _raw(pem)
    if isinstance(raw, RSAPrivateKey):
        _prove(raw, pem)


def load(pem: str) -> Key:
    """Return the private key in a PEM, which was validated when it was entered; raises BadKey."""
    raw = _raw(pem)
    return RSAKey.import_key(raw) if isinstance(raw, RSAPrivateKey) else ECKey.import_key(raw)


def algorithm(key: Key) -> str:
    """Return the algorithm to sign with (RFC 7518, section 3.1)."""
    return _CURVES[key.raw_value.curve.name] if isinstance(key, ECKey) else "RS256"


def identifier(key: Key) -> str:
    """Return the key ID: the key's thumbprint (RFC 7638)."""
    return key.thumbprint()


def public_half(pem: str) -> dict[str, Any]:
    """Return the public half as a JWK, as it is published; raises BadKey."""
    key = load(pem)
    public = key.as_dict(private=False)
    return {**public, "kid": identifier(key), "use": "sig", "alg": algorithm(key)}


def _raw(pem: str) -> RSAPrivateKey | EllipticCurvePrivateKey:
    """Read a key without any long computation; raises BadKey, also for a size or a curve that nobody should use."""
    text = pem.strip()
    if len(text) > LONGEST_PEM:
        raise BadKey(BadKey.__doc__)
    try:
        raw = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(BadKey.__doc__) from error
    if isinstance(raw, EllipticCurvePrivateKey) and raw.curve.name in _CURVES:
        return raw
    if isinstance(raw, RSAPrivateKey) and SMALLEST_RSA <= raw.key_size <= LARGEST_RSA:
        return raw
    raise BadKey(BadKey.__doc__)


def _prove(key: RSAPrivateKey, pem: str) -> None:
    """Check cheaply that the numbers of an RSA key are of its size, then that they make a key; raises BadKey."""
    numbers = key.private_numbers()
    public = numbers.public_numbers
    most = key.key_size // 2 + 1
    members = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    of_its_size = all(number > 0 and number.bit_length() <= most for number in members)
    fits = numbers.p * numbers.q == public.n if of_its_size else False
    if not fits or numbers.d.bit_length() > key.key_size or public.e.bit_length() > _LONGEST_EXPONENT:
        raise BadKey(BadKey.__doc__)
    try:
        load_pem_private_key(pem.strip().encode(), None)
    except ValueError as error:
        raise BadKey(BadKey.__doc__) from error
