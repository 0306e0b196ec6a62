"""PKCS #12 files: a private key, its certificate and the chain under a password. Source: RFC 7292, RFC 9579."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12

from intaglio.asn1.algorithms import PrivateKey, key_algorithm_of, spki
from intaglio.core.errors import InvalidInput, NotSupported
from intaglio.x509.certificates import read_certificate

MAX_PKCS12_OCTETS = 1024 * 1024
_MODERN_ROUNDS = 20_000
_LEGACY_ROUNDS = 20_000

Compatibility = Literal["modern", "legacy"]


@dataclass(frozen=True)
class Pkcs12:
    """Content of a PKCS #12 file; ``chain_ders`` are the further certificates in file order."""

    private_key: PrivateKey | None = field(repr=False)
    certificate_der: bytes | None
    chain_ders: tuple[bytes, ...]
    friendly_name: str | None


def encode_pkcs12(
    private_key: PrivateKey,
    certificate_der: bytes,
    chain_ders: Sequence[bytes],
    password: str,
    *,
    friendly_name: str,
    compatibility: Compatibility = "modern",
) -> bytes:
    """DER of a PKCS #12 file.

    ``modern`` encrypts with PBES2, AES-256-CBC and HMAC-SHA-256 and authenticates with HMAC-SHA-256; ``legacy`` with
    three-key triple DES and HMAC-SHA-1, for Windows before 10 1809, macOS before 15 and Java before 8u301. Raises
    InvalidInput when the password is empty or the key does not belong to the certificate, NotSupported for keys that
    have no PKCS #12 form yet (ML-DSA).
    """
    if not password:
        raise InvalidInput("A PKCS #12 file needs a password.", code="password-missing", target="password")
    if isinstance(private_key, mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey):
        raise NotSupported(
            "ML-DSA keys cannot be put into a PKCS #12 file yet.",
            code="pkcs12-key-not-supported",
            remedy="Keep the key where it is and enrol with a certificate request.",
        )
    if spki(private_key.public_key()) != read_certificate(certificate_der).spki:
        raise InvalidInput("The private key does not belong to the certificate.", code="key-mismatch")
    builder = PrivateFormat.PKCS12.encryption_builder()
    if compatibility == "legacy":
        builder = builder.kdf_rounds(_LEGACY_ROUNDS).key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        builder = builder.hmac_hash(SHA1())  # noqa: S303 - what the old readers understand, authenticated by a password
    else:
        builder = builder.kdf_rounds(_MODERN_ROUNDS).key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        builder = builder.hmac_hash(SHA256())
    return pkcs12.serialize_key_and_certificates(
        friendly_name.encode(),
        private_key,
        pyca.load_der_x509_certificate(certificate_der),
        [pyca.load_der_x509_certificate(certificate) for certificate in chain_ders] or None,
        builder.build(password.encode()),
    )


def decode_pkcs12(data: bytes, password: str) -> Pkcs12:
    """Content of a PKCS #12 file of at most 1 MiB.

    Raises InvalidInput: ``pkcs12-unreadable`` for a wrong password, damaged or unsupported data,
    ``key-algorithm-not-allowed`` for a key of another algorithm.
    """
    if len(data) > MAX_PKCS12_OCTETS:
        raise InvalidInput(f"A PKCS #12 file has at most {MAX_PKCS12_OCTETS} octets.", code="pkcs12-unreadable")
    try:
        content = pkcs12.load_pkcs12(data, password.encode())
    except (ValueError, TypeError, NotImplementedError):
        raise InvalidInput(
            "The PKCS #12 file cannot be opened.",
            code="pkcs12-unreadable",
            remedy="Check the password and that the file is a complete PKCS #12.",
        ) from None
    if content.key is not None:
        key_algorithm_of(content.key)
    name = content.cert.friendly_name if content.cert else None
    return Pkcs12(
        private_key=cast("PrivateKey | None", content.key),
        certificate_der=content.cert.certificate.public_bytes(Encoding.DER) if content.cert else None,
        chain_ders=tuple(c.certificate.public_bytes(Encoding.DER) for c in content.additional_certs),
        friendly_name=name.decode("utf-8", "replace") if name else None,
    )
