"""Signatures with another digest or padding than the one that belongs to a key.

Certificates and CRLs are signed as :mod:`intaglio.asn1.algorithms` says; OCSP answers and timestamps can be asked to
use SHA-384, SHA-512 or RSASSA-PSS. Sources: RFC 4055 sections 3 and 5, RFC 5758 section 3.2, RFC 8017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from intaglio.asn1 import der
from intaglio.asn1.algorithms import RSASSA_PSS, KeyAlgorithm, PrivateKey, signing
from intaglio.core.errors import InvalidInput

Digest = Literal["sha256", "sha384", "sha512"]


@dataclass(frozen=True)
class SignatureScheme:
    """``identifier`` is the DER AlgorithmIdentifier of the signatures that ``bind(key)`` makes."""

    identifier: bytes
    bind: Callable[[PrivateKey], Callable[[bytes], bytes]] = field(repr=False)


@lru_cache(maxsize=256)
def signature_scheme(algorithm: KeyAlgorithm, digest: Digest | None = None, *, pss: bool = False) -> SignatureScheme:
    """How a key of ``algorithm`` signs with ``digest`` (None: the one that belongs to the key), ``pss`` for RSASSA-PSS.

    Raises InvalidInput (``signature-scheme-unfit``) for PSS or a digest with a key that knows neither.
    """
    if digest is None and not pss:
        return SignatureScheme(algorithm.signature_identifier, signing)
    if algorithm.value.startswith("rsa-"):
        chosen = digest or algorithm.hash_name or "sha256"
        return _pss(_HASHES[chosen]) if pss else _pkcs1(_HASHES[chosen])
    if pss:
        raise _unfit(f"A key of type {algorithm.value} does not sign with RSASSA-PSS.")
    if algorithm.value.startswith("ecdsa-"):
        return _ecdsa(_HASHES[digest or "sha256"])
    if digest == algorithm.hash_name:
        return SignatureScheme(algorithm.signature_identifier, signing)
    raise _unfit(f"A key of type {algorithm.value} signs the message itself; no digest can be chosen for it.")


@dataclass(frozen=True)
class _Hash:
    algorithm: hashes.HashAlgorithm
    oid: str
    rsa_oid: str
    ecdsa_oid: str


_HASHES = {
    "sha256": _Hash(hashes.SHA256(), "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2"),
    "sha384": _Hash(hashes.SHA384(), "2.16.840.1.101.3.4.2.2", "1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"),
    "sha512": _Hash(hashes.SHA512(), "2.16.840.1.101.3.4.2.3", "1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"),
}
_MGF1 = "1.2.840.113549.1.1.8"


def _pkcs1(chosen: _Hash) -> SignatureScheme:
    padded = padding.PKCS1v15()

    def bind(key: PrivateKey) -> Callable[[bytes], bytes]:
        assert isinstance(key, rsa.RSAPrivateKey)
        sign = key.sign
        return lambda data: sign(data, padded, chosen.algorithm)

    return SignatureScheme(der.sequence(der.oid(chosen.rsa_oid), der.null()), bind)


def _pss(chosen: _Hash) -> SignatureScheme:
    octets = chosen.algorithm.digest_size
    padded = padding.PSS(padding.MGF1(chosen.algorithm), octets)
    digest = der.sequence(der.oid(chosen.oid), der.null())
    parameters = der.sequence(
        der.explicit(0, digest),
        der.explicit(1, der.sequence(der.oid(_MGF1), digest)),
        der.explicit(2, der.integer(octets)),
    )

    def bind(key: PrivateKey) -> Callable[[bytes], bytes]:
        assert isinstance(key, rsa.RSAPrivateKey)
        sign = key.sign
        return lambda data: sign(data, padded, chosen.algorithm)

    return SignatureScheme(der.sequence(der.oid(RSASSA_PSS), parameters), bind)


def _ecdsa(chosen: _Hash) -> SignatureScheme:
    scheme = ec.ECDSA(chosen.algorithm)

    def bind(key: PrivateKey) -> Callable[[bytes], bytes]:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        sign = key.sign
        return lambda data: sign(data, scheme)

    return SignatureScheme(der.sequence(der.oid(chosen.ecdsa_oid)), bind)


def _unfit(detail: str) -> InvalidInput:
    return InvalidInput(
        detail, code="signature-scheme-unfit", remedy="Leave the signature to the key, or use another key."
    )
