"""The key and signature algorithms Intaglio works with: names, identifiers, key generation, signing, verification.

The signature algorithm always follows from the key. Sources: RFC 3279 and 4055 (RSA), RFC 5480 and 5758 (ECDSA),
RFC 8410 (EdDSA), RFC 9881 (ML-DSA), RFC 7093 (key identifiers), NIST IR 8547 (retirement dates).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)

RSA_PUBLIC_EXPONENT = 65537


class KeyAlgorithm(StrEnum):
    """A key type with its parameters; the value is the stable name used in APIs, files and the database."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ECDSA_P521 = "ecdsa-p521"
    ED25519 = "ed25519"
    ED448 = "ed448"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"
    ML_DSA_87 = "ml-dsa-87"

    @classmethod
    def parse(cls, text: str) -> KeyAlgorithm:
        """The algorithm a person means: ``P-256``, ``EC-P-256``, ``prime256v1``, ``RSA 2048``, ``mldsa65`` ...

        Raises InvalidInput (``key-algorithm-unknown``) listing the names.
        """
        found = _ALIASES.get(re.sub(r"[\s_.:/-]", "", text[:64]).lower())
        if found is None:
            raise InvalidInput(
                f'"{text[:64]}" is not a key algorithm.',
                code="key-algorithm-unknown",
                remedy=f"Use one of: {', '.join(cls)}.",
            )
        return found

    @property
    def signature_name(self) -> str:
        """Name of the signature algorithm such a key signs with."""
        return _SPECIFICATIONS[self].signature_name

    @property
    def signature_oid(self) -> str:
        """Dotted OID of the signature algorithm such a key signs with."""
        return _SPECIFICATIONS[self].signature_oid

    @property
    def signature_identifier(self) -> bytes:
        """DER AlgorithmIdentifier of the signatures such a key makes; parameters NULL for RSA, else absent."""
        return _SPECIFICATIONS[self].signature_identifier

    @property
    def hash_name(self) -> str | None:
        """Hash applied before signing (``sha256``), None where the algorithm signs the message itself."""
        return _SPECIFICATIONS[self].hash_name

    @property
    def retirement_note(self) -> str | None:
        """What NIST IR 8547 plans for keys below 128 bits of security, None for the others."""
        return _RETIREMENT if self is KeyAlgorithm.RSA_2048 else None

    @property
    def slow(self) -> bool:
        """Whether signing takes long enough (over about a millisecond) to belong in a thread."""
        return self in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)


def generate_private_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """A fresh private key from the operating system's randomness. RSA keys have the public exponent 65537."""
    return _SPECIFICATIONS[algorithm].generate()


def load_public_key(spki_der: bytes) -> tuple[PublicKey, KeyAlgorithm]:
    """Key and algorithm of a DER SubjectPublicKeyInfo.

    Raises InvalidInput: ``key-algorithm-not-allowed`` for any algorithm, curve, size, point compression or parameter
    encoding other than those of :class:`KeyAlgorithm`, ``invalid-public-key`` when the key itself is malformed.
    """
    algorithm, bits = _split_spki(spki_der)
    family = _SPKI_IDENTIFIERS.get(algorithm)
    if family is None:
        raise key_algorithm_not_allowed(_describe_identifier(algorithm))
    if family == "EC" and bits[:1] != b"\x04":
        raise key_algorithm_not_allowed("a compressed elliptic curve point")
    try:
        key = load_der_public_key(spki_der)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput("The public key is malformed.", code="invalid-public-key") from None
    return key, key_algorithm_of(key)  # type: ignore[return-value]


