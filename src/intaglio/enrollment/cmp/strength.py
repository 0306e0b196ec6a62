"""Which keys, digests and signatures an endpoint takes, and their verification. Sources: RFC 9481, RFC 4055."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import RSASSA_PSS, KeyAlgorithm, PublicKey
from intaglio.asn1.cmp import Failure
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.options import CmpOptions, Curve, SignatureClass
from intaglio.x509 import weak_keys


class _Signature(NamedTuple):
    family: SignatureClass
    digest: str | None  # None where the algorithm signs the message itself


_SIGNATURES: Final[dict[str, _Signature]] = {
    "1.2.840.113549.1.1.5": _Signature("rsa", "sha1"),
    "1.2.840.113549.1.1.14": _Signature("rsa", "sha224"),
    "1.2.840.113549.1.1.11": _Signature("rsa", "sha256"),
    "1.2.840.113549.1.1.12": _Signature("rsa", "sha384"),
    "1.2.840.113549.1.1.13": _Signature("rsa", "sha512"),
    "1.2.840.10045.4.1": _Signature("ecdsa", "sha1"),
    "1.2.840.10045.4.3.1": _Signature("ecdsa", "sha224"),
    "1.2.840.10045.4.3.2": _Signature("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": _Signature("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": _Signature("ecdsa", "sha512"),
    "1.3.101.112": _Signature("eddsa", None),
    "1.3.101.113": _Signature("eddsa", None),
    "2.16.840.1.101.3.4.3.17": _Signature("ml-dsa", None),
    "2.16.840.1.101.3.4.3.18": _Signature("ml-dsa", None),
    "2.16.840.1.101.3.4.3.19": _Signature("ml-dsa", None),
}
_PSS_HASHES: Final[dict[str, tuple[str, hashes.HashAlgorithm]]] = {
    "2.16.840.1.101.3.4.2.1": ("sha256", hashes.SHA256()),
    "2.16.840.1.101.3.4.2.2": ("sha384", hashes.SHA384()),
    "2.16.840.1.101.3.4.2.3": ("sha512", hashes.SHA512()),
}
_MGF1: Final = "1.2.840.113549.1.1.8"
_LONGEST_SALT: Final = 64
_CURVES: Final[dict[KeyAlgorithm, tuple[Curve, int]]] = {
    KeyAlgorithm.ECDSA_P256: ("P-256", 256),
    KeyAlgorithm.ECDSA_P384: ("P-384", 384),
    KeyAlgorithm.ECDSA_P521: ("P-521", 521),
}


def is_signature_algorithm(identifier: bytes) -> bool:
    """Whether an AlgorithmIdentifier is one of a signature that is known here."""
    oid = _oid(identifier)[0]
    return oid in _SIGNATURES or oid == RSASSA_PSS


def check_key(options: CmpOptions, spki: bytes) -> tuple[PublicKey, KeyAlgorithm]:
    """The public key in a SubjectPublicKeyInfo, if the endpoint certifies such keys.

    Raises CmpRefusal (badCertTemplate), InvalidInput (``key-algorithm-not-allowed``, ``weak-key`` ...).
    """
    key, algorithm = algorithms.load_public_key(spki)
    weak_keys.check_public_key(key)
    if _family(algorithm) not in options.signature_classes:
        raise _key_refused(f"Keys of the class {_family(algorithm)} are not certified here.")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < options.minimum_rsa_bits:
        raise _key_refused(f"The RSA key has {key.key_size} bits; {options.minimum_rsa_bits} are needed.")
    if algorithm in _CURVES:
        curve, bits = _CURVES[algorithm]
        if curve not in options.curves or bits < options.minimum_ec_bits:
            raise _key_refused(f"Keys on the curve {curve} are not certified here.")
    return key, algorithm


def verify_signature(options: CmpOptions, key: PublicKey, identifier: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature is valid under the key. Raises CmpRefusal (badAlg) for algorithms that are not admitted."""
    oid, parameters = _oid(identifier)
    if oid == RSASSA_PSS:
        return _verify_pss(options, key, parameters, signature, data)
    known = _SIGNATURES.get(oid)
    if known is None:
        raise CmpRefusal(Failure.BAD_ALG, f"The signature algorithm {oid} is not known here.")
    _require_admitted(options, known.family, known.digest)
    return algorithms.verify(key, oid, signature, data)


def _verify_pss(options: CmpOptions, key: PublicKey, parameters: bytes, signature: bytes, data: bytes) -> bool:
    """RSASSA-PSS with one hash for the message and the mask. Source: RFC 4055 section 3.1."""
    digest, hash_algorithm, salt = _read_pss(parameters)
    _require_admitted(options, "rsa", digest)
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    verifier: Any = key
    try:
        verifier.verify(signature, data, padding.PSS(padding.MGF1(hash_algorithm), salt), hash_algorithm)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read_pss(parameters: bytes) -> tuple[str, hashes.HashAlgorithm, int]:
    reader = der.Reader(parameters).enter()
    digest, mask, salt = reader.optional(0xA0), reader.optional(0xA1), reader.optional(0xA2)
    reader.optional(0xA3)
    reader.finish()
    if digest is None or mask is None or salt is None:
        raise CmpRefusal(Failure.BAD_ALG, "RSASSA-PSS with SHA-1, its default, is not accepted.")
    oid = _oid(digest.content)[0]
    generator, inner = _oid(mask.content)
    octets = der.decode_integer(der.read_tlv(salt.content, der.INTEGER).content)
    if oid not in _PSS_HASHES or generator != _MGF1 or _oid(inner)[0] != oid or not 0 <= octets <= _LONGEST_SALT:
        raise CmpRefusal(
            Failure.BAD_ALG, "These parameters of RSASSA-PSS are not accepted.", remedy="Use one SHA-2 digest for both."
        )
    name, algorithm = _PSS_HASHES[oid]
    return name, algorithm, octets


def _require_admitted(options: CmpOptions, family: SignatureClass, digest: str | None) -> None:
    if options.excludes("protection-strength"):
        return
    if family not in options.signature_classes:
        raise CmpRefusal(Failure.BAD_ALG, f"Signatures of the class {family} are not accepted here.")
    if digest is not None and digest not in options.digests:
        raise CmpRefusal(
            Failure.BAD_ALG, f"Signatures with {digest} are not accepted.", remedy=f"Use {', '.join(options.digests)}."
        )


def _family(algorithm: KeyAlgorithm) -> SignatureClass:
    for prefix, family in _FAMILIES:
        if algorithm.value.startswith(prefix):
            return family
    raise AssertionError(f"{algorithm} belongs to no class")


_FAMILIES: Final[tuple[tuple[str, SignatureClass], ...]] = (
    ("rsa-", "rsa"), ("ecdsa-", "ecdsa"), ("ed", "eddsa"), ("ml-dsa-", "ml-dsa"),
)  # fmt: skip


def _oid(identifier: bytes) -> tuple[str, bytes]:
    """Dotted type and parameters (empty when absent) of an AlgorithmIdentifier. Raises InvalidInput."""
    reader = der.Reader(identifier).enter()
    oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
    parameters = b"" if reader.at_end else reader.read().der
    reader.finish()
    return oid, parameters


def _key_refused(detail: str) -> CmpRefusal:
    return CmpRefusal(Failure.BAD_CERT_TEMPLATE, detail, remedy="Ask with another key.")
