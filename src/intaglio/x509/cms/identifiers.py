"""Object identifiers of CMS, and the digests and ciphers that are known here. Sources: RFC 3370, RFC 5652, RFC 5754."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from intaglio.asn1 import der

DATA: Final = "1.2.840.113549.1.7.1"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"

CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"

RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
RSAES_OAEP: Final = "1.2.840.113549.1.1.7"

DigestName = Literal["md5", "sha1", "sha256", "sha384", "sha512"]
CipherName = Literal["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "3des-cbc", "des-cbc"]

#: Digests that signatures are trusted under.
SHA_2: Final[frozenset[DigestName]] = frozenset({"sha256", "sha384", "sha512"})
#: Ciphers that keep a secret.
AES_CBC: Final[frozenset[CipherName]] = frozenset({"aes-128-cbc", "aes-192-cbc", "aes-256-cbc"})

DIGEST_OIDS: Final[dict[DigestName, str]] = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
DIGEST_NAMES: Final[dict[str, DigestName]] = {oid: name for name, oid in DIGEST_OIDS.items()}

#: MD5 has no entry: it can be named in a refusal, and never computed.
HASHES: Final[dict[DigestName, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - only where a policy asks for it by name
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True)
class Cipher:
    """A content encryption algorithm in CBC mode; lengths in octets."""

    name: CipherName
    oid: str
    key_octets: int
    block_octets: int
    algorithm: type[AES] | type[TripleDES]

    def keyed(self, key: bytes) -> AES | TripleDES:
        """The block cipher with a key; DES is Triple DES with three equal keys."""
        return self.algorithm(key * 3 if self.name == "des-cbc" else key)


CIPHERS: Final[dict[CipherName, Cipher]] = {
    cipher.name: cipher
    for cipher in (
        Cipher("aes-128-cbc", "2.16.840.1.101.3.4.1.2", 16, 16, AES),
        Cipher("aes-192-cbc", "2.16.840.1.101.3.4.1.22", 24, 16, AES),
        Cipher("aes-256-cbc", "2.16.840.1.101.3.4.1.42", 32, 16, AES),
        Cipher("3des-cbc", "1.2.840.113549.3.7", 24, 8, TripleDES),
        Cipher("des-cbc", "1.3.14.3.2.7", 8, 8, TripleDES),
    )
}
CIPHERS_BY_OID: Final[dict[str, Cipher]] = {cipher.oid: cipher for cipher in CIPHERS.values()}


def content_info(content_type: str, content: bytes) -> bytes:
    """ContentInfo around a finished structure. Source: RFC 5652 section 3."""
    return der.sequence(der.oid(content_type), der.explicit(0, content))


def attribute(oid: str, *values: bytes) -> bytes:
    """Attribute with finished values."""
    return der.sequence(der.oid(oid), der.set_of(*values))
