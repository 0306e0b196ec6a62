"""Making EnvelopedData. Sources: RFC 5652 section 6, RFC 5753."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.modes import CBC

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms import agreement
from intaglio.x509.cms import identifiers as ids
from intaglio.x509.cms.identifiers import CIPHERS, CipherName


def envelop(
    content: bytes,
    recipient: CertificateInfo,
    cipher: CipherName = "aes-256-cbc",
    *,
    content_type: str = ids.DATA,
) -> bytes:
    """ContentInfo with EnvelopedData: ``content`` encrypted for the key of the recipient's certificate.

    RSA keys get the content key by PKCS #1 version 1.5, which every client reads; EC keys by ephemeral ECDH.

    Raises InvalidInput (``recipient-key-unfit``) for a key that cannot be encrypted to.
    """
    chosen = CIPHERS[cipher]
    key, vector = os.urandom(chosen.key_octets), os.urandom(chosen.block_octets)
    recipient_info = _recipient(key, recipient)
    padder = block_padding.PKCS7(chosen.block_octets * 8).padder()
    encryptor = BlockCipher(chosen.keyed(key), CBC(vector)).encryptor()
    encrypted = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    return ids.content_info(
        ids.ENVELOPED_DATA,
        der.sequence(
            # Version 2 wherever a recipient is not the issuer and serial number of key transport.
            der.integer(0 if recipient_info[0] == der.SEQUENCE else 2),
            der.set_of(recipient_info),
            der.sequence(
                der.oid(content_type),
                der.sequence(der.oid(chosen.oid), der.octet_string(vector)),
                der.implicit(0, encrypted),
            ),
        ),
    )


def _recipient(content_key: bytes, recipient: CertificateInfo) -> bytes:
    public = recipient.public_key
    if isinstance(public, ec.EllipticCurvePublicKey):
        return agreement.write(content_key, recipient, public)
    if isinstance(public, rsa.RSAPublicKey):
        return der.sequence(
            der.integer(0),
            der.sequence(recipient.issuer.der, der.integer(recipient.serial)),
            der.sequence(der.oid(ids.RSA_ENCRYPTION), der.null()),
            der.octet_string(public.encrypt(content_key, padding.PKCS1v15())),
        )
    raise InvalidInput(
        f"Nothing can be encrypted for a key of type {recipient.key_algorithm}.",
        code="recipient-key-unfit",
        remedy="Use an RSA or EC key.",
    )
