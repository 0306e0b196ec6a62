"""How strong keys and signatures are, in words. Sources: NIST SP 800-57 part 1 table 2, SP 800-131A, NIST IR 8547."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from intaglio.asn1.algorithms import KeyAlgorithm, key_algorithm_of
from intaglio.core.errors import InvalidInput
from intaglio.x509 import weak_keys

SIGNATURES = {
    "1.2.840.113549.1.1.4": ("MD5 with RSA", True),
    "1.2.840.113549.1.1.5": ("SHA-1 with RSA", True),
    "1.2.840.113549.1.1.10": ("RSASSA-PSS", False),
    "1.2.840.113549.1.1.11": ("SHA-256 with RSA", False),
    "1.2.840.113549.1.1.12": ("SHA-384 with RSA", False),
    "1.2.840.113549.1.1.13": ("SHA-512 with RSA", False),
    "1.2.840.10040.4.3": ("SHA-1 with DSA", True),
    "1.2.840.10045.4.1": ("SHA-1 with ECDSA", True),
    "1.2.840.10045.4.3.2": ("SHA-256 with ECDSA", False),
    "1.2.840.10045.4.3.3": ("SHA-384 with ECDSA", False),
    "1.2.840.10045.4.3.4": ("SHA-512 with ECDSA", False),
    "1.3.101.112": ("Ed25519", False),
    "1.3.101.113": ("Ed448", False),
    "2.16.840.1.101.3.4.3.17": ("ML-DSA-44", False),
    "2.16.840.1.101.3.4.3.18": ("ML-DSA-65", False),
    "2.16.840.1.101.3.4.3.19": ("ML-DSA-87", False),
}

_BITS = {
    KeyAlgorithm.RSA_2048: 112,
    KeyAlgorithm.RSA_3072: 128,
    KeyAlgorithm.RSA_4096: 140,
    KeyAlgorithm.ECDSA_P256: 128,
    KeyAlgorithm.ECDSA_P384: 192,
    KeyAlgorithm.ECDSA_P521: 256,
    KeyAlgorithm.ED25519: 128,
    KeyAlgorithm.ED448: 224,
    KeyAlgorithm.ML_DSA_44: 128,
    KeyAlgorithm.ML_DSA_65: 192,
    KeyAlgorithm.ML_DSA_87: 256,
}
_SHORTEST_RSA = 2048


def signature(oid: str) -> tuple[str, str | None]:
    """Name of a signature algorithm, and what is wrong with it (None: nothing)."""
    name, broken = SIGNATURES.get(oid, (oid, False))
    return name, f"It is signed with {name}, which can be forged." if broken else None


def key(found: Any) -> tuple[str, int | None, list[str]]:
    """Name of a public or private key's algorithm, its bits of security where known, and what is wrong with it."""
    try:
        algorithm = key_algorithm_of(found)
    except InvalidInput:
        return _other_key(found)
    warnings = []
    public = found.public_key() if hasattr(found, "public_key") else found
    try:
        weak_keys.check_public_key(public)
    except InvalidInput as error:
        warnings.append(error.detail)
    if algorithm.retirement_note:
        warnings.append(f"{algorithm.value} has {algorithm.retirement_note}.")
    return algorithm.value, _BITS[algorithm], warnings


def _other_key(found: Any) -> tuple[str, int | None, list[str]]:
    if isinstance(found, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        weak = found.key_size < _SHORTEST_RSA
        text = f"An RSA key of {found.key_size} bits can be factored." if weak else "Its size is unusual."
        return f"rsa-{found.key_size}", None, [text]
    if isinstance(found, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"ec-{found.curve.name}", None, ["Few programs accept this curve; use P-256 or P-384."]
    if isinstance(found, dsa.DSAPublicKey | dsa.DSAPrivateKey):
        return "dsa", None, ["DSA is not accepted any more (FIPS 186-5)."]
    return type(found).__name__, None, ["The algorithm cannot be used for certificates here."]
