"""Reading and decrypting EnvelopedData: RSA key transport, ECDH key agreement. Sources: RFC 5652 (6), RFC 5753."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from intaglio.asn1 import der
from intaglio.asn1.algorithms import PrivateKey
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms import agreement
from intaglio.x509.cms import identifiers as ids
from intaglio.x509.cms.errors import not_allowed, undecryptable, wrong_recipient
from intaglio.x509.cms.identifiers import AES_CBC, Cipher, CipherName
from intaglio.x509.cms.signed import MAX_OCTETS, read_content, read_identifier
from intaglio.x509.names import Name

_MAX_RECIPIENTS: Final = 16
_MAX_PIECES: Final = 10_000


@dataclass(frozen=True)
class Recipient:
    """For whom the content key was encrypted. ``issuer`` and ``serial``, or ``key_identifier``, name his certificate.

    ``algorithm`` is the dotted key encryption (RSA) or key wrap algorithm; ``agreed`` is there for key agreement.
    """

    issuer: Name | None
    serial: bytes | None
    key_identifier: bytes | None
    algorithm: str
    parameters: bytes = field(repr=False)
    encrypted_key: bytes = field(repr=False)
    agreed: agreement.Agreement | None = None

    def names(self, certificate: CertificateInfo) -> bool:
        """Whether the key was encrypted for this certificate."""
        if self.issuer is not None:
            return self.issuer.key == certificate.issuer.key and self.serial == certificate.serial
        return self.key_identifier is not None and self.key_identifier == certificate.ski


@dataclass(frozen=True)
class EnvelopedData:
    """An encrypted message. ``cipher`` is None for an algorithm not known here, which stands in ``cipher_oid``."""

    recipients: tuple[Recipient, ...]
    cipher: Cipher | None
    cipher_oid: str
    vector: bytes = field(repr=False)
    encrypted: bytes = field(repr=False)

    def require_cipher(self, ciphers: Collection[CipherName]) -> None:
        """Raise InvalidInput (``cms-algorithm-not-allowed``) unless the content is encrypted by one of ``ciphers``."""
        if self.cipher is None or self.cipher.name not in ciphers:
            raise not_allowed(f"the cipher {self.cipher.name if self.cipher else self.cipher_oid}")

    def decrypt(
        self, key: PrivateKey, certificate: CertificateInfo, *, ciphers: Collection[CipherName] = AES_CBC
    ) -> bytes:
        """The content. Blocks for as long as the key takes (``Signer.using``).

        Whoever answers others must not let them tell ``cms-undecryptable`` from a content that makes no sense: CBC mode
        and PKCS #1 version 1.5 give secrets away to those who may ask often (RFC 3218, RFC 5652 section 14).

        Raises InvalidInput: ``cms-wrong-recipient``, ``cms-algorithm-not-allowed``, ``cms-undecryptable``; NotSupported
        for a key in a token that does not decrypt.
        """
        self.require_cipher(ciphers)
        recipient = next((each for each in self.recipients if each.names(certificate)), None)
        if recipient is None:
            raise wrong_recipient()
        assert self.cipher is not None
        return _open(self.cipher, _content_key(recipient, key, self.cipher), self.vector, self.encrypted)


def read_enveloped(data: bytes, *, max_octets: int = MAX_OCTETS) -> EnvelopedData:
    """A ContentInfo with EnvelopedData, in DER or BER.

    Raises TooLarge (``cms-too-large``), InvalidInput (``cms-unparsable``, ``cms-algorithm-not-allowed``).
    """
    return read_content(data, ids.ENVELOPED_DATA, max_octets, _read)


def _read(data: bytes) -> EnvelopedData:
    fields = der.Reader(data).enter()
    der.decode_integer(fields.read(der.INTEGER).content)
    fields.optional(0xA0)
    recipients = der.children(fields.read(der.SET).content, _MAX_RECIPIENTS)
    content = fields.enter()
    fields.optional(0xA1)
    fields.finish()
    content.read(der.OBJECT_IDENTIFIER)
    algorithm = content.enter()
    cipher_oid = der.decode_oid(algorithm.read(der.OBJECT_IDENTIFIER).content)
    vector = algorithm.optional(der.OCTET_STRING)
    encrypted = _encrypted(content)
    content.finish()
    found = [recipient for each in recipients for recipient in _read_recipients(each)]
    return EnvelopedData(
        tuple(found), ids.CIPHERS_BY_OID.get(cipher_oid), cipher_oid, vector.content if vector else b"", encrypted
    )


def _encrypted(content: der.Reader) -> bytes:
    """[0] IMPLICIT OCTET STRING, whole or in pieces."""
    element = content.read()
    if element.tag == 0x80:
        return element.content
    if element.tag != 0xA0:
        raise der.unexpected_tag(0x80, element.tag)
    pieces = der.children(element.content, _MAX_PIECES)
    if any(piece.tag != der.OCTET_STRING for piece in pieces):
        raise der.not_der("encrypted content consists of octet strings")
    return b"".join(piece.content for piece in pieces)


def _read_recipients(element: der.Element) -> list[Recipient]:
    """KeyTransRecipientInfo or KeyAgreeRecipientInfo; others (passwords, shared keys) are left out."""
    if element.tag == 0xA1:
        return _read_agreement(element.content)
    if element.tag != der.SEQUENCE:
        return []
    fields = der.Reader(element.content)
    der.decode_integer(fields.read(der.INTEGER).content)
    issuer, serial, key_identifier = read_identifier(fields.read())
    algorithm, parameters = _algorithm(fields)
    encrypted_key = fields.read(der.OCTET_STRING).content
    fields.finish()
    return [Recipient(issuer, serial, key_identifier, algorithm, parameters, encrypted_key)]


def _read_agreement(content: bytes) -> list[Recipient]:
    shared, keys = agreement.read(content)
    found = []
    for each in keys:
        fields = der.Reader(each.content)
        identifier = fields.read()
        if identifier.tag == 0xA0:  # RecipientKeyIdentifier starts with the key identifier
            identifier = der.read_tlv(der.explicit(0, der.Reader(identifier.content).read(der.OCTET_STRING).der))
        names = read_identifier(identifier)
        encrypted_key = fields.read(der.OCTET_STRING).content
        fields.finish()
        found.append(Recipient(*names, shared.wrap, b"", encrypted_key, shared))
    return found


def _algorithm(fields: der.Reader) -> tuple[str, bytes]:
    inside = fields.enter()
    oid = der.decode_oid(inside.read(der.OBJECT_IDENTIFIER).content)
    parameters = b"" if inside.at_end else inside.read().der
    inside.finish()
    return oid, parameters


def _content_key(recipient: Recipient, key: PrivateKey, cipher: Cipher) -> bytes:
    """The key of the content. One that cannot be had is replaced by a random one, so that all failures take one path:
    RFC 3218 section 2.3.2."""
    try:
        if recipient.agreed is not None:
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise wrong_recipient()
            found = aes_key_unwrap(recipient.agreed.key_encryption_key(key), recipient.encrypted_key)
        else:
            if not isinstance(key, rsa.RSAPrivateKey):
                raise wrong_recipient()
            found = key.decrypt(recipient.encrypted_key, _rsa_padding(recipient))
    except (ValueError, InvalidUnwrap):
        found = b""
    return found if len(found) == cipher.key_octets else os.urandom(cipher.key_octets)


def _rsa_padding(recipient: Recipient) -> padding.PKCS1v15 | padding.OAEP:
    if recipient.algorithm == ids.RSA_ENCRYPTION:
        return padding.PKCS1v15()
    if recipient.algorithm == ids.RSAES_OAEP:
        return _oaep(recipient.parameters)
    raise not_allowed(f"the key encryption {recipient.algorithm}")


def _oaep(parameters: bytes) -> padding.OAEP:
    """RSAES-OAEP-params, with SHA-1 for what is left out. Source: RFC 4055 section 4.1."""
    fields = der.Reader(parameters).enter()
    digest, mask = _oaep_hash(fields.optional(0xA0)), _oaep_hash(fields.optional(0xA1), mask=True)
    if not fields.at_end:
        raise not_allowed("RSAES-OAEP with a label")
    return padding.OAEP(padding.MGF1(mask), digest, None)


def _oaep_hash(wrapped: der.Element | None, *, mask: bool = False) -> hashes.HashAlgorithm:
    if wrapped is None:
        return hashes.SHA1()  # noqa: S303 - the default of the standard, in a mask
    inside = der.Reader(wrapped.content).enter()
    if mask:
        inside.read(der.OBJECT_IDENTIFIER)  # MGF1 is the only one there is
        inside = inside.enter()
    name = ids.DIGEST_NAMES.get(der.decode_oid(inside.read(der.OBJECT_IDENTIFIER).content))
    if name is None or name not in ids.HASHES:
        raise not_allowed("the digest of RSAES-OAEP")
    return ids.HASHES[name]


def _open(cipher: Cipher, key: bytes, vector: bytes, encrypted: bytes) -> bytes:
    try:
        decryptor = BlockCipher(cipher.keyed(key), CBC(vector)).decryptor()
        padded = decryptor.update(encrypted) + decryptor.finalize()
        unpadder = block_padding.PKCS7(cipher.block_octets * 8).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise undecryptable() from None
