"""Content keys by ephemeral-static ECDH, the X9.63 key derivation and AES key wrap. Source: RFC 5753 section 3.1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from intaglio.asn1 import der
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms.errors import not_allowed

_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_AES_256_WRAP: Final = "2.16.840.1.101.3.4.1.45"
_WRAP_OCTETS: Final = {"2.16.840.1.101.3.4.1.5": 16, "2.16.840.1.101.3.4.1.25": 24, _AES_256_WRAP: 32}
#: dhSinglePass-stdDH with the X9.63 key derivation of one digest.
_SCHEMES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.3.133.16.840.63.0.2": hashes.SHA1(),  # noqa: S303 - a key derivation, where collisions do not matter
    "1.3.132.1.11.1": hashes.SHA256(),
    "1.3.132.1.11.2": hashes.SHA384(),
    "1.3.132.1.11.3": hashes.SHA512(),
}
_SHA256_SCHEME: Final = "1.3.132.1.11.1"
_MAX_RECIPIENTS: Final = 16


@dataclass(frozen=True)
class Agreement:
    """What the sender made known: his ephemeral point (uncompressed), scheme, key wrap and user keying material."""

    point: bytes = field(repr=False)
    scheme: str
    wrap: str
    wrap_identifier: bytes = field(repr=False)
    material: bytes | None = field(repr=False)

    def key_encryption_key(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The key that unwraps the content key. Raises ValueError when the point is not on the curve."""
        peer = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, self.point)
        return self.derive(key.exchange(ec.ECDH(), peer))

    def derive(self, secret: bytes) -> bytes:
        """The key made of the shared secret: ECC-CMS-SharedInfo. Source: RFC 5753 section 7.2."""
        octets = _WRAP_OCTETS[self.wrap]
        info = der.sequence(
            self.wrap_identifier,
            b"" if self.material is None else der.explicit(0, der.octet_string(self.material)),
            der.explicit(2, der.octet_string((octets * 8).to_bytes(4, "big"))),
        )
        return X963KDF(_SCHEMES[self.scheme], octets, info).derive(secret)


def read(content: bytes) -> tuple[Agreement, list[der.Element]]:
    """The content of a KeyAgreeRecipientInfo, and its RecipientEncryptedKeys.

    Raises InvalidInput (``invalid-der``, ``cms-algorithm-not-allowed``).
    """
    fields = der.Reader(content)
    fields.read(der.INTEGER)
    point = _read_originator(fields.read(0xA0).content)
    material = fields.optional(0xA1)
    algorithm = fields.enter()
    keys = der.children(fields.read(der.SEQUENCE).content, _MAX_RECIPIENTS)
    fields.finish()
    scheme = der.decode_oid(algorithm.read(der.OBJECT_IDENTIFIER).content)
    wrap_identifier = algorithm.read(der.SEQUENCE)
    wrap = der.decode_oid(der.Reader(wrap_identifier.content).read(der.OBJECT_IDENTIFIER).content)
    if scheme not in _SCHEMES or wrap not in _WRAP_OCTETS:
        raise not_allowed(f"key agreement {scheme} with key wrap {wrap}")
    octets = None if material is None else der.read_tlv(material.content, der.OCTET_STRING).content
    return Agreement(point, scheme, wrap, wrap_identifier.der, octets), keys


def write(content_key: bytes, recipient: CertificateInfo, public: ec.EllipticCurvePublicKey) -> bytes:
    """A KeyAgreeRecipientInfo that gives ``content_key`` to the holder of the recipient's certificate."""
    ephemeral = ec.generate_private_key(public.curve)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    wrap_identifier = der.sequence(der.oid(_AES_256_WRAP))
    shared = Agreement(point, _SHA256_SCHEME, _AES_256_WRAP, wrap_identifier, None)
    wrapped = aes_key_wrap(shared.derive(ephemeral.exchange(ec.ECDH(), public)), content_key)
    identifier = der.sequence(recipient.issuer.der, der.integer(recipient.serial))
    originator = der.explicit(1, der.sequence(der.oid(_EC_PUBLIC_KEY)) + der.bit_string(point))
    return der.explicit(
        1,
        der.integer(3)
        + der.explicit(0, originator)
        + der.sequence(der.oid(_SHA256_SCHEME), wrap_identifier)
        + der.sequence(der.sequence(identifier, der.octet_string(wrapped))),
    )


def _read_originator(content: bytes) -> bytes:
    """The ephemeral point; originators that are named by a certificate are not accepted."""
    inside = der.Reader(der.read_tlv(content, 0xA1).content)
    inside.read(der.SEQUENCE)
    point, _ = der.decode_bit_string(inside.read(der.BIT_STRING).content)
    inside.finish()
    return point
