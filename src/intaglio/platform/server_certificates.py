"""Reading and judging a TLS server certificate, its chain and its key."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput

LARGEST_CHAIN, LARGEST_KEY = 256 * 1024, 64 * 1024  # octets
MOST_CERTIFICATES = 10
SMALLEST_RSA = 2048  # bits

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def read_chain(data: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM bundle in its order. Raises InvalidInput (``certificate-unreadable``,
    ``chain-too-long``)."""
    try:
        if len(data) > LARGEST_CHAIN:
            raise ValueError
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise InvalidInput(
            "The certificate is not PEM, or too large.",
            code="certificate-unreadable",
            remedy="Send the server certificate followed by its issuers, in PEM.",
            target="certificate",
        ) from None
    if len(certificates) > MOST_CERTIFICATES:
        raise InvalidInput(
            f"A chain has at most {MOST_CERTIFICATES} certificates.", code="chain-too-long", target="certificate"
        )
    return certificates


def read_key(data: bytes, password: SecretStr | None) -> ServerKey:
    """The private key, PEM or DER, decrypted with ``password``.

    Raises InvalidInput: ``key-unreadable``, ``key-password-missing``, ``key-password-wrong``,
    ``key-algorithm-not-allowed``.
    """
    secret = password.get_secret_value().encode() if password and password.get_secret_value() else None
    encrypted = b"ENCRYPTED" in data[:LARGEST_KEY]
    if encrypted and secret is None:
        raise InvalidInput("The private key is encrypted.", code="key-password-missing", target="password")
    load = load_pem_private_key if data.lstrip().startswith(b"-----") else load_der_private_key
    try:
        if len(data) > LARGEST_KEY:
            raise ValueError
        key = load(data, secret if encrypted or load is load_der_private_key else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if secret is not None and encrypted:
            raise InvalidInput(
                "The private key does not open with this password.", code="key-password-wrong", target="password"
            ) from None
        raise InvalidInput("The private key is not PEM or DER.", code="key-unreadable", target="key") from None
    if not isinstance(key, ServerKey):
        raise InvalidInput(
            "A server key is RSA or ECDSA.",
            code="key-algorithm-not-allowed",
            remedy="Use RSA of 2048 bits or more, or ECDSA on P-256, P-384 or P-521.",
            target="key",
        )
    return key


def check_identity(chain: Sequence[x509.Certificate], key: ServerKey, *, at: datetime) -> None:
    """Raise InvalidInput, naming the first thing that is wrong with serving ``chain`` with ``key`` at this time.

    Codes: ``key-mismatch``, ``weak-key``, ``weak-signature``, ``certificate-expired``, ``certificate-not-yet-valid``,
    ``certificate-without-names``, ``certificate-not-for-servers``, ``chain-broken``.
    """
    leaf = chain[0]
    if _spki(leaf.public_key()) != _spki(key.public_key()):
        raise _wrong("key-mismatch", "The private key does not belong to the first certificate.", target="key")
    for number, certificate in enumerate(chain, 1):
        _check_strength(number, certificate)
        _check_validity(number, certificate, at)
    _check_use(leaf)
    if not names_of(leaf):
        raise _wrong("certificate-without-names", "The certificate names no host.", remedy="Put the host into the SAN.")
    for number, (certificate, issuer) in enumerate(itertools.pairwise(chain), 1):
        _check_link(number, certificate, issuer)


def names_of(leaf: x509.Certificate) -> list[str]:
    """DNS names and addresses a server certificate is for; the common name counts only without a SAN
    (RFC 6125 section 6.4.4)."""
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except ValueError:
        raise _wrong("certificate-unreadable", "The extensions of the certificate cannot be read.") from None
    return [*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress))]


def describe_key(key: object) -> str:
    """``RSA 2048``, ``ECDSA secp256r1``."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"ECDSA {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _check_strength(number: int, certificate: x509.Certificate) -> None:
    key = _public_key(number, certificate)
    rsa_is_weak = isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA
    curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
    if rsa_is_weak or (isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, curves)):
        raise _wrong(
            "weak-key",
            f"Certificate {number} has a key that is too weak: {describe_key(key)}.",
            remedy="Use RSA of 2048 bits or more, or ECDSA on P-256, P-384 or P-521.",
        )
    try:
        hash_algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        raise _wrong("weak-signature", f"Certificate {number} is signed with an unknown algorithm.") from None
    if isinstance(hash_algorithm, MD5 | SHA1) and certificate.subject != certificate.issuer:
        raise _wrong("weak-signature", f"Certificate {number} is signed with {hash_algorithm.name}.")


def _check_validity(number: int, certificate: x509.Certificate, at: datetime) -> None:
    if certificate.not_valid_after_utc <= at:
        moment = rfc3339(certificate.not_valid_after_utc)
        raise _wrong("certificate-expired", f"Certificate {number} expired at {moment}.")
    if certificate.not_valid_before_utc > at:
        moment = rfc3339(certificate.not_valid_before_utc)
        raise _wrong("certificate-not-yet-valid", f"Certificate {number} is valid only from {moment}.")


def _check_use(leaf: x509.Certificate) -> None:
    try:
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError:
        raise _wrong("certificate-unreadable", "The extensions of the certificate cannot be read.") from None
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        raise _wrong("certificate-not-for-servers", "The certificate is not for TLS servers (extended key usage).")


def _check_link(number: int, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    problem = f"Certificate {number + 1} did not issue certificate {number}."
    remedy = "Order the bundle from the server certificate upwards, without gaps."
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        raise _wrong("chain-broken", problem, remedy=remedy) from None
    if not constraints.ca:
        raise _wrong("chain-broken", f"Certificate {number + 1} is not a CA certificate.", remedy=remedy)


def _public_key(number: int, certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong("certificate-unreadable", f"The key of certificate {number} cannot be read.") from None


def _spki(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _wrong(code: str, detail: str, *, remedy: str | None = None, target: str = "certificate") -> InvalidInput:
    return InvalidInput(detail, code=code, remedy=remedy, target=target)
