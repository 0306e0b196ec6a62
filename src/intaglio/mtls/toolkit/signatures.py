"""Signatures with a digest of one's choice, which requests and self-signed certificates need.

Sources: RFC 4055 section 5 and RFC 5758 section 3.2 (identifiers), RFC 8410 section 3, RFC 9881 section 2.
"""

from __future__ import annotations

from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import PrivateKey


class Digest(StrEnum):
    """Digest of a signature; Ed25519, Ed448 and ML-DSA have their own and ignore it."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"


def signed(key: PrivateKey, digest: Digest, data: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier and signature over ``data``. Raises InvalidInput (``key-algorithm-not-allowed``)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return identifier(key, digest), key.sign(data, padding.PKCS1v15(), _HASHES[digest])
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return identifier(key, digest), key.sign(data, ec.ECDSA(_HASHES[digest]))
    return identifier(key, digest), algorithms.sign(key, data)


def identifier(key: PrivateKey, digest: Digest) -> bytes:
    """The AlgorithmIdentifier that :func:`signed` returns, which a certificate names inside what is signed."""
    own = algorithms.key_algorithm_of(key).signature_identifier
    if isinstance(key, rsa.RSAPrivateKey):
        return der.sequence(der.oid(_RSA[digest]), der.null())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return der.sequence(der.oid(_ECDSA[digest]))
    return own


_HASHES: dict[Digest, hashes.HashAlgorithm] = {
    Digest.SHA256: hashes.SHA256(),
    Digest.SHA384: hashes.SHA384(),
    Digest.SHA512: hashes.SHA512(),
}
_RSA = {
    Digest.SHA256: "1.2.840.113549.1.1.11",
    Digest.SHA384: "1.2.840.113549.1.1.12",
    Digest.SHA512: "1.2.840.113549.1.1.13",
}
_ECDSA = {
    Digest.SHA256: "1.2.840.10045.4.3.2",
    Digest.SHA384: "1.2.840.10045.4.3.3",
    Digest.SHA512: "1.2.840.10045.4.3.4",
}
