"""Reading and verifying SignedData. Source: RFC 5652 section 5."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import PublicKey
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_octets
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms import identifiers as ids
from intaglio.x509.cms.ber import to_der
from intaglio.x509.cms.errors import bad_signature, not_allowed, too_large, unparsable
from intaglio.x509.cms.identifiers import SHA_2, DigestName
from intaglio.x509.names import Name

Content = TypeVar("Content")

MAX_OCTETS: Final = 1024 * 1024
_MAX_CERTIFICATES: Final = 32
_MAX_CRLS: Final = 8
_MAX_SIGNERS: Final = 8
_MAX_ATTRIBUTES: Final = 64
_MAX_VALUES: Final = 8


@dataclass(frozen=True)
class SignerInfo:
    """One signature. ``issuer`` and ``serial``, or ``key_identifier``, name the certificate of its maker.

    ``digest`` is None for an algorithm that is not known here, which then stands in ``digest_oid``;
    ``signed_attributes`` is the SET OF that was signed, None when the content itself was; ``attributes`` are its
    members by dotted type, each with the DER of its values.
    """

    issuer: Name | None
    serial: bytes | None
    key_identifier: bytes | None
    digest: DigestName | None
    digest_oid: str
    signature_oid: str
    signature: bytes = field(repr=False)
    signed_attributes: bytes | None = field(repr=False)
    attributes: dict[str, tuple[bytes, ...]] = field(repr=False)

    def made_by(self, certificate: CertificateInfo) -> bool:
        """Whether the signature names this certificate."""
        if self.issuer is not None:
            return self.issuer.key == certificate.issuer.key and self.serial == certificate.serial
        return self.key_identifier is not None and self.key_identifier == certificate.ski

    def value(self, oid: str) -> der.Element | None:
        """The only value of a signed attribute, None without it. Raises InvalidInput (``cms-unparsable``)."""
        values = self.attributes.get(oid)
        if values is None:
            return None
        if len(values) != 1:
            raise unparsable(f"the attribute {oid} has {len(values)} values instead of one")
        return der.read_tlv(values[0])

    @property
    def signing_time(self) -> datetime | None:
        """When the signer says to have signed. Raises InvalidInput (``cms-unparsable``)."""
        value = self.value(ids.SIGNING_TIME)
        try:
            return None if value is None else der.decode_time(value)
        except InvalidInput as error:
            raise unparsable(error.detail) from None


@dataclass(frozen=True)
class SignedData:
    """A signed message: ``content`` of the type ``content_type`` (dotted), None when it is detached.

    ``certificates`` and ``crls`` are DER, as they came; nothing about them was checked.
    """

    content_type: str
    content: bytes | None = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)
    crls: tuple[bytes, ...] = field(repr=False)
    signers: tuple[SignerInfo, ...]

    @property
    def signer(self) -> SignerInfo:
        """The only signature. Raises InvalidInput (``cms-unparsable``) when there is none, or more than one."""
        if len(self.signers) != 1:
            raise unparsable(f"it has {len(self.signers)} signatures instead of one")
        return self.signers[0]

    def signer_certificate(self) -> CertificateInfo:
        """The certificate in the message that its only signature names.

        Raises InvalidInput: ``cms-unparsable``, ``certificate-unparsable``.
        """
        signer = self.signer
        # Java clients send certificates along that are none of ours to judge; only the signer's has to be readable.
        found = next((each for each in map(_readable, self.certificates) if each and signer.made_by(each)), None)
        if found is None and len(self.certificates) == 1:
            # Cisco IOS names the subject and a serial number of its own choice when it signs with a key that it has
            # only just made. The signature decides; the name says nothing that could be relied on anyway.
            found = read_certificate(self.certificates[0])
        if found is None:
            raise unparsable("the certificate of the signer is not in it")
        return found

    def verify(
        self,
        certificate: CertificateInfo,
        *,
        content: bytes | None = None,
        digests: Collection[DigestName] = SHA_2,
    ) -> SignerInfo:
        """Check the only signature under the key of ``certificate``; ``content`` is given when it is detached.

        Says nothing about who the certificate belongs to, or whether it is valid. Raises InvalidInput:
        ``cms-signature-invalid``, ``cms-algorithm-not-allowed``, ``cms-unparsable``.
        """
        signer = self.signer
        octets = self.content if self.content is not None else content
        if octets is None:
            raise unparsable("it holds no content")
        try:
            key = certificate.public_key
        except InvalidInput as error:
            raise not_allowed(error.detail) from None
        _verify_under(key, signer, self.content_type, octets, digests)
        return signer


def read_signed_data(data: bytes, *, max_octets: int = MAX_OCTETS) -> SignedData:
    """A ContentInfo with SignedData, in DER or BER.

    Raises TooLarge (``cms-too-large``), InvalidInput (``cms-unparsable``).
    """
    return read_content(data, ids.SIGNED_DATA, max_octets, _read)


def read_content(data: bytes, content_type: str, max_octets: int, read: Callable[[bytes], Content]) -> Content:
    """What ``read`` makes of the SEQUENCE in a ContentInfo of the given type, in DER or BER.

    Nearly all messages are DER; only those that are not take the longer way. Raises TooLarge (``cms-too-large``),
    InvalidInput (``cms-unparsable``, ``cms-algorithm-not-allowed``).
    """
    if len(data) > max_octets:
        raise too_large(max_octets)
    try:
        return read(_outer_content(data, content_type))
    except InvalidInput as error:
        refusal = error
    try:
        framed = to_der(data)
        if framed == data:
            raise refusal
        return read(_outer_content(framed, content_type))
    except InvalidInput as error:
        raise error if error.code.startswith("cms-") else unparsable(error.detail) from None


def _outer_content(data: bytes, content_type: str) -> bytes:
    outer = der.Reader(data)
    info = outer.enter()
    outer.finish()
    found = der.decode_oid(info.read(der.OBJECT_IDENTIFIER).content)
    if found != content_type:
        raise unparsable(f"its type is {found}, {content_type} is expected")
    content = der.read_tlv(info.read(0xA0).content, der.SEQUENCE).der
    info.finish()
    return content


def verify_signer(
    signer: SignerInfo, content_type: str, content: bytes, spki: bytes, digests: Collection[DigestName]
) -> None:
    """Check one signature over ``content`` under a DER SubjectPublicKeyInfo. Raises as :meth:`SignedData.verify`."""
    try:
        key, _ = algorithms.load_public_key(spki)
    except InvalidInput as error:
        raise not_allowed(error.detail) from None
    _verify_under(key, signer, content_type, content, digests)


def _verify_under(
    key: PublicKey, signer: SignerInfo, content_type: str, content: bytes, digests: Collection[DigestName]
) -> None:
    digest = signer.digest
    if digest is None or digest not in digests or digest not in ids.HASHES:
        raise not_allowed(f"the digest {digest or signer.digest_oid}")
    if content_type != ids.DATA and signer.value(ids.CONTENT_TYPE) is None:
        # Signed attributes could be passed off as content otherwise, and one kind of content as another: RFC 5652
        # sections 5.3 and 11.1. Of plain data, which has no other kind to be taken for, old clients leave it out.
        raise bad_signature("the type of the content is not signed")
    if signer.signed_attributes is None:
        if not _is_signed(signer, key, content, digests):
            raise bad_signature("it does not fit the content")
        return
    computed = hashes.Hash(ids.HASHES[digest])
    computed.update(content)
    stated = signer.value(ids.MESSAGE_DIGEST)
    if stated is None or not hmac.compare_digest(stated.content, computed.finalize()):
        raise bad_signature("the content is not the one that was signed")
    kind = signer.value(ids.CONTENT_TYPE)
    if kind is not None and kind.der != der.oid(content_type):
        raise bad_signature("the type of the content is not the one that was signed")
    if not any(_is_signed(signer, key, signed, digests) for signed in _orders(signer.signed_attributes)):
        raise bad_signature("it does not fit the signed attributes")


def _orders(attributes: bytes) -> Iterable[bytes]:
    """The attributes as they came, then as DER sorts them: some routers sign them sorted and send them as they like."""
    yield attributes
    ordered = der.set_of(*(each.der for each in der.children(der.read_tlv(attributes).content, _MAX_ATTRIBUTES)))
    if ordered != attributes:
        yield ordered


def _is_signed(signer: SignerInfo, key: PublicKey, signed: bytes, digests: Collection[DigestName]) -> bool:
    scheme = _SCHEMES.get(signer.signature_oid)
    if scheme is None:
        # Ed25519, Ed448, ML-DSA: the message itself is signed.
        if algorithms.key_algorithm_of(key).signature_oid != signer.signature_oid:
            raise not_allowed(f"the signature {signer.signature_oid}")
        return algorithms.verify(key, signer.signature_oid, signer.signature, signed)
    family, named = scheme
    digest = named or signer.digest
    if digest is None or digest not in digests or digest not in ids.HASHES:
        raise not_allowed(f"a signature with {digest}")
    try:
        if family == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signer.signature, signed, padding.PKCS1v15(), ids.HASHES[digest])
        elif family == "ec" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signer.signature, signed, ec.ECDSA(ids.HASHES[digest]))
        else:
            return False
    except InvalidSignature:
        return False
    return True


#: Family and digest by signature algorithm; without a digest, the one of the SignerInfo (RFC 3370 section 3.2).
_SCHEMES: Final[dict[str, tuple[str, DigestName | None]]] = {
    ids.RSA_ENCRYPTION: ("rsa", None),
    "1.2.840.113549.1.1.4": ("rsa", "md5"),
    "1.2.840.113549.1.1.5": ("rsa", "sha1"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.10045.4.1": ("ec", "sha1"),
    "1.2.840.10045.4.3.2": ("ec", "sha256"),
    "1.2.840.10045.4.3.3": ("ec", "sha384"),
    "1.2.840.10045.4.3.4": ("ec", "sha512"),
    # Java's SCEP library names the key instead of the signature.
    "1.2.840.10045.2.1": ("ec", None),
}


def _read(data: bytes) -> SignedData:
    fields = der.Reader(data).enter()
    der.decode_integer(fields.read(der.INTEGER).content)
    fields.read(der.SET)  # the digest algorithms, which every signer states again
    wrapped = fields.enter()
    content_type = der.decode_oid(wrapped.read(der.OBJECT_IDENTIFIER).content)
    content = wrapped.optional(0xA0)
    wrapped.finish()
    certificates = fields.optional(0xA0)
    crls = fields.optional(0xA1)
    signers = der.children(fields.read(der.SET).content, _MAX_SIGNERS)
    fields.finish()
    return SignedData(
        content_type,
        None if content is None else _octets(content),
        _members(certificates, _MAX_CERTIFICATES),
        _members(crls, _MAX_CRLS),
        tuple(map(_read_signer, signers)),
    )


def _octets(content: der.Element) -> bytes | None:
    """What the OCTET STRING holds; of any other type (PKCS #7 version 1.5), the content octets."""
    return der.read_tlv(content.content).content


def _members(field: der.Element | None, limit: int) -> tuple[bytes, ...]:
    """X.509 certificates or CRLs; others (attribute certificates) are left out."""
    if field is None:
        return ()
    return tuple(each.der for each in der.children(field.content, limit) if each.tag == der.SEQUENCE)


def _read_signer(element: der.Element) -> SignerInfo:
    if element.tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, element.tag)
    fields = der.Reader(element.content)
    der.decode_integer(fields.read(der.INTEGER).content)
    issuer, serial, key_identifier = read_identifier(fields.read())
    digest_oid = der.decode_oid(fields.enter().read(der.OBJECT_IDENTIFIER).content)
    attributes = fields.optional(0xA0)
    signature_oid = der.decode_oid(fields.enter().read(der.OBJECT_IDENTIFIER).content)
    signature = fields.read(der.OCTET_STRING).content
    fields.optional(0xA1)
    fields.finish()
    return SignerInfo(
        issuer,
        serial,
        key_identifier,
        ids.DIGEST_NAMES.get(digest_oid),
        digest_oid,
        signature_oid,
        signature,
        None if attributes is None else der.tlv(der.SET, attributes.content),
        {} if attributes is None else _read_attributes(attributes.content),
    )


