"""Certificates for the tests of this folder: authorities, servers, clients."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intaglio.core import clock

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def load_into(self, context: ssl.SSLContext, further: Sequence[bytes] = ()) -> None:
        """Let a client's context present this certificate, and ``further`` ones (PEM) after it."""
        with tempfile.TemporaryDirectory() as folder:
            chain, key = self.write(Path(folder), "credential")
            chain.write_bytes(b"".join((self.pem, *further)))
            context.load_cert_chain(chain, key)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        return certificate, key


def authority(name: str, *, issuer: Credential | None = None) -> Credential:
    """A root, or an authority below ``issuer``."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, timedelta(days=10))
    builder = builder.issuer_name(issuer.certificate.subject if issuer else _name(name))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return Credential(builder.sign(issuer.key if issuer else key, SHA256()), key)


def server(issuer: Credential, name: str = "localhost", *, key: PrivateKey | None = None) -> Credential:
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")), x509.IPAddress(ip_address("::1"))]
    return _leaf(issuer, name, ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(names), key=key)


def client(
    issuer: Credential,
    name: str = "client",
    *,
    lifetime: timedelta = timedelta(days=5),
    names: Sequence[x509.GeneralName] = (),
) -> Credential:
    san = x509.SubjectAlternativeName(names) if names else None
    return _leaf(issuer, name, ExtendedKeyUsageOID.CLIENT_AUTH, san, lifetime)


def _leaf(
    issuer: Credential,
    name: str,
    purpose: x509.ObjectIdentifier,
    san: x509.SubjectAlternativeName | None,
    lifetime: timedelta = timedelta(days=5),
    key: PrivateKey | None = None,
) -> Credential:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, lifetime).issuer_name(issuer.certificate.subject)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    if san is not None:
        builder = builder.add_extension(san, False)
    return Credential(builder.sign(issuer.key, SHA256()), key)


def _builder(name: str, key: PrivateKey, lifetime: timedelta) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lifetime)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
