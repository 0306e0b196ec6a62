"""Which mechanisms sign with which key, and in which form a token wants and gives what is signed.

What is signed is hashed here, so that a large CRL does not travel to the token; a token that cannot sign a hash gets
the data. Sources: PKCS #11 current mechanisms 2.40 sections 2.1 (RSA), 2.3 (ECDSA), version 3.0 section 2.3.14 (EdDSA);
RFC 8017 section 9.2 (DigestInfo); RFC 3279 section 2.2.3 (Ecdsa-Sig-Value).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import (
    PSS,
    AsymmetricPadding,
    PKCS1v15,
    calculate_max_pss_salt_length,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from pkcs11 import MGF, KeyType, Mechanism

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput, NotSupported, Unavailable

#: Private keys a token can be asked for: what generates them, key type, and bits or curve (DER of the parameters).
_NIST = {"ecdsa-p256": "1.2.840.10045.3.1.7", "ecdsa-p384": "1.3.132.0.34", "ecdsa-p521": "1.3.132.0.35"}
#: edwards25519 as a PrintableString (PKCS #11 3.0) and as an object identifier (RFC 8410): libraries differ.
EDWARDS_PARAMETERS = (der.tlv(0x13, b"edwards25519"), der.oid("1.3.101.112"))


@dataclass(frozen=True)
class Kind:
    """How a token makes and uses keys of an algorithm. ``sizes`` is in bits."""

    key_type: KeyType
    generate: Mechanism
    sign: Mechanism
    bits: int
    parameters: tuple[bytes, ...] = ()


KINDS: dict[KeyAlgorithm, Kind] = {
    **{
        algorithm: Kind(KeyType.RSA, Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.RSA_PKCS, bits)
        for algorithm, bits in (
            (KeyAlgorithm.RSA_2048, 2048), (KeyAlgorithm.RSA_3072, 3072), (KeyAlgorithm.RSA_4096, 4096),
        )
    },
    **{
        algorithm: Kind(
            KeyType.EC, Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA, bits, (der.oid(_NIST[algorithm.value]),)
        )
        for algorithm, bits in (
            (KeyAlgorithm.ECDSA_P256, 256), (KeyAlgorithm.ECDSA_P384, 384), (KeyAlgorithm.ECDSA_P521, 521),
        )
    },
    KeyAlgorithm.ED25519: Kind(
        KeyType.EC_EDWARDS, Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA, 255, EDWARDS_PARAMETERS
    ),
}  # fmt: skip


def kind_of(algorithm: KeyAlgorithm) -> Kind:
    """Raises NotSupported (``key-algorithm-not-in-tokens``) for what PKCS #11 tokens do not have."""
    if algorithm not in KINDS:
        raise NotSupported(
            f"Tokens have no keys of the type {algorithm.value}.",
            code="key-algorithm-not-in-tokens",
            remedy=f"Use one of: {', '.join(KINDS)}.",
            target="key_algorithm",
        )
    return KINDS[algorithm]


class Order(NamedTuple):
    """What a token is asked to sign: with which mechanism, which octets, and with PSS hash, mask and salt length."""

    mechanism: Mechanism
    data: bytes
    pss: tuple[int, int, int] | None = None


_WITH_HASH_RSA = {
    "sha256": Mechanism.SHA256_RSA_PKCS, "sha384": Mechanism.SHA384_RSA_PKCS, "sha512": Mechanism.SHA512_RSA_PKCS,
}  # fmt: skip
_WITH_HASH_ECDSA = {
    "sha256": Mechanism.ECDSA_SHA256, "sha384": Mechanism.ECDSA_SHA384, "sha512": Mechanism.ECDSA_SHA512,
}  # fmt: skip
_HASHES = {
    "sha256": (Mechanism.SHA256, MGF.SHA256, "2.16.840.1.101.3.4.2.1"),
    "sha384": (Mechanism.SHA384, MGF.SHA384, "2.16.840.1.101.3.4.2.2"),
    "sha512": (Mechanism.SHA512, MGF.SHA512, "2.16.840.1.101.3.4.2.3"),
}

#: RSA without padding.
RAW_RSA = int(Mechanism.RSA_X_509)
_ECDSA, _RSA_PKCS = int(Mechanism.ECDSA), int(Mechanism.RSA_PKCS)
_HASHERS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}

Hash = hashes.HashAlgorithm | Prehashed


