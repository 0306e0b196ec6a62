"""Password-based encryption of private keys and PKCS #12 content.

Written here because ``cryptography`` writes no AES-128 and lets nobody choose the iterations of a PKCS #12; the ciphers
and PBKDF2 themselves are its own. Sources: RFC 8018 (PBES2, PBKDF2), RFC 7914 section 7 (scrypt), RFC 7292 appendix B
(PKCS #12 key derivation) and appendix C (its encryption schemes).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, Refused

#: Rounds of PBKDF2 for what is written here, unless told otherwise.
DEFAULT_ITERATIONS = 100_000
FEWEST_ITERATIONS, MOST_ITERATIONS = 1_000, 5_000_000
#: The derivation of RFC 7292 runs in Python, half a microsecond a round and nobody else running meanwhile.
MOST_PKCS12_ITERATIONS = 1_000_000
_MOST_SCRYPT_WORK = 1 << 18  # N * r * p, which takes 32 MiB; OpenSSL writes 16384 * 8 * 1
_SALT_OCTETS = 16

PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_PKCS12_3DES = "1.2.840.113549.1.12.1.3"
_PKCS12_2KEY_3DES = "1.2.840.113549.1.12.1.4"


class Encryption(StrEnum):
    """How something is encrypted; the value is the name used on the command line and in the API."""

    AES_256 = "aes-256"
    AES_128 = "aes-128"
    TRIPLE_DES = "3des"


@dataclass(frozen=True)
class Described:
    """What an AlgorithmIdentifier of password-based encryption says, in words; ``iterations`` is None for scrypt."""

    scheme: str
    cipher: str
    prf: str
    iterations: int | None


def encrypt(plaintext: bytes, password: str, encryption: Encryption, iterations: int) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier (PBES2, PBKDF2 with HMAC-SHA-256, CBC) and ciphertext of ``plaintext``.

    Raises InvalidInput (``iterations-out-of-range``).
    """
    check_iterations(iterations)
    scheme = _CIPHERS[_PBES2_CIPHER[encryption]]
    salt, iv = secrets.token_bytes(_SALT_OCTETS), secrets.token_bytes(scheme.block_octets)
    key = _pbkdf2(hashes.SHA256(), password.encode(), salt, iterations, scheme.key_octets)
    derivation = der.sequence(
        der.octet_string(salt), der.integer(iterations), der.sequence(der.oid(_HMAC_SHA256), der.null())
    )
    parameters = der.sequence(
        der.sequence(der.oid(_PBKDF2), derivation),
        der.sequence(der.oid(_PBES2_CIPHER[encryption]), der.octet_string(iv)),
    )
    return der.sequence(der.oid(PBES2), parameters), _cbc_encrypt(scheme.cipher(key), iv, plaintext)


def encrypt_pkcs12_3des(plaintext: bytes, password: str, iterations: int) -> tuple[bytes, bytes]:
    """The same with pbeWithSHAAnd3-KeyTripleDES-CBC, which the oldest readers of PKCS #12 understand."""
    check_iterations(iterations)
    salt = secrets.token_bytes(8)
    parameters = der.sequence(der.octet_string(salt), der.integer(iterations))
    key, iv = _pkcs12_3des_key(password, salt, iterations, 24)
    return der.sequence(der.oid(_PKCS12_3DES), parameters), _cbc_encrypt(TripleDES(key), iv, plaintext)