def read_identifier(element: der.Element) -> tuple[Name | None, bytes | None, bytes | None]:
    """SignerIdentifier, or RecipientIdentifier: issuer and serial number, or a key identifier."""
    if element.tag == 0x80:
        return None, None, element.content
    if element.tag == 0xA0:  # RFC 2630 had it explicit
        return None, None, der.read_tlv(element.content, der.OCTET_STRING).content
    if element.tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, element.tag)
    fields = der.Reader(element.content)
    issuer = Name.from_der(fields.read(der.SEQUENCE).der)
    serial = serial_octets(abs(int.from_bytes(fields.read(der.INTEGER).content, "big", signed=True)))
    fields.finish()
    return issuer, serial, None


def _read_attributes(content: bytes) -> dict[str, tuple[bytes, ...]]:
    found: dict[str, tuple[bytes, ...]] = {}
    for each in der.children(content, _MAX_ATTRIBUTES):
        fields = der.Reader(each.content)
        if each.tag != der.SEQUENCE:
            raise der.unexpected_tag(der.SEQUENCE, each.tag)
        oid = der.decode_oid(fields.read(der.OBJECT_IDENTIFIER).content)
        values = der.children(fields.read(der.SET).content, _MAX_VALUES)
        fields.finish()
        if oid in found:
            raise unparsable(f"the attribute {oid} is there twice")
        found[oid] = tuple(value.der for value in values)
    return found


def _readable(certificate: bytes) -> CertificateInfo | None:
    try:
        return read_certificate(certificate)
    except InvalidInput:
        return None
