"""Private key files: generated, encrypted as PKCS #8, and read in every form OpenSSL writes.

Sources: RFC 5958 (PKCS #8), RFC 8018 (its encryption), RFC 7468 (PEM), RFC 1421 (OpenSSL's traditional form).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from intaglio.asn1 import der
from intaglio.asn1.algorithms import PrivateKey, key_algorithm_of
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import pbe
from intaglio.mtls.toolkit.pbe import Described, Encryption
from intaglio.x509 import pem

MAX_KEY_OCTETS = 64 * 1024

Form = Literal["pem", "der"]

_ENCRYPTED, _PLAIN = "ENCRYPTED PRIVATE KEY", "PRIVATE KEY"
_TRADITIONAL = ("RSA PRIVATE KEY", "EC PRIVATE KEY")
LABELS = (_ENCRYPTED, _PLAIN, *_TRADITIONAL)
_TRADITIONAL_ENCRYPTION = b"Proc-Type: 4,ENCRYPTED"


@dataclass(frozen=True)
class KeyFile:
    """A private key file before it is opened.

    ``container`` is ``PKCS #8`` or ``traditional``; ``encryption`` says how it is encrypted, None when it is not.
    """

    container: str
    encryption: Described | None
    label: str = field(repr=False)
    der: bytes = field(repr=False)
    pem: bytes | None = field(repr=False)

    @property
    def encrypted(self) -> bool:
        return self.encryption is not None


def encode_key(
    key: PrivateKey,
    password: str | None,
    *,
    encryption: Encryption = Encryption.AES_256,
    iterations: int = pbe.DEFAULT_ITERATIONS,
    form: Form = "pem",
) -> bytes:
    """``key`` as PKCS #8: encrypted under ``password`` (PBES2), or plain when it is None.

    The structure is the one of ``openssl genpkey``. Raises InvalidInput (``password-missing``,
    ``iterations-out-of-range``).
    """
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if password is None:
        return _armoured(_PLAIN, plain, form)
    if not password:
        raise InvalidInput("The password is empty.", code="password-missing", target="password")
    identifier, ciphertext = pbe.encrypt(plain, password, encryption, iterations)
    return _armoured(_ENCRYPTED, der.sequence(identifier, der.octet_string(ciphertext)), form)


def look_at_key(data: bytes) -> KeyFile:
    """What kind of private key file ``data`` is, without opening it.

    Raises InvalidInput (``key-unreadable``) when it is none, when there are several keys, or above 64 KiB.
    """
    if len(data) > MAX_KEY_OCTETS:
        raise _unreadable(f"it is longer than {MAX_KEY_OCTETS} octets")
    try:
        return _look_at_pem(data) if b"-----BEGIN" in data else _look_at_der(data)
    except InvalidInput as error:
        raise error if error.code == "key-unreadable" else _unreadable(error.detail) from None


def read_key(data: bytes, password: str | None = None) -> PrivateKey:
    """The private key in ``data``, whose algorithm is one that may be used.

    Raises InvalidInput (``key-unreadable``, ``password-missing``, ``password-wrong``, ``key-algorithm-not-allowed``)
    and Refused (``encryption-unsupported``).
    """
    key = open_key(look_at_key(data), password)
    key_algorithm_of(key)
    return cast("PrivateKey", key)


def open_key(file: KeyFile, password: str | None) -> Any:
    """The key in ``file``, of any algorithm ``cryptography`` knows (to describe it). Raises as :func:`read_key`."""
    if not file.encrypted:
        return _loaded(file.der)
    if not password:
        raise InvalidInput(
            "The private key is encrypted; its password is needed.", code="password-missing", target="password"
        )
    if file.pem is not None:
        return _loaded_traditional(file.pem, password)
    return decrypt_pkcs8(file.der, password)


def decrypt_pkcs8(encrypted: bytes, password: str) -> Any:
    """The key in a DER EncryptedPrivateKeyInfo. Raises InvalidInput, Refused as :func:`read_key`."""
    identifier, ciphertext = _encrypted_parts(encrypted)
    plain = pbe.decrypt(identifier, ciphertext, password)
    try:
        return _loaded(plain)
    except InvalidInput:
        # One wrong password in 256 leaves padding that looks right.
        raise pbe.wrong_password() from None


def _look_at_pem(data: bytes) -> KeyFile:
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in data:
        raise _unreadable("it is in OpenSSH's own form", "Convert it with: ssh-keygen -p -m PKCS8 -f FILE")
    if _TRADITIONAL_ENCRYPTION in data:
        described = Described("traditional PEM encryption", _traditional_cipher(data), "MD5, one round", 1)
        return KeyFile("traditional", described, "", b"", data)
    found = pem.blocks(data, LABELS, limit=2)
    if len(found) != 1:
        raise _unreadable(f"there are {len(found) or 'no'} private keys in it")
    label, content = found[0]
    if label == _ENCRYPTED:
        return KeyFile("PKCS #8", pbe.describe(_encrypted_parts(content)[0]), label, content, None)
    return KeyFile("traditional" if label in _TRADITIONAL else "PKCS #8", None, label, content, None)


def _look_at_der(data: bytes) -> KeyFile:
    outer = der.Reader(data)
    content = outer.enter()
    outer.finish()
    if content.peek() == der.SEQUENCE:
        return KeyFile("PKCS #8", pbe.describe(_encrypted_parts(data)[0]), _ENCRYPTED, data, None)
    if der.decode_integer(content.read(der.INTEGER).content) not in (0, 1):
        raise _unreadable("its version is unknown")
    if content.peek() == der.SEQUENCE:
        return KeyFile("PKCS #8", None, _PLAIN, data, None)
    return KeyFile("traditional", None, _TRADITIONAL[content.peek() == der.OCTET_STRING], data, None)


def _encrypted_parts(data: bytes) -> tuple[bytes, bytes]:
    outer = der.Reader(data)
    content = outer.enter()
    outer.finish()
    identifier, ciphertext = content.read(der.SEQUENCE).der, content.read(der.OCTET_STRING).content
    content.finish()
    return identifier, ciphertext


def _loaded(data: bytes) -> Any:
    try:
        return load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable("the key inside is malformed or of an unknown algorithm") from None


def _loaded_traditional(data: bytes, password: str) -> Any:
    try:
        return load_pem_private_key(data, password.encode())
    except ValueError:
        raise pbe.wrong_password() from None
    except (TypeError, UnsupportedAlgorithm):
        raise pbe.unsupported("a cipher of the traditional PEM encryption") from None


def _traditional_cipher(data: bytes) -> str:
    _, _, rest = data.partition(b"DEK-Info:")
    return rest[:64].split(b",")[0].strip().decode("ascii", "replace") or "unknown"


def _armoured(label: str, data: bytes, form: Form) -> bytes:
    return data if form == "der" else pem.encode(label, data).encode()


def _unreadable(why: str, remedy: str | None = None) -> InvalidInput:
    return InvalidInput(
        f"The private key cannot be read: {why.rstrip('.')}.",
        code="key-unreadable",
        remedy=remedy or "Give one private key in PEM or DER, as openssl genpkey writes it.",
    )
