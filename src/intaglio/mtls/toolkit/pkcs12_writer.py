"""Writes PKCS #12 files with every choice that readers differ in. Source: RFC 7292."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import PrivateKey
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import pbe
from intaglio.mtls.toolkit.pbe import Encryption
from intaglio.x509.certificates import read_certificate

DATA = "1.2.840.113549.1.7.1"
ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2"
CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3"
X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
FRIENDLY_NAME = "1.2.840.113549.1.9.20"
LOCAL_KEY_ID = "1.2.840.113549.1.9.21"
MOST_CERTIFICATES = 100

#: Digest of the MAC -> its object identifier.
MAC_DIGESTS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


class Variant(StrEnum):
    """The three protections of a PKCS #12 file, by what they are made of.

    ``aes-256`` and ``aes-128``: PBES2 with an HMAC-SHA-256 MAC, for everything current. ``compatible``: triple DES and
    an HMAC-SHA-1 MAC (RFC 7292 appendix C), for macOS, iOS, Android 13, Windows Server 2016, Java 8 and their elders.
    """

    AES_256 = "aes-256"
    AES_128 = "aes-128"
    COMPATIBLE = "compatible"


@dataclass(frozen=True)
class Protection:
    """How a PKCS #12 is protected; iterations of the encryption and of the MAC separately."""

    variant: Variant = Variant.AES_256
    iterations: int = pbe.DEFAULT_ITERATIONS
    mac_iterations: int = pbe.DEFAULT_ITERATIONS

    @property
    def mac_digest(self) -> str:
        return "sha1" if self.variant is Variant.COMPATIBLE else "sha256"


def encode_pkcs12(
    key: PrivateKey,
    certificate_der: bytes,
    chain_ders: Sequence[bytes],
    password: str,
    *,
    friendly_name: str = "",
    protection: Protection = Protection(),
) -> bytes:
    """DER of a PKCS #12 file with a private key, its certificate and the chain.

    Raises InvalidInput: ``password-missing``, ``key-mismatch``, ``iterations-out-of-range``, ``too-many-certificates``.
    """
    if not password:
        raise InvalidInput("A PKCS #12 file needs a password.", code="password-missing", target="password")
    if algorithms.spki(key.public_key()) != read_certificate(certificate_der).spki:
        raise InvalidInput("The private key does not belong to the certificate.", code="key-mismatch")
    if len(chain_ders) >= MOST_CERTIFICATES:
        raise InvalidInput(f"A file has at most {MOST_CERTIFICATES} certificates.", code="too-many-certificates")
    encrypt = _encryption(password, protection)
    # The same local key id on both says which certificate is the key's; Windows and Java go by it.
    local_id = hashlib.sha256(certificate_der).digest()[:20]
    attributes = _attributes(friendly_name, local_id)
    bags = [_certificate_bag(certificate_der, attributes), *(_certificate_bag(each, b"") for each in chain_ders)]
    safe = der.sequence(
        _encrypted_content(encrypt, der.sequence(*bags)),
        _content(der.sequence(_key_bag(encrypt, key, attributes))),
    )
    return der.sequence(der.integer(3), _content(safe), _mac(safe, password, protection))


_Encrypt = Callable[[bytes], tuple[bytes, bytes]]


def _encryption(password: str, protection: Protection) -> _Encrypt:
    if protection.variant is Variant.COMPATIBLE:
        return lambda plain: pbe.encrypt_pkcs12_3des(plain, password, protection.iterations)
    cipher = Encryption(protection.variant.value)
    return lambda plain: pbe.encrypt(plain, password, cipher, protection.iterations)


def _content(data: bytes) -> bytes:
    return der.sequence(der.oid(DATA), der.explicit(0, der.octet_string(data)))


def _encrypted_content(encrypt: _Encrypt, plain: bytes) -> bytes:
    identifier, ciphertext = encrypt(plain)
    encrypted = der.sequence(der.oid(DATA), identifier, der.implicit(0, ciphertext))
    return der.sequence(der.oid(ENCRYPTED_DATA), der.explicit(0, der.sequence(der.integer(0), encrypted)))


def _key_bag(encrypt: _Encrypt, key: PrivateKey, attributes: bytes) -> bytes:
    identifier, ciphertext = encrypt(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    shrouded = der.sequence(identifier, der.octet_string(ciphertext))
    return der.sequence(der.oid(SHROUDED_KEY_BAG), der.explicit(0, shrouded), attributes)


def _certificate_bag(certificate_der: bytes, attributes: bytes) -> bytes:
    value = der.sequence(der.oid(X509_CERTIFICATE), der.explicit(0, der.octet_string(certificate_der)))
    return der.sequence(der.oid(CERTIFICATE_BAG), der.explicit(0, value), attributes)


def _attributes(friendly_name: str, local_id: bytes) -> bytes:
    found = [der.sequence(der.oid(LOCAL_KEY_ID), der.set_of(der.octet_string(local_id)))]
    if friendly_name:
        text = der.tlv(der.BMP_STRING, friendly_name[:256].encode("utf-16-be", "surrogatepass"))
        found.append(der.sequence(der.oid(FRIENDLY_NAME), der.set_of(text)))
    return der.set_of(*found)


def _mac(content: bytes, password: str, protection: Protection) -> bytes:
    name, iterations = protection.mac_digest, pbe.check_iterations(protection.mac_iterations)
    salt = secrets.token_bytes(hashlib.new(name).digest_size)
    key = pbe.pkcs12_mac_key(name, password, salt, iterations)
    digest = hmac.new(key, content, name).digest()
    info = der.sequence(der.sequence(der.oid(MAC_DIGESTS[name]), der.null()), der.octet_string(digest))
    return der.sequence(info, der.octet_string(salt), der.integer(iterations))