def key_algorithm_of(key: object) -> KeyAlgorithm:
    """Algorithm of a public or private key. Raises InvalidInput (``key-algorithm-not-allowed``) for any other."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        found, what = _BY_CURVE.get(key.curve.name), f"EC {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        found, what = _BY_RSA_BITS.get(key.key_size), f"RSA {key.key_size}"
    else:
        found = next((algorithm for types, algorithm in _BY_TYPE if isinstance(key, types)), None)
        what = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
    if found is None:
        raise key_algorithm_not_allowed(what)
    return found


def key_algorithm_not_allowed(what: str) -> InvalidInput:
    """The refusal of a key whose algorithm is not one of ours; ``what`` names it."""
    return InvalidInput(
        f"The key is of an algorithm that is not allowed: {what}.",
        code="key-algorithm-not-allowed",
        remedy=f"Use one of: {', '.join(KeyAlgorithm)}.",
    )


def sign(private_key: PrivateKey, data: bytes) -> bytes:
    """Signature over ``data`` with the algorithm that belongs to the key (``KeyAlgorithm.signature_identifier``).

    The DER Ecdsa-Sig-Value for ECDSA, PKCS #1 v1.5 for RSA, the raw signature otherwise. Raises InvalidInput
    (``key-algorithm-not-allowed``).
    """
    return signing(private_key)(data)


def signing(private_key: PrivateKey) -> Callable[[bytes], bytes]:
    """:func:`sign` with the key and everything that follows from it settled once, for keys that sign often."""
    hash_algorithm = _SPECIFICATIONS[key_algorithm_of(private_key)].hash_algorithm
    if hash_algorithm is None:
        return private_key.sign  # type: ignore[return-value]
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        scheme, elliptic = ec.ECDSA(hash_algorithm), private_key.sign
        return lambda data: elliptic(data, scheme)
    padded, modular = padding.PKCS1v15(), private_key.sign
    return lambda data: modular(data, padded, hash_algorithm)  # type: ignore[call-arg]


def verify(public_key: PublicKey, signature_algorithm_oid: str, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is valid under the key and the dotted signature algorithm.

    False, too, when the algorithm does not fit the key or is not trusted any more (MD5, SHA-1, SHA-224). RSASSA-PSS
    needs parameters and is answered with False here.
    """
    scheme = _VERIFICATION.get(signature_algorithm_oid)
    if scheme is None or not isinstance(public_key, scheme[0]):
        return False
    hash_algorithm = scheme[1]
    key: Any = public_key
    try:
        if hash_algorithm is None:
            key.verify(signature, data)
        elif scheme[0] is ec.EllipticCurvePublicKey:
            key.verify(signature, data, ec.ECDSA(hash_algorithm))
        else:
            key.verify(signature, data, padding.PKCS1v15(), hash_algorithm)
    except InvalidSignature:
        return False
    return True


