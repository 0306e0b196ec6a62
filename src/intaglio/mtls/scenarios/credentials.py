"""Certificates that scenarios make up: a server's, and those that no good authority would issue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intaglio.core import clock
from intaglio.core.identifiers import new_serial_number
from intaglio.transport.contexts import ServerIdentity

Purpose = Literal["server", "client"]

_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_LIFETIME = timedelta(days=1)


@dataclass(frozen=True)
class Held:
    """A certificate with its issuers (PEM, leaf first) and its key, in the hands of somebody."""

    name: str
    certificate: x509.Certificate = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issuers: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def identity(self) -> ServerIdentity:
        """Chain and key as TLS wants them."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return ServerIdentity(b"".join((self.pem, *self.issuers)), key)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PEM) of which only the key counts."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name("scenario"))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def make_authority(name: str) -> Held:
    """An authority nobody knows yet."""
    key = new_key()
    builder = _builder(name, key, _LIFETIME).issuer_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), True)
    return Held(name, builder.sign(key, SHA256()), key)


def make_leaf(
    issuer: Held | None,
    name: str,
    purpose: Purpose = "client",
    *,
    lifetime: timedelta = _LIFETIME,
    uri: str = "",
    host: str = "localhost",
) -> Held:
    """A certificate of ``issuer``, or one that signs itself. A negative ``lifetime`` is one that is over.

    A server's is for the name ``host`` and for loopback addresses.
    """
    key = new_key()
    builder = _builder(name, key, lifetime).issuer_name(issuer.certificate.subject if issuer else _name(name))
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    if purpose == "server":
        names += [x509.DNSName(host), x509.IPAddress(ip_address("127.0.0.1"))]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([_PURPOSES[purpose]]), False)
    return Held(name, builder.sign(issuer.key if issuer else key, SHA256()), key)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(int.from_bytes(new_serial_number(), "big"))
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