def decrypt(identifier: bytes, ciphertext: bytes, password: str) -> bytes:
    """The plaintext of ``ciphertext`` under the DER AlgorithmIdentifier ``identifier``.

    Raises InvalidInput (``password-wrong``, ``encryption-unreadable``, ``iterations-out-of-range``) and Refused
    (``encryption-unsupported``) naming the algorithm.
    """
    oid, parameters = _split(identifier)
    if oid == PBES2:
        return _decrypt_pbes2(parameters, ciphertext, password)
    if oid in (_PKCS12_3DES, _PKCS12_2KEY_3DES):
        reader = der.Reader(parameters).enter()
        salt = reader.read(der.OCTET_STRING).content
        iterations = _bounded(der.decode_integer(reader.read(der.INTEGER).content))
        key, iv = _pkcs12_3des_key(password, salt, iterations, 24 if oid == _PKCS12_3DES else 16)
        return _cbc_decrypt(TripleDES(key if len(key) == 24 else key + key[:8]), iv, ciphertext)
    raise unsupported(_NAMES.get(oid, oid))


def describe(identifier: bytes) -> Described:
    """What the AlgorithmIdentifier says. Raises InvalidInput when it cannot be read."""
    oid, parameters = _split(identifier)
    if oid != PBES2:
        reader = der.Reader(parameters).enter()
        reader.read(der.OCTET_STRING)
        iterations = der.decode_integer(reader.read(der.INTEGER).content)
        scheme_name = "PKCS #12 PBE" if oid in _NAMES else "unknown"
        return Described(scheme_name, _NAMES.get(oid, oid), "PKCS #12 derivation with SHA-1", iterations)
    scheme = _read_pbes2(parameters)
    cipher = _CIPHERS[scheme.cipher_oid].name if scheme.cipher_oid in _CIPHERS else scheme.cipher_oid
    return Described("PBES2", cipher, scheme.prf_name, scheme.iterations)


def is_pkcs12_pbe(identifier: bytes) -> bool:
    """Whether the scheme is one of RFC 7292 appendix C (not PBES2)."""
    return _split(identifier)[0].startswith("1.2.840.113549.1.12.1.")


def check_iterations(iterations: int) -> int:
    """``iterations`` if it is within what is written and read here. Raises InvalidInput."""
    if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise InvalidInput(
            f"{iterations} iterations are not within {FEWEST_ITERATIONS} to {MOST_ITERATIONS}.",
            code="iterations-out-of-range",
            target="iterations",
        )
    return iterations


def unsupported(what: str) -> Refused:
    """The refusal of an encryption that is not understood here."""
    return Refused(
        f"The content is encrypted with {what}, which is not supported.",
        code="encryption-unsupported",
        remedy="Export it again with AES-256, AES-128 or triple DES.",
    )


def wrong_password() -> InvalidInput:
    """The refusal of a password that does not open what it should."""
    return InvalidInput(
        "The password is wrong.",
        code="password-wrong",
        remedy="Enter the password that this very file was written with; key and PKCS #12 may have different ones.",
        target="password",
    )


# ---- PKCS #12 key derivation -----------------------------------------------------------------------------------------

_KEY_MATERIAL, _IV_MATERIAL, _MAC_MATERIAL = 1, 2, 3


def pkcs12_mac_key(hash_name: str, password: str, salt: bytes, iterations: int) -> bytes:
    """Key of the integrity MAC of a PKCS #12 (RFC 7292 appendix B.4)."""
    length = hashlib.new(hash_name).digest_size
    return _pkcs12_derive(hash_name, _MAC_MATERIAL, password, salt, iterations, length)


def _pkcs12_3des_key(password: str, salt: bytes, iterations: int, length: int) -> tuple[bytes, bytes]:
    return (
        _pkcs12_derive("sha1", _KEY_MATERIAL, password, salt, iterations, length),
        _pkcs12_derive("sha1", _IV_MATERIAL, password, salt, iterations, 8),
    )


