"""Servers with certificates of a chain of three: authority, intermediate, server; any of which may not be sent."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

_PEM = serialization.Encoding.PEM


class Chain:
    """An authority in `file`, an intermediate below it, and contexts of servers whose certificate that has signed."""

    def __init__(self, folder: Path, *, public: bool = True) -> None:
        """`public`: certificates say where their issuer's is to be had, as those of public authorities do."""
        self.folder, self.public = folder, public
        self.root_key, self.middle_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.root = self._made("Acme Root", "Acme Root", self.root_key, self.root_key, authority=True)
        self.middle = self._made("Acme Intermediate", "Acme Root", self.middle_key, self.root_key, authority=True)
        self.file = folder / "root.pem"
        self.file.write_bytes(self.root.public_bytes(_PEM))

    def server(self, host: str, *, sends_intermediate: bool, sends_root: bool = False) -> ssl.SSLContext:
        leaf = self._made(host, "Acme Intermediate", self.key, self.middle_key, host=host)
        sent = [leaf, *([self.middle] if sends_intermediate else []), *([self.root] if sends_root else [])]
        file = self.folder / f"{host}.{len(sent)}.pem"
        private = self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + b"".join(one.public_bytes(_PEM) for one in sent))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _made(
        self, name: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *,
        authority: bool = False, host: str = "",
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if host:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        if self.public and name != issuer:
            where = x509.UniformResourceIdentifier("http://authority.example/issuer.der")
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
            made = made.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        return made.sign(signer, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
