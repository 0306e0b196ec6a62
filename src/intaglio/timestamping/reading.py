"""Reading timestamp replies and tokens: outside bytes become a typed value.

Sources: RFC 3161 section 2.4.2, RFC 5652 section 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, Refused
from intaglio.timestamping import tokens
from intaglio.timestamping.rejections import Failure
from intaglio.timestamping.requests import HASHES
from intaglio.x509.certificates import CertificateInfo, read_certificate

MAX_REPLY_OCTETS: Final = 1024 * 1024
_MAX_CERTIFICATES: Final = 32
_MAX_ATTRIBUTES: Final = 32
_MAX_DEPTH: Final = 16

_DIGEST_NAMES: Final = {der.oid(dotted)[2:]: name for name, dotted in tokens.DIGEST_OIDS.items()}


@dataclass(frozen=True)
class TokenInfo:
    """What a TSTInfo says. ``hash_name`` is None for an algorithm that is not known here; ``accuracy`` is in
    microseconds; ``nonce`` None without one; ``serial`` minimal, big-endian."""

    policy: str
    hash_name: str | None
    digest: bytes = field(repr=False)
    serial: bytes
    time: datetime
    accuracy: int | None
    ordering: bool
    nonce: int | None
    qualified: bool


@dataclass(frozen=True)
class Token:
    """A token. ``signed_attributes`` are the octets under the signature (as SET OF); ``attributes`` by dotted type."""

    der: bytes = field(repr=False)
    info: TokenInfo
    content: bytes = field(repr=False)
    certificates: tuple[CertificateInfo, ...] = field(repr=False)
    issuer_and_serial: bytes = field(repr=False)
    digest_name: str
    signature_algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signed_attributes: bytes = field(repr=False)
    attributes: dict[str, bytes] = field(repr=False)


def read_reply(data: bytes) -> Token:
    """The token in a TimeStampResp, or a bare token.

    Raises InvalidInput (``timestamp-unparsable``), Refused (``timestamp-rejected``) when the reply holds a refusal.
    """
    if len(data) > MAX_REPLY_OCTETS:
        raise _unparsable(f"it is longer than {MAX_REPLY_OCTETS} octets")
    try:
        outer = der.Reader(der.read_tlv(data, der.SEQUENCE).content)
        if outer.peek() == der.OBJECT_IDENTIFIER:
            return _read_token(data)
        status = outer.read(der.SEQUENCE)
        token = outer.optional(der.SEQUENCE)
        outer.finish()
        _require_granted(status)
        if token is None:
            raise der.not_der("a granted reply has a token")
        return _read_token(token.der)
    except InvalidInput as error:
        raise _unparsable(error.detail) from None


def _require_granted(status: der.Element) -> None:
    fields = der.Reader(status.content)
    value = der.decode_integer(fields.read(der.INTEGER).content)
    if value in (0, 1):
        return
    texts = fields.optional(der.SEQUENCE)
    failure = fields.optional(der.BIT_STRING)
    words = [] if texts is None else [each.content.decode("utf-8", "replace") for each in _texts(texts)]
    why = _failure_label(failure)
    raise Refused(
        f"The timestamp was refused{f' ({why})' if why else ''}: {' '.join(words)[:500] or 'no reason was given'}",
        code="timestamp-rejected",
        extra={"failure": why},
    )


def _texts(found: der.Element) -> list[der.Element]:
    return der.children(found.content, 16)


def _failure_label(failure: der.Element | None) -> str:
    if failure is None:
        return ""
    octets, _ = der.decode_bit_string(failure.content)
    for each in Failure:
        if int(each) // 8 < len(octets) and octets[int(each) // 8] & 0x80 >> int(each) % 8:
            return each.label
    return "unknown"


def _read_token(data: bytes) -> Token:
    outer = der.Reader(data, _MAX_DEPTH).enter()
    if der.decode_oid(outer.read(der.OBJECT_IDENTIFIER).content) != tokens.SIGNED_DATA:
        raise der.not_der("a token is SignedData")
    signed = outer.enter(0xA0).enter()
    signed.read(der.INTEGER)
    signed.read(der.SET)
    content = _read_content(signed.enter())
    certificates = _read_certificates(signed.optional(0xA0))
    signed.optional(0xA1)
    signers = der.children(signed.read(der.SET).content, 2)
    signed.finish()
    if len(signers) != 1 or signers[0].tag != der.SEQUENCE:
        raise der.not_der("a token has one signer")
    return _read_signer(data, content, certificates, der.Reader(signers[0].content))


def _read_content(encapsulated: der.Reader) -> bytes:
    if der.decode_oid(encapsulated.read(der.OBJECT_IDENTIFIER).content) != tokens.TST_INFO:
        raise der.not_der("the content of a token is a TSTInfo")
    wrapped = encapsulated.enter(0xA0)
    encapsulated.finish()
    content = wrapped.read(der.OCTET_STRING).content
    wrapped.finish()
    return content


def _read_certificates(found: der.Element | None) -> tuple[CertificateInfo, ...]:
    if found is None:
        return ()
    # Attribute certificates and others may stand here too; only certificates are of use.
    members = der.children(found.content, _MAX_CERTIFICATES)
    return tuple(read_certificate(each.der) for each in members if each.tag == der.SEQUENCE)


def _read_signer(data: bytes, content: bytes, certificates: tuple[CertificateInfo, ...], signer: der.Reader) -> Token:
    signer.read(der.INTEGER)
    identifier = signer.read(der.SEQUENCE).der
    digest = _DIGEST_NAMES.get(signer.enter().read(der.OBJECT_IDENTIFIER).content)
    if digest is None:
        raise der.not_der("the digest algorithm is none of SHA-256, SHA-384 and SHA-512")
    attributes = signer.read(0xA0)
    algorithm = signer.read(der.SEQUENCE).der
    signature = signer.read(der.OCTET_STRING).content
    signer.optional(0xA1)
    signer.finish()
    return Token(
        data, _read_info(content), content, certificates, identifier, digest, algorithm, signature,
        der.tlv(der.SET, attributes.content), _read_attributes(attributes.content),
    )  # fmt: skip


def _read_attributes(content: bytes) -> dict[str, bytes]:
    """The only value of every attribute, by dotted type."""
    found: dict[str, bytes] = {}
    for attribute in der.children(content, _MAX_ATTRIBUTES):
        reader = der.Reader(attribute.content)
        oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
        values = der.children(reader.read(der.SET).content, 2)
        reader.finish()
        if oid in found or len(values) != 1:
            raise der.not_der("an attribute is there twice, or has not exactly one value")
        found[oid] = values[0].der
    return found


def _read_info(data: bytes) -> TokenInfo:
    fields = der.Reader(der.read_tlv(data, der.SEQUENCE).content)
    if fields.read(der.INTEGER).content != b"\x01":
        raise der.not_der("the version of a TSTInfo is 1")
    policy = der.decode_oid(fields.read(der.OBJECT_IDENTIFIER).content)
    imprint = fields.enter()
    known = HASHES.get(imprint.enter().read(der.OBJECT_IDENTIFIER).content)
    digest = imprint.read(der.OCTET_STRING).content
    imprint.finish()
    serial = der.decode_integer(fields.read(der.INTEGER).content)
    time = read_time(fields.read(der.GENERALIZED_TIME).content)
    accuracy = fields.optional(der.SEQUENCE)
    ordering = fields.optional(der.BOOLEAN)
    nonce = fields.optional(der.INTEGER)
    fields.optional(0xA0)
    extensions = fields.optional(0xA1)
    fields.finish()
    return TokenInfo(
        policy,
        known[0] if known else None,
        digest,
        abs(serial).to_bytes(max(1, (serial.bit_length() + 7) // 8), "big"),
        time,
        None if accuracy is None else _read_accuracy(accuracy.content),
        ordering is not None and der.decode_boolean(ordering.content),
        None if nonce is None else der.decode_integer(nonce.content),
        extensions is not None and der.oid(tokens.QUALIFIED_TIMESTAMP) in extensions.content,
    )


def read_time(content: bytes) -> datetime:
    """The moment of a GeneralizedTime in UTC, with or without a fraction. Raises InvalidInput."""
    whole, _, fraction = content.decode("latin-1").removesuffix("Z").partition(".")
    if content[-1:] != b"Z" or not whole.isascii() or not whole.isdigit() or len(whole) != 14 or len(fraction) > 9:
        raise der.not_der("a time is not YYYYMMDDHHMMSS[.f]Z")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise der.not_der("the fraction of a second is not a number")
    try:
        month, day, hour, minute, second = (int(whole[start : start + 2]) for start in range(4, 14, 2))
        moment = datetime(int(whole[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise der.not_der("a time does not exist") from None
    return moment + timedelta(microseconds=int(fraction.ljust(6, "0")[:6]) if fraction else 0)


def _read_accuracy(content: bytes) -> int:
    total, weights = 0, {der.INTEGER: 1_000_000, 0x80: 1_000, 0x81: 1}
    for part in der.children(content, 3):
        if part.tag not in weights:
            raise der.not_der("an accuracy is seconds, milliseconds and microseconds")
        total += der.decode_integer(part.content) * weights[part.tag]
    return total


def _unparsable(why: str) -> InvalidInput:
    return InvalidInput(f"The timestamp cannot be read: {why.rstrip('.')}.", code="timestamp-unparsable")