def ecdsa(data: bytes, algorithm: Hash, able: Collection[int]) -> Order:
    """An ECDSA signature (raw r and s) over ``data``, or over the hash that it is. ``able`` are the token's
    mechanisms, empty where that is not known."""
    if able and _ECDSA not in able and not isinstance(algorithm, Prehashed):
        return Order(_found(_WITH_HASH_ECDSA, algorithm.name), data)
    return Order(Mechanism.ECDSA, _digest(data, algorithm))


def rsa(data: bytes, padding: AsymmetricPadding, algorithm: Hash, key: RSAPublicKey, able: Collection[int]) -> Order:
    """An RSASSA-PKCS1-v1_5 or RSASSA-PSS signature. Raises NotSupported for other paddings and hashes."""
    name = _hash_name(algorithm)
    if isinstance(padding, PKCS1v15):
        if able and _RSA_PKCS not in able and not isinstance(algorithm, Prehashed):
            return Order(_found(_WITH_HASH_RSA, name), data)
        return Order(Mechanism.RSA_PKCS, digest_info(name, _digest(data, algorithm)))
    if isinstance(padding, PSS):
        mechanism, mask, _ = _found(_HASHES, name)
        length = _salt_length(padding, key, algorithm)
        return Order(Mechanism.RSA_PKCS_PSS, _digest(data, algorithm), (mechanism, mask, length))
    raise NotSupported("Tokens sign with PKCS #1 v1.5 and PSS padding only.", code="token-not-capable")


def unpadded(block: bytes, size: int) -> bytes | None:
    """What is in a block padded as PKCS #1 v1.5 has it, None when it is not; ``size`` is that of the modulus.

    The padding is taken off here: SoftHSM and others answer a wrong one as if the whole token had failed, and anybody
    can send us such a block. Source: RFC 8017 section 7.2.2.
    """
    block = block.rjust(size, b"\0")
    end = block.find(b"\0", 2)
    good = len(block) == size and block[:2] == b"\0\x02" and end >= 10
    return block[end + 1 :] if good else None


def digest_info(name: str, digest: bytes) -> bytes:
    """What RSASSA-PKCS1-v1_5 pads. Source: RFC 8017 section 9.2."""
    identifier = der.sequence(der.oid(_found(_HASHES, name)[2]), der.null())
    return der.sequence(identifier, der.octet_string(digest))


def ecdsa_to_der(raw: bytes, bits: int) -> bytes:
    """Ecdsa-Sig-Value of r and s as a token gives them: of equal length, together twice that of the curve's order.

    Raises Unavailable (``token-answer-wrong``) for anything else.
    """
    half, odd = divmod(len(raw), 2)
    if odd or not 0 < half <= (bits + 7) // 8:
        raise Unavailable(f"The token gave an ECDSA signature of {len(raw)} octets.", code="token-answer-wrong")
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def ecdsa_from_der(signature: bytes, bits: int) -> bytes:
    """The opposite: r and s, each as long as the curve's order. Raises InvalidInput for what is no such signature."""
    size = (bits + 7) // 8
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(size) + s.to_bytes(size)
    except (ValueError, OverflowError):
        raise InvalidInput("This is not an ECDSA signature of that curve.", code="signature-malformed") from None


def _digest(data: bytes, algorithm: Hash) -> bytes:
    if isinstance(algorithm, Prehashed):
        if len(data) != algorithm.digest_size:
            raise ValueError("the data is not a digest of the named algorithm")
        return data
    hasher = _HASHERS.get(algorithm.name)
    return hasher(data).digest() if hasher is not None else hashlib.new(algorithm.name, data).digest()


def _hash_name(algorithm: Hash) -> str:
    if isinstance(algorithm, Prehashed):
        return str(algorithm._algorithm.name)
    return algorithm.name


def _salt_length(padding: PSS, key: RSAPublicKey, algorithm: Hash) -> int:
    wanted = padding._salt_length
    if isinstance(wanted, int):
        return wanted
    plain = algorithm._algorithm if isinstance(algorithm, Prehashed) else algorithm
    return plain.digest_size if wanted is PSS.DIGEST_LENGTH else calculate_max_pss_salt_length(key, plain)


def _found(table: dict[str, Any], name: str) -> Any:
    if name not in table:
        raise NotSupported(f"Tokens are not asked for signatures with {name}.", code="token-not-capable")
    return table[name]