def spki(public_key: PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a public key."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(spki_der: bytes) -> bytes:
    """The 20-octet key identifier: leftmost 160 bits of SHA-256 over the contents of the subjectPublicKey BIT STRING.

    Source: RFC 7093 section 2 method 1. Raises InvalidInput when ``spki_der`` is not a SubjectPublicKeyInfo.
    """
    return hashlib.sha256(_split_spki(spki_der)[1]).digest()[:20]


def _split_spki(spki_der: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier TLV and subjectPublicKey octets."""
    tag, start, end = der.header(spki_der, 0, len(spki_der))
    first, _, middle = der.header(spki_der, start, end)
    second, bits, stop = der.header(spki_der, middle, end)
    if (tag, first, second) != (der.SEQUENCE, der.SEQUENCE, der.BIT_STRING) or stop != end or end != len(spki_der):
        raise der.not_der("a SubjectPublicKeyInfo is an AlgorithmIdentifier and a BIT STRING")
    if spki_der[bits:stop][:1] != b"\x00":
        raise der.not_der("a public key has unused bits")
    return spki_der[start:middle], spki_der[bits + 1 : stop]


def _describe_identifier(identifier: bytes) -> str:
    parts = der.children(der.read_tlv(identifier, der.SEQUENCE).content, 2)
    if not parts or any(part.tag != der.OBJECT_IDENTIFIER for part in parts[:1]):
        raise der.not_der("an AlgorithmIdentifier starts with an object identifier")
    oids = [der.decode_oid(part.content) for part in parts if part.tag == der.OBJECT_IDENTIFIER]
    return " ".join(_KEY_NAMES.get(oid, oid) for oid in oids)


# ---- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Specification:
    signature_name: str
    signature_oid: str
    hash_algorithm: hashes.HashAlgorithm | None
    generate: Callable[[], PrivateKey]
    signature_identifier: bytes

    @property
    def hash_name(self) -> str | None:
        return self.hash_algorithm.name if self.hash_algorithm else None


def _rsa(name: str, oid: str, hash_algorithm: hashes.HashAlgorithm, bits: int) -> _Specification:
    identifier = der.sequence(der.oid(oid), der.null())
    return _Specification(
        name, oid, hash_algorithm, lambda: rsa.generate_private_key(RSA_PUBLIC_EXPONENT, bits), identifier
    )


def _ecdsa(name: str, oid: str, hash_algorithm: hashes.HashAlgorithm, curve: ec.EllipticCurve) -> _Specification:
    return _Specification(
        name, oid, hash_algorithm, lambda: ec.generate_private_key(curve), der.sequence(der.oid(oid))
    )


def _plain(name: str, oid: str, generate: Callable[[], PrivateKey]) -> _Specification:
    return _Specification(name, oid, None, generate, der.sequence(der.oid(oid)))


_RETIREMENT = "112 bits of security: deprecated after 2030-12-31, disallowed after 2035-12-31 (NIST IR 8547)"

_SHA256_RSA = "1.2.840.113549.1.1.11"
_SHA384_RSA = "1.2.840.113549.1.1.12"
_SHA512_RSA = "1.2.840.113549.1.1.13"
_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_ECDSA_SHA384 = "1.2.840.10045.4.3.3"
_ECDSA_SHA512 = "1.2.840.10045.4.3.4"
_ED25519 = "1.3.101.112"
_ED448 = "1.3.101.113"
_ML_DSA_44 = "2.16.840.1.101.3.4.3.17"
_ML_DSA_65 = "2.16.840.1.101.3.4.3.18"
_ML_DSA_87 = "2.16.840.1.101.3.4.3.19"
#: Signature algorithm whose AlgorithmIdentifier carries hash and mask parameters (RFC 4055).
RSASSA_PSS = "1.2.840.113549.1.1.10"

_SPECIFICATIONS: dict[KeyAlgorithm, _Specification] = {
    KeyAlgorithm.RSA_2048: _rsa("sha256WithRSAEncryption", _SHA256_RSA, hashes.SHA256(), 2048),
    KeyAlgorithm.RSA_3072: _rsa("sha256WithRSAEncryption", _SHA256_RSA, hashes.SHA256(), 3072),
    KeyAlgorithm.RSA_4096: _rsa("sha512WithRSAEncryption", _SHA512_RSA, hashes.SHA512(), 4096),
    KeyAlgorithm.ECDSA_P256: _ecdsa("ecdsa-with-SHA256", _ECDSA_SHA256, hashes.SHA256(), ec.SECP256R1()),
    KeyAlgorithm.ECDSA_P384: _ecdsa("ecdsa-with-SHA384", _ECDSA_SHA384, hashes.SHA384(), ec.SECP384R1()),
    KeyAlgorithm.ECDSA_P521: _ecdsa("ecdsa-with-SHA512", _ECDSA_SHA512, hashes.SHA512(), ec.SECP521R1()),
    KeyAlgorithm.ED25519: _plain("Ed25519", _ED25519, ed25519.Ed25519PrivateKey.generate),
    KeyAlgorithm.ED448: _plain("Ed448", _ED448, ed448.Ed448PrivateKey.generate),
    KeyAlgorithm.ML_DSA_44: _plain("ML-DSA-44", _ML_DSA_44, mldsa.MLDSA44PrivateKey.generate),
    KeyAlgorithm.ML_DSA_65: _plain("ML-DSA-65", _ML_DSA_65, mldsa.MLDSA65PrivateKey.generate),
    KeyAlgorithm.ML_DSA_87: _plain("ML-DSA-87", _ML_DSA_87, mldsa.MLDSA87PrivateKey.generate),
}

_BY_CURVE = {
    "secp256r1": KeyAlgorithm.ECDSA_P256,
    "secp384r1": KeyAlgorithm.ECDSA_P384,
    "secp521r1": KeyAlgorithm.ECDSA_P521,
}
_BY_RSA_BITS = {2048: KeyAlgorithm.RSA_2048, 3072: KeyAlgorithm.RSA_3072, 4096: KeyAlgorithm.RSA_4096}
_BY_TYPE: tuple[tuple[tuple[type, type], KeyAlgorithm], ...] = (
    ((ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey), KeyAlgorithm.ED25519),
    ((ed448.Ed448PublicKey, ed448.Ed448PrivateKey), KeyAlgorithm.ED448),
    ((mldsa.MLDSA44PublicKey, mldsa.MLDSA44PrivateKey), KeyAlgorithm.ML_DSA_44),
    ((mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey), KeyAlgorithm.ML_DSA_65),
    ((mldsa.MLDSA87PublicKey, mldsa.MLDSA87PrivateKey), KeyAlgorithm.ML_DSA_87),
)

_VERIFICATION: dict[str, tuple[type, hashes.HashAlgorithm | None]] = {
    _SHA256_RSA: (rsa.RSAPublicKey, hashes.SHA256()),
    _SHA384_RSA: (rsa.RSAPublicKey, hashes.SHA384()),
    _SHA512_RSA: (rsa.RSAPublicKey, hashes.SHA512()),
    _ECDSA_SHA256: (ec.EllipticCurvePublicKey, hashes.SHA256()),
    _ECDSA_SHA384: (ec.EllipticCurvePublicKey, hashes.SHA384()),
    _ECDSA_SHA512: (ec.EllipticCurvePublicKey, hashes.SHA512()),
    _ED25519: (ed25519.Ed25519PublicKey, None),
    _ED448: (ed448.Ed448PublicKey, None),
    _ML_DSA_44: (mldsa.MLDSA44PublicKey, None),
    _ML_DSA_65: (mldsa.MLDSA65PublicKey, None),
    _ML_DSA_87: (mldsa.MLDSA87PublicKey, None),
}

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_CURVES = {"1.2.840.10045.3.1.7": "P-256", "1.3.132.0.34": "P-384", "1.3.132.0.35": "P-521"}
_SPKI_IDENTIFIERS: dict[bytes, str] = {
    der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null()): "RSA",
    **{der.sequence(der.oid(_EC_PUBLIC_KEY), der.oid(curve)): "EC" for curve in _CURVES},
    **{
        der.sequence(der.oid(oid)): "other"
        for oid in (_ED25519, _ED448, _ML_DSA_44, _ML_DSA_65, _ML_DSA_87)
    },
}
_KEY_NAMES = {
    "1.2.840.113549.1.1.1": "RSA without NULL parameters",
    RSASSA_PSS: "RSASSA-PSS only",
    "1.2.840.10040.4.1": "DSA",
    _EC_PUBLIC_KEY: "EC",
    "1.3.132.0.33": "P-224",
    "1.2.840.10045.3.1.1": "P-192",
    "1.3.132.0.10": "secp256k1",
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    **_CURVES,
}


def _aliases() -> dict[str, KeyAlgorithm]:
    """Every accepted spelling, lower case, without separators."""
    found = {algorithm.value.replace("-", ""): algorithm for algorithm in KeyAlgorithm}
    for curve, x962, algorithm in (
        ("256", "prime256v1", KeyAlgorithm.ECDSA_P256),
        ("384", "secp384r1", KeyAlgorithm.ECDSA_P384),
        ("521", "secp521r1", KeyAlgorithm.ECDSA_P521),
    ):
        for spelling in (f"p{curve}", f"ecp{curve}", f"ec{curve}", f"ecdsa{curve}", f"nistp{curve}", f"secp{curve}r1"):
            found[spelling] = algorithm
        found[x962] = algorithm
    for bits, algorithm in _BY_RSA_BITS.items():
        found[str(bits)] = algorithm
    return found


_ALIASES = _aliases()
