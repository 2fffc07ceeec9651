"""Why a TLS handshake failed: what is told apart, and what a second look at the same address finds out.

    of_greeting(bytes)               what speaks before any TLS
    judge(error)                     the code and the sentence that the error itself allows
    await look_again(failure, ...)   the same, or better: a greeting of another protocol, a chain with a gap

The second look connects to the very address that was checked and connected to before; it sends nothing but a handshake.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from functools import cache
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

LOOK_TIMEOUT = 2.0  # seconds of a second look
MOST_CERTIFICATES = 10  # of a chain that are read
CERTIFICATE_FAULTS = {  # OpenSSL's verify codes
    9: "The server's certificate is not valid yet.",
    10: "The server's certificate has expired.",
    18: "The server's certificate is self-signed.",
    19: "The server's certificate comes from an authority that is not trusted here.",
    20: "The server's certificate comes from an authority that is not trusted here.",
    21: "The server's certificate comes from an authority that is not trusted here.",
    62: "The server's certificate is for another host name.",
    64: "The server's certificate is for another address.",
}
_NO_ISSUER = {20, 21}  # the certificate that issued this one is neither sent nor known
_OUTDATED = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW", "DH_KEY_TOO_SMALL"}
_WANTS_OURS = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_ACCESS_DENIED"}
_GREETINGS = (  # of protocols whose server speaks first
    (b"SSH-", "An SSH server answers on this port, and no web server. Check the port in the URL."),
    (b"HTTP/", "The server speaks plain HTTP on this port, and no TLS. Check the port in the URL."),
    (b"220", "A mail or FTP server answers on this port, and no web server. Check the port in the URL."),
    (b"+OK", "A mail server answers on this port, and no web server. Check the port in the URL."),
    (b"* OK", "A mail server answers on this port, and no web server. Check the port in the URL."),
    (b"RFB ", "A remote desktop answers on this port, and no web server. Check the port in the URL."),
)


class Failure(NamedTuple):
    """A stable code and a sentence for a person."""

    code: str
    sentence: str


NO_TLS = Failure("no_tls", "The server does not speak TLS on this port. Check the port in the URL.")
CLOSED = Failure("tls_closed", "The server hung up in the middle of the TLS handshake.")
RESET = Failure("tls_closed", "The server reset the connection in the middle of the TLS handshake.")
SILENT = Failure("tls_timeout", "The server accepts connections on this port, and does not answer the TLS handshake.")


def of_greeting(said: bytes) -> Failure | None:
    """Return what a peer that speaks before any TLS is, None for one that says nothing."""
    if not said:
        return None
    sentence = next((sentence for start, sentence in _GREETINGS if said.startswith(start)), NO_TLS.sentence)
    return Failure(NO_TLS.code, sentence)


def judge(error: BaseException) -> Failure:
    """Return what an error of a handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        sentence = CERTIFICATE_FAULTS.get(error.verify_code, "The server's certificate is not valid.")
        return Failure("tls_failed", sentence)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CLOSED
    if isinstance(error, ssl.SSLError):
        return _of_library(error.reason or "")
    if isinstance(error, TimeoutError | ConnectionAbortedError):  # asyncio's clock is the latter
        return SILENT
    if isinstance(error, OSError) and error.errno == errno.ECONNRESET:
        return RESET
    return CLOSED


def _of_library(reason: str) -> Failure:
    if reason in _OUTDATED:
        return Failure("tls_failed", "The server speaks only an outdated version of TLS.")
    if reason in _WANTS_OURS:
        return Failure("tls_failed", "The server wants a certificate from us (mutual TLS), which is not supported.")
    if "UNRECOGNIZED_NAME" in reason:
        return Failure("tls_failed", "The server has no certificate for this host name: it refused the TLS handshake.")
    if "ALERT" in reason:
        word = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return Failure("tls_failed", f"The server refused the TLS handshake ({word}).")
    return NO_TLS  # what came is no record of TLS


async def look_again(failure: Failure, error: BaseException, address: Any, host: str | None) -> Failure:
    """Return the failure, more exactly if the peer at this address (as of `getpeername`) shows more; never raises."""
    gap = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _NO_ISSUER
    if not address or not (gap or failure in {NO_TLS, CLOSED, RESET}):
        return failure
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            if gap:
                return _of_chain(await _chain(address, host), failure)
            return of_greeting(await _greeting(address)) or failure
    except (OSError, ValueError):  # TimeoutError is one: it says nothing first
        return failure


async def _greeting(address: Any) -> bytes:
    reader, writer = await asyncio.open_connection(address[0], address[1], limit=1024)
    try:
        return await reader.read(64)
    finally:
        writer.transport.abort()


async def _chain(address: Any, host: str | None) -> list[x509.Certificate]:
    """Return the certificates that the server sends, its own first; nothing is asked through this connection."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, address[0], address[1], ssl=_unverified(), server_hostname=host or "",
        ssl_handshake_timeout=LOOK_TIMEOUT,
    )  # fmt: skip
    try:
        sent: Any = transport.get_extra_info("ssl_object")
        ask = getattr(sent, "get_unverified_chain", None)  # public from Python 3.13 on
        chain = ask() if ask else sent._sslobj.get_unverified_chain()  # noqa: SLF001
        return [_certificate(one) for one in (chain or [])[:MOST_CERTIFICATES]]
    finally:
        transport.abort()


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate(one: Any) -> x509.Certificate:
    der = one if isinstance(one, bytes) else ssl.PEM_cert_to_DER_cert(one.public_bytes())
    return x509.load_der_x509_certificate(der)


def _of_chain(chain: list[x509.Certificate], failure: Failure) -> Failure:
    """Tell a chain with a gap from an authority that nobody knows here, as far as that can be told."""
    if not chain:
        return failure
    by_subject = {one.subject: one for one in chain}
    top = chain[0]
    for _ in chain:  # no more steps than certificates: they may go in a circle
        above = by_subject.get(top.issuer)
        if above is None or above is top:
            break
        top = above
    if top.issuer == top.subject:
        return failure
    issuer = _name(top.issuer)
    whose = "its certificate" if top is chain[0] else "its chain of certificates"
    if _is_of_public_authority(top):
        sentence = f"The server sends {whose} without the intermediate one{issuer} that links it to its authority."
        return Failure("certificate_incomplete", sentence)
    sentence = (
        f"The server sends {whose} without the one that issued it{issuer}: an intermediate one is missing, or it "
    )
    return Failure("tls_failed", f"{sentence}comes from an authority that is not trusted here.")


def _is_of_public_authority(certificate: x509.Certificate) -> bool:
    """Whether it says where its issuer's certificate is to be had, as those of public authorities do."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)


def _name(name: x509.Name) -> str:
    """Return a name of a certificate's issuer, as a stranger wrote it: short, and only what can be seen."""
    for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME):
        text = "".join(character for character in str(attribute.value) if character.isprintable())[:60].strip()
        return f" (“{text}”)" if text else ""
    return ""
