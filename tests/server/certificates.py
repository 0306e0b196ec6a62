"""Certificates for the tests of this folder: authorities, servers, clients."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intaglio.core import clock


@dataclass
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        return certificate, key


def authority(name: str) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, timedelta(days=10)).issuer_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return Credential(builder.sign(key, SHA256()), key)


def server(issuer: Credential, name: str = "localhost") -> Credential:
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")), x509.IPAddress(ip_address("::1"))]
    return _leaf(issuer, name, ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(names))


def client(issuer: Credential, name: str = "client", *, lifetime: timedelta = timedelta(days=5)) -> Credential:
    return _leaf(issuer, name, ExtendedKeyUsageOID.CLIENT_AUTH, None, lifetime)


def _leaf(
    issuer: Credential,
    name: str,
    purpose: x509.ObjectIdentifier,
    san: x509.SubjectAlternativeName | None,
    lifetime: timedelta = timedelta(days=5),
) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, lifetime).issuer_name(issuer.certificate.subject)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    if san is not None:
        builder = builder.add_extension(san, False)
    return Credential(builder.sign(issuer.key, SHA256()), key)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta) -> x509.CertificateBuilder:
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
