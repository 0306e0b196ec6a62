"""Certificate requests that no ordinary tool makes, put together octet by octet and properly signed all the same."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from intaglio.asn1 import der

_COMMON_NAME = "2.5.4.3"
_SAN = "2.5.29.17"
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_RSA_SHA256 = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@dataclass(frozen=True)
class RsaKey:
    """A textbook RSA key that may be as weak as it likes."""

    p: int
    q: int
    e: int

    @property
    def spki(self) -> bytes:
        key = der.sequence(der.integer(self.p * self.q), der.integer(self.e))
        algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
        return der.sequence(algorithm, der.bit_string(key))

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256. Source: RFC 8017 section 8.2.1."""
        modulus = self.p * self.q
        size = (modulus.bit_length() + 7) // 8
        info = _SHA256_INFO + hashlib.sha256(data).digest()
        padded = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
        private = pow(self.e, -1, math.lcm(self.p - 1, self.q - 1))
        return pow(int.from_bytes(padded), private, modulus).to_bytes(size)


_EC_KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())


def request(
    *,
    name: bytes | None = None,
    names: Sequence[bytes] = (b"\x82\x0bwww.example",),
    extensions: Sequence[bytes] | None = None,
    version: bytes | None = None,
    key: RsaKey | None = None,
    signature: bytes | None = None,
) -> bytes:
    """A PKCS #10 request (RFC 2986 section 4) in DER.

    ``name`` is the value of the CN as TLV, ``names`` are GeneralNames, ``extensions`` Extension TLVs instead of them,
    ``version`` the TLV of the version; ``signature`` replaces the true one.
    """
    common_name = der.sequence(der.oid(_COMMON_NAME), der.utf8_string("www.example") if name is None else name)
    wanted = [san(names)] if extensions is None else list(extensions)
    attribute = der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(der.sequence(*wanted)))
    spki = key.spki if key else _EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = der.sequence(
        der.integer(0) if version is None else version,
        der.sequence(der.set_of(common_name)),
        spki,
        der.tlv(0xA0, attribute),
    )
    if signature is None:
        signature = key.sign(info) if key else _EC_KEY.sign(info, ec.ECDSA(hashes.SHA256()))
    return der.sequence(info, _RSA_SHA256 if key else _ECDSA_SHA256, der.bit_string(signature))


def san(names: Sequence[bytes]) -> bytes:
    """A subjectAltName extension."""
    return extension(_SAN, der.sequence(*names))


def extension(dotted: str, value: bytes) -> bytes:
    return der.sequence(der.oid(dotted), der.octet_string(value))


def weak_rsa_keys() -> dict[str, RsaKey]:
    """RSA keys that others can break or that are too small, by weakness."""
    chance = random.Random(20)
    p, q = (_prime(chance, 1024, 3) for _ in range(2))
    close = _next_prime(p)
    return {
        "1024 bits": RsaKey(_prime(chance, 512, 65537), _prime(chance, 512, 65537), 65537),
        "exponent 1": RsaKey(p, q, 1),
        "exponent 3": RsaKey(p, q, 3),
        "close primes": RsaKey(p, close, 65537),
        "ROCA": RsaKey(_roca_prime(chance), _roca_prime(chance), 65537),
    }


def _prime(chance: random.Random, bits: int, exponent: int) -> int:
    while True:
        found = chance.getrandbits(bits) | 3 << bits - 2 | 1
        if _is_prime(found) and math.gcd(found - 1, exponent) == 1:
            return found


def _next_prime(number: int) -> int:
    number += 2
    while not (_is_prime(number) and math.gcd(number - 1, 65537) == 1):
        number += 2
    return number


def _roca_prime(chance: random.Random) -> int:
    """k * M + 65537^a mod M, as the library of CVE-2017-15361 makes them."""
    primorial = math.prod(n for n in range(2, 702) if all(n % d for d in range(2, math.isqrt(n) + 1)))
    while True:
        bits = 1024 - primorial.bit_length()
        found = (chance.getrandbits(bits) | 3 << bits - 2) * primorial + pow(65537, chance.getrandbits(64), primorial)
        if found.bit_length() == 1024 and _is_prime(found):
            return found


def _is_prime(number: int) -> bool:
    return all(number % n for n in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) and pow(2, number - 1, number) == 1
