"""Sending what only its owner may read: certificates whose delivery proves possession, and keys that were made here.

Sources: RFC 9810 section 5.2.2 and 5.2.8.3, RFC 9483 section 4.1.6, RFC 4211 section 2.1 (EncryptedValue), RFC 5958.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.asn1.cmp import Failure
from intaglio.core.effort import costly
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Exchange
from intaglio.enrollment.limits import source_network
from intaglio.x509.certificates import CertificateInfo, read_certificate

_AES_256_CBC: Final = "2.16.840.1.101.3.4.1.42"
_RSA: Final = "1.2.840.113549.1.1.1"
_ASYMMETRIC_KEY_PACKAGE: Final = "2.16.840.1.101.2.1.2.78.5"
_CMP_2021: Final = 3


def encrypted_certificate(version: int, certificate: bytes) -> bytes:
    """EncryptedKey with a certificate for the key in it: EnvelopedData, or EncryptedValue for clients of CMPv2.

    Raises CmpRefusal (badAlg) for a key of a CMPv2 client that is not of RSA.
    """
    info = read_certificate(certificate)
    if version >= _CMP_2021:
        return _enveloped(certificate, info)
    key = info.public_key
    if not isinstance(key, rsa.RSAPublicKey):
        raise CmpRefusal(
            Failure.BAD_ALG,
            "For a key of this kind nothing can be encrypted in CMP version 2.",
            remedy="Use pvno 3, or sign the request.",
        )
    content_key, vector = secrets.token_bytes(32), secrets.token_bytes(16)
    padder = block_padding.PKCS7(128).padder()
    encryptor = Cipher(AES(content_key), CBC(vector)).encryptor()
    encrypted = encryptor.update(padder.update(certificate) + padder.finalize()) + encryptor.finalize()
    symmetric = der.oid(_AES_256_CBC) + der.octet_string(vector)
    asymmetric = der.oid(_RSA) + der.null()
    return der.sequence(
        der.tlv(0xA1, symmetric),
        der.implicit(2, b"\x00" + key.encrypt(content_key, padding.PKCS1v15())),
        der.tlv(0xA3, asymmetric),
        der.bit_string(encrypted),
    )


@dataclass(frozen=True)
class KeyDelivery:
    """How a private key gets to whoever asked: signed by the CA's signer, encrypted for ``recipient``."""

    exchange: Exchange
    recipient: CertificateInfo

    async def wrap(self, private_key: bytes) -> bytes:
        """EncryptedKey with a PKCS #8 key: SignedData with an AsymmetricKeyPackage, in EnvelopedData."""
        from intaglio.x509.cms import identifiers, signing

        signer = await self.exchange.cmp.signers.of(self.exchange.ca)
        package = der.sequence(private_key)
        key, certificate, chain, now = signer.key, signer.certificate, signer.chain, self.exchange.now
        signed = await key.using(
            lambda private: signing.sign(
                package,
                certificate,
                private,
                signing_time=now,
                certificates=chain,
                content_type=_ASYMMETRIC_KEY_PACKAGE,
            )
        )
        return _enveloped(_unwrapped(signed), self.recipient, content_type=identifiers.SIGNED_DATA)


def key_parts(exchange: Exchange) -> KeyDelivery:
    """To whom a key that is made here can be sent. Raises CmpRefusal (badRequest)."""
    if exchange.endpoint.approval == "manual":
        raise CmpRefusal(Failure.BAD_REQUEST, "Where requests wait for approval no keys are made.")
    recipient = exchange.sender.certificate
    if recipient is None or exchange.message.header.version < _CMP_2021:
        raise CmpRefusal(
            Failure.BAD_REQUEST,
            "A key that is made here is encrypted for the certificate that protects a message of CMP version 3.",
            remedy="Protect the request with a certificate, and use pvno 3.",
        )
    return KeyDelivery(exchange, recipient)


async def generated_key(exchange: Exchange) -> tuple[bytes, bytes]:
    """A new key as PKCS #8, and its SubjectPublicKeyInfo. It is kept nowhere. Raises RateLimited."""
    algorithm = KeyAlgorithm(exchange.options.central_key_algorithm)
    source = source_network(exchange.sender.applicant.source)
    key: PrivateKey = await costly.run(f"cmp:{source}", lambda: algorithms.generate_private_key(algorithm))
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), algorithms.spki(key.public_key())


def _enveloped(content: bytes, recipient: CertificateInfo, *, content_type: str | None = None) -> bytes:
    """``[0] EnvelopedData``, without the ContentInfo around it."""
    from intaglio.x509.cms import identifiers
    from intaglio.x509.cms.enveloping import envelop

    wrapped = envelop(content, recipient, content_type=content_type or identifiers.DATA)
    return der.tlv(0xA0, der.read_tlv(_unwrapped(wrapped)).content)


def _unwrapped(content_info: bytes) -> bytes:
    """What stands in a ContentInfo."""
    reader = der.Reader(content_info).enter()
    reader.read(der.OBJECT_IDENTIFIER)
    return reader.read(0xA0).content