def _pkcs12_derive(hash_name: str, purpose: int, password: str, salt: bytes, iterations: int, length: int) -> bytes:
    """RFC 7292 appendix B.2; the names of its steps are those of the RFC (v, D, S, P, I, A, B).

    Raises InvalidInput (``iterations-out-of-range``).
    """
    _bounded(iterations, MOST_PKCS12_ITERATIONS)
    v = hashlib.new(hash_name).block_size
    diversifier = bytes((purpose,)) * v
    encoded = password.encode("utf-16-be", "surrogatepass") + b"\x00\x00"
    block = bytearray(_filled(salt, v) + _filled(encoded, v))
    made = b""
    while len(made) < length:
        a = hashlib.new(hash_name, diversifier + bytes(block)).digest()
        for _ in range(iterations - 1):
            a = hashlib.new(hash_name, a).digest()
        made += a
        b = int.from_bytes(_filled(a, v)[:v], "big") + 1
        for start in range(0, len(block), v):
            value = (int.from_bytes(block[start : start + v], "big") + b) % (1 << 8 * v)
            block[start : start + v] = value.to_bytes(v, "big")
    return made[:length]


def _filled(data: bytes, v: int) -> bytes:
    """``data`` repeated to the next multiple of ``v`` octets; nothing stays nothing."""
    length = v * -(-len(data) // v)
    return (data * (length // len(data) + 1))[:length] if data else b""


# ---- PBES2 -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pbes2:
    derive: Callable[[bytes, int], bytes]
    prf_name: str
    iterations: int | None
    cipher_oid: str
    iv: bytes


def _decrypt_pbes2(parameters: bytes, ciphertext: bytes, password: str) -> bytes:
    scheme = _read_pbes2(parameters)
    found = _CIPHERS.get(scheme.cipher_oid)
    if found is None:
        raise unsupported(f"the cipher {scheme.cipher_oid}")
    if scheme.iterations is not None:
        _bounded(scheme.iterations)
    if len(scheme.iv) != found.block_octets:
        raise _unreadable("its initialization vector has the wrong length")
    return _cbc_decrypt(found.cipher(scheme.derive(password.encode(), found.key_octets)), scheme.iv, ciphertext)


def _read_pbes2(parameters: bytes) -> _Pbes2:
    reader = der.Reader(parameters).enter()
    derivation = reader.enter()
    cipher = reader.enter()
    cipher_oid = der.decode_oid(cipher.read(der.OBJECT_IDENTIFIER).content)
    iv = cipher.read(der.OCTET_STRING).content if cipher.peek() == der.OCTET_STRING else b""
    function = der.decode_oid(derivation.read(der.OBJECT_IDENTIFIER).content)
    settings = derivation.enter()
    if function == _SCRYPT:
        return _read_scrypt(settings, cipher_oid, iv)
    if function != _PBKDF2:
        raise unsupported(f"the key derivation {function}")
    salt = settings.read(der.OCTET_STRING).content
    iterations = der.decode_integer(settings.read(der.INTEGER).content)
    settings.optional(der.INTEGER)
    prf = _HMAC_SHA1
    if (given := settings.optional(der.SEQUENCE)) is not None:
        prf = _split(given.der)[0]
    if prf not in _PRFS:
        raise unsupported(f"the pseudo-random function {prf}")
    name, algorithm = _PRFS[prf]
    return _Pbes2(
        lambda password, length: _pbkdf2(algorithm(), password, salt, iterations, length),
        f"PBKDF2 with {name}",
        iterations,
        cipher_oid,
        iv,
    )


def _read_scrypt(settings: der.Reader, cipher_oid: str, iv: bytes) -> _Pbes2:
    salt = settings.read(der.OCTET_STRING).content
    n, r, p = (der.decode_integer(settings.read(der.INTEGER).content) for _ in range(3))
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or n * r * p > _MOST_SCRYPT_WORK:
        raise _unreadable("its scrypt parameters are out of range")
    return _Pbes2(
        lambda password, length: Scrypt(salt, length, n, r, p).derive(password), "scrypt", None, cipher_oid, iv
    )


def _pbkdf2(algorithm: hashes.HashAlgorithm, password: bytes, salt: bytes, iterations: int, length: int) -> bytes:
    return PBKDF2HMAC(algorithm, length, salt, iterations).derive(password)


def _bounded(iterations: int, most: int = MOST_ITERATIONS) -> int:
    """What is read may have fewer rounds than what is written, but not so many that reading never ends."""
    if not 1 <= iterations <= most:
        raise InvalidInput(f"{iterations} iterations are not within 1 to {most}.", code="iterations-out-of-range")
    return iterations


# ---- ciphers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scheme:
    name: str
    cipher: Callable[[bytes], BlockCipherAlgorithm]
    key_octets: int
    block_octets: int


def _cbc_encrypt(algorithm: BlockCipherAlgorithm, iv: bytes, plaintext: bytes) -> bytes:
    padder = padding.PKCS7(algorithm.block_size).padder()
    encryptor = Cipher(algorithm, CBC(iv)).encryptor()
    return encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def _cbc_decrypt(algorithm: BlockCipherAlgorithm, iv: bytes, ciphertext: bytes) -> bytes:
    if not ciphertext or len(ciphertext) % (algorithm.block_size // 8):
        raise _unreadable("its length is not that of whole blocks")
    decryptor = Cipher(algorithm, CBC(iv)).decryptor()
    unpadder = padding.PKCS7(algorithm.block_size).unpadder()
    try:
        return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        raise wrong_password() from None


def _split(identifier: bytes) -> tuple[str, bytes]:
    """Dotted algorithm and DER parameters of an AlgorithmIdentifier."""
    reader = der.Reader(identifier).enter()
    oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
    return oid, b"" if reader.at_end else reader.read().der


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(f"The encrypted content cannot be read: {why}.", code="encryption-unreadable")


_HMAC_SHA1, _HMAC_SHA256 = "1.2.840.113549.2.7", "1.2.840.113549.2.9"
_PRFS: dict[str, tuple[str, Callable[[], hashes.HashAlgorithm]]] = {
    _HMAC_SHA1: ("HMAC-SHA-1", hashes.SHA1),
    "1.2.840.113549.2.8": ("HMAC-SHA-224", hashes.SHA224),
    _HMAC_SHA256: ("HMAC-SHA-256", hashes.SHA256),
    "1.2.840.113549.2.10": ("HMAC-SHA-384", hashes.SHA384),
    "1.2.840.113549.2.11": ("HMAC-SHA-512", hashes.SHA512),
}
_CIPHERS = {
    "2.16.840.1.101.3.4.1.2": _Scheme("AES-128-CBC", AES, 16, 16),
    "2.16.840.1.101.3.4.1.22": _Scheme("AES-192-CBC", AES, 24, 16),
    "2.16.840.1.101.3.4.1.42": _Scheme("AES-256-CBC", AES, 32, 16),
    "1.2.840.113549.3.7": _Scheme("DES-EDE3-CBC", TripleDES, 24, 8),
}
_PBES2_CIPHER = {
    Encryption.AES_256: "2.16.840.1.101.3.4.1.42",
    Encryption.AES_128: "2.16.840.1.101.3.4.1.2",
    Encryption.TRIPLE_DES: "1.2.840.113549.3.7",
}
_NAMES = {
    "1.2.840.113549.1.5.3": "pbeWithMD5AndDES-CBC",
    "1.2.840.113549.1.5.10": "pbeWithSHA1AndDES-CBC",
    "1.2.840.113549.1.12.1.1": "pbeWithSHAAnd128BitRC4",
    "1.2.840.113549.1.12.1.2": "pbeWithSHAAnd40BitRC4",
    _PKCS12_3DES: "pbeWithSHAAnd3-KeyTripleDES-CBC",
    _PKCS12_2KEY_3DES: "pbeWithSHAAnd2-KeyTripleDES-CBC",
    "1.2.840.113549.1.12.1.5": "pbeWithSHAAnd128BitRC2-CBC",
    "1.2.840.113549.1.12.1.6": "pbeWithSHAAnd40BitRC2-CBC",
}
