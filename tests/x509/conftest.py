"""Keys, requests and certificates made by the other implementation, so that ours is never its own witness."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import assemble_certificate, assemble_tbs
from intaglio.x509.names import Name

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The moment all certificates of these tests are valid at."""
    return NOW


@pytest.fixture(scope="session")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


@pytest.fixture
def make_request(ec_key: ec.EllipticCurvePrivateKey) -> Callable[..., bytes]:
    """DER of a PKCS #10 request by cryptography; keyword arguments: key, subject, san, extensions, hash_algorithm."""

    def make(
        *,
        key: object = ec_key,
        subject: str = "device",
        san: list[pyca.GeneralName] | None = None,
        extensions: tuple[tuple[pyca.ExtensionType, bool], ...] = (),
        hash_algorithm: hashes.HashAlgorithm | None = hashes.SHA256(),
    ) -> bytes:
        attributes = [pyca.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        builder = pyca.CertificateSigningRequestBuilder().subject_name(pyca.Name(attributes))
        if san:
            builder = builder.add_extension(pyca.SubjectAlternativeName(san), critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(key, hash_algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def issue() -> Callable[..., bytes]:
    """DER of a certificate assembled by us; every part can be replaced by keyword (see ``make``)."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "leaf")}

    def make(
        *,
        subject: str = "CN=www.example.com,O=Example,C=CA",
        issuer: str = "CN=Root,O=Example,C=CA",
        key: algorithms.PrivateKey = keys["leaf"],
        issuer_key: algorithms.PrivateKey = keys["root"],
        not_before: datetime = NOW - timedelta(days=1),
        not_after: datetime = NOW + timedelta(days=365),
        extensions: bytes | None = None,
        serial: bytes = bytes.fromhex("7a") + bytes(range(19)),
        sign: bool = True,
    ) -> bytes:
        spki, issuer_spki = algorithms.spki(key.public_key()), algorithms.spki(issuer_key.public_key())
        identifier = algorithms.key_algorithm_of(issuer_key).signature_identifier
        tbs = assemble_tbs(
            serial=serial,
            signature_identifier=identifier,
            issuer_der=Name.parse(issuer).der,
            not_before=not_before,
            not_after=not_after,
            subject_der=Name.parse(subject).der,
            spki=spki,
            extensions=leaf_extensions(spki, issuer_spki) if extensions is None else extensions,
        )
        return assemble_certificate(tbs, identifier, algorithms.sign(issuer_key, tbs)) if sign else tbs

    return make


def leaf_extensions(spki: bytes, issuer_spki: bytes) -> bytes:
    """What an end-entity certificate of these tests carries."""
    names = pyca.SubjectAlternativeName([pyca.DNSName("www.example.com")]).public_bytes()
    authority = ext.authority_key_identifier(algorithms.key_identifier(issuer_spki))
    return b"".join(
        [
            ext.extension(ext.AUTHORITY_KEY_IDENTIFIER, False, authority),
            ext.extension(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(False)),
            ext.extension(
                ext.AUTHORITY_INFORMATION_ACCESS,
                False,
                ext.authority_information_access(["http://pki.example.com/ocsp"], ["http://pki.example.com/ca.crt"]),
            ),
            ext.extension(
                ext.CRL_DISTRIBUTION_POINTS, False, ext.crl_distribution_points(["http://pki.example.com/ca.crl"])
            ),
            ext.extension(ext.SUBJECT_ALT_NAME, False, names),
            ext.extension(
                ext.SUBJECT_KEY_IDENTIFIER, False, ext.subject_key_identifier(algorithms.key_identifier(spki))
            ),
            ext.extension(ext.KEY_USAGE, True, ext.key_usage(["digitalSignature"])),
            ext.extension(ext.EXTENDED_KEY_USAGE, False, ext.extended_key_usage([ext.SERVER_AUTH, ext.CLIENT_AUTH])),
        ]
    )


@pytest.fixture(scope="session")
def ca_extensions() -> Callable[..., bytes]:
    """Extensions of a CA certificate; keyword arguments: ca, path_len, usage, issuer_spki."""

    def make(
        spki: bytes,
        *,
        ca: bool = True,
        path_len: int | None = None,
        usage: tuple[str, ...] = ("keyCertSign", "cRLSign"),
        issuer_spki: bytes | None = None,
    ) -> bytes:
        parts = [
            ext.extension(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(ca, path_len)),
            ext.extension(ext.KEY_USAGE, True, ext.key_usage(usage)),
            ext.extension(
                ext.SUBJECT_KEY_IDENTIFIER, False, ext.subject_key_identifier(algorithms.key_identifier(spki))
            ),
        ]
        if issuer_spki is not None:
            authority = ext.authority_key_identifier(algorithms.key_identifier(issuer_spki))
            parts.append(ext.extension(ext.AUTHORITY_KEY_IDENTIFIER, False, authority))
        return b"".join(parts)

    return make


@pytest.fixture(scope="session")
def openssl() -> Callable[..., str]:
    """Runs the openssl program with arguments, octets on standard input; returns its output, fails when it does."""

    def run(*arguments: str, data: bytes = b"") -> str:
        done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    return run


@pytest.fixture(scope="session")
def all_quick_algorithms() -> list[KeyAlgorithm]:
    """Every algorithm whose keys are made in a moment."""
    return [a for a in KeyAlgorithm if a not in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)]
