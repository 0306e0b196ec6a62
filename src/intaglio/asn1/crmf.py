"""Certificate request messages (CRMF): a strict, bounded reader and the writers of clients. Source: RFC 4211.

What belongs to a higher floor stays as it came: names, general names, extensions and algorithm identifiers are DER.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from intaglio.asn1 import der

#: Most requests in one CertReqMessages, controls in one request, and octets of one template.
MAX_REQUESTS: Final = 16
MAX_CONTROLS: Final = 16
MAX_TEMPLATE_OCTETS: Final = 48 * 1024

REGISTRATION_TOKEN: Final = "1.3.6.1.5.5.7.5.1.1"  # noqa: S105 - the type of the control
AUTHENTICATOR: Final = "1.3.6.1.5.5.7.5.1.2"
OLD_CERTIFICATE_ID: Final = "1.3.6.1.5.5.7.5.1.5"

ProofKind = Literal["ra-verified", "signature", "key-encipherment", "key-agreement"]
#: How possession of a key that does not sign is to be shown. Source: RFC 4211 section 4.2.
KeyProof = Literal["this-message", "encrypted-certificate", "challenge", "mac", "encrypted-key"]

_PROOFS: Final[dict[int, ProofKind]] = {
    0x80: "ra-verified", 0xA1: "signature", 0xA2: "key-encipherment", 0xA3: "key-agreement",
}  # fmt: skip
_SUBSEQUENT: Final = 0x81


@dataclass(frozen=True, slots=True)
class CertTemplate:
    """What a certificate should say; None where the template says nothing.

    ``issuer`` and ``subject`` are Names, ``public_key`` is a SubjectPublicKeyInfo, ``extensions`` is what stands inside
    the Extensions SEQUENCE. ``validity`` is the wished (not before, not after). ``unassigned`` says that it sets
    fields that only the CA may choose (RFC 4211 section 5: version, serialNumber, signingAlg, unique identifiers).
    """

    der: bytes = field(repr=False)
    serial: int | None = None
    issuer: bytes | None = None
    validity: tuple[datetime | None, datetime | None] | None = None
    subject: bytes | None = None
    public_key: bytes | None = None
    extensions: bytes | None = None
    unassigned: bool = False


@dataclass(frozen=True, slots=True)
class ProofOfPossession:
    """``algorithm`` (AlgorithmIdentifier), ``signature`` and ``signed`` (POPOSigningKeyInput as a SEQUENCE; None when
    the request itself is signed) belong to the kind ``signature``, ``method`` to keys that do not sign."""

    kind: ProofKind
    algorithm: bytes = b""
    signature: bytes = b""
    signed: bytes | None = None
    method: KeyProof | None = None


@dataclass(frozen=True, slots=True)
class CertRequestMessage:
    """One CertReqMsg; ``request_der`` is the CertRequest that a proof signs, ``controls`` are (dotted type, value)."""

    request_id: int
    request_der: bytes = field(repr=False)
    template: CertTemplate
    controls: tuple[tuple[str, bytes], ...]
    proof: ProofOfPossession | None

    def control(self, oid: str) -> bytes | None:
        """The value of the control of a dotted type."""
        return next((value for found, value in self.controls if found == oid), None)


@dataclass(frozen=True, slots=True)
class CertId:
    """A certificate by the Name of its issuer (None when that is another kind of general name) and serial number."""

    issuer: bytes | None
    serial: int


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_cert_req_messages(content: bytes) -> tuple[CertRequestMessage, ...]:
    """The requests in a CertReqMessages TLV, at least one, at most 16. Raises InvalidInput (``invalid-der``)."""
    messages = der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_REQUESTS)
    if not messages:
        raise der.not_der("there is no certificate request in the message")
    return tuple(_read_message(message) for message in messages)


def read_template(element: der.Element) -> CertTemplate:
    """A CertTemplate. Raises InvalidInput (``invalid-der``)."""
    if element.tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, element.tag)
    if len(element.der) > MAX_TEMPLATE_OCTETS:
        raise der.not_der(f"a certificate template is longer than {MAX_TEMPLATE_OCTETS} octets")
    reader = der.Reader(element.content)
    version, serial = reader.optional(0x80), reader.optional(0x81)
    signing, issuer, validity = reader.optional(0xA2), reader.optional(0xA3), reader.optional(0xA4)
    subject, public_key = reader.optional(0xA5), reader.optional(0xA6)
    unique = [reader.optional(tag) for tag in (0x87, 0x88)]
    extensions = reader.optional(0xA9)
    reader.finish()
    return CertTemplate(
        element.der,
        None if serial is None else der.decode_integer(serial.content),
        None if issuer is None else der.read_tlv(issuer.content, der.SEQUENCE).der,
        None if validity is None else _read_validity(validity.content),
        None if subject is None else der.read_tlv(subject.content, der.SEQUENCE).der,
        None if public_key is None else der.tlv(der.SEQUENCE, public_key.content),
        None if extensions is None else extensions.content,
        any(found is not None for found in (version, serial, signing, *unique)),
    )


def read_cert_id(value: bytes) -> CertId:
    """A CertId, the value of an oldCertID control. Raises InvalidInput (``invalid-der``)."""
    outer = der.Reader(value)
    reader = outer.enter()
    outer.finish()
    issuer, serial = reader.read(), reader.read(der.INTEGER)
    reader.finish()
    name = der.read_tlv(issuer.content, der.SEQUENCE).der if issuer.tag == 0xA4 else None
    return CertId(name, der.decode_integer(serial.content))


def read_signed_input(signed: bytes) -> tuple[bytes | None, bytes]:
    """(GeneralName of the sender, None for a MAC of the key; SubjectPublicKeyInfo) of a POPOSigningKeyInput.

    Raises InvalidInput (``invalid-der``). Source: RFC 4211 section 4.1.
    """
    reader = der.Reader(signed).enter()
    identity, public_key = reader.read(), reader.read(der.SEQUENCE)
    reader.finish()
    return (identity.content if identity.tag == 0xA0 else None), public_key.der


def _read_message(element: der.Element) -> CertRequestMessage:
    if element.tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, element.tag)
    reader = der.Reader(element.content)
    request = reader.read(der.SEQUENCE)
    proof = _read_proof(reader.read()) if reader.peek() in _PROOFS else None
    if (information := reader.optional(der.SEQUENCE)) is not None:
        der.children(information.content, MAX_CONTROLS)  # registration information is for humans; only its form counts
    reader.finish()
    inner = der.Reader(request.content)
    request_id, template = der.decode_integer(inner.read(der.INTEGER).content), read_template(inner.read())
    controls = inner.optional(der.SEQUENCE)
    inner.finish()
    if not -1 <= request_id < 1 << 63:
        raise der.not_der("a certReqId is out of range")
    return CertRequestMessage(
        request_id, request.der, template, () if controls is None else _read_controls(controls.content), proof
    )


def _read_controls(content: bytes) -> tuple[tuple[str, bytes], ...]:
    found = []
    for element in der.children(content, MAX_CONTROLS):
        reader = der.Reader(element.der).enter()
        oid, value = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content), reader.read().der
        reader.finish()
        found.append((oid, value))
    return tuple(found)


def _read_proof(element: der.Element) -> ProofOfPossession:
    kind = _PROOFS[element.tag]
    if kind == "ra-verified":
        if element.content:
            raise der.not_der("raVerified has no content")
        return ProofOfPossession(kind)
    if kind == "signature":
        return _read_signature(element.content)
    return ProofOfPossession(kind, method=_read_key_proof(element.content))


def _read_signature(content: bytes) -> ProofOfPossession:
    reader = der.Reader(content)
    signed = reader.optional(0xA0)
    algorithm, signature = reader.read(der.SEQUENCE), reader.read(der.BIT_STRING)
    reader.finish()
    octets, unused = der.decode_bit_string(signature.content)
    if unused:
        raise der.not_der("a signature has unused bits")
    return ProofOfPossession(
        "signature", algorithm.der, octets, None if signed is None else der.tlv(der.SEQUENCE, signed.content)
    )


def _read_key_proof(content: bytes) -> KeyProof:
    reader = der.Reader(content)
    element = reader.read()
    reader.finish()
    if element.tag == _SUBSEQUENT:
        return "encrypted-certificate" if der.decode_integer(element.content) == 0 else "challenge"
    methods: dict[int, KeyProof] = {0x80: "this-message", 0x82: "mac", 0xA3: "mac", 0xA4: "encrypted-key"}
    if element.tag not in methods:
        raise der.not_der("a proof of possession is of an unknown kind")
    return methods[element.tag]


def _read_validity(content: bytes) -> tuple[datetime | None, datetime | None]:
    reader = der.Reader(content)
    bounds = [reader.optional(tag) for tag in (0xA0, 0xA1)]
    reader.finish()
    first, last = (None if bound is None else der.decode_time(der.read_tlv(bound.content)) for bound in bounds)
    return first, last


# ---- writing ---------------------------------------------------------------------------------------------------------


def cert_template(
    *,
    subject: bytes | None = None,
    public_key: bytes | None = None,
    extensions: bytes | None = None,
    issuer: bytes | None = None,
    serial: int | None = None,
    validity: tuple[datetime | None, datetime | None] | None = None,
) -> bytes:
    """A CertTemplate; the arguments are as in :class:`CertTemplate`."""
    return der.sequence(
        b"" if serial is None else der.tlv(0x81, der.integer(serial)[2:]),
        b"" if issuer is None else der.explicit(3, issuer),
        b"" if validity is None else der.explicit(4, _validity(validity)),
        b"" if subject is None else der.explicit(5, subject),
        b"" if public_key is None else der.tlv(0xA6, der.read_tlv(public_key, der.SEQUENCE).content),
        b"" if extensions is None else der.tlv(0xA9, extensions),
    )


def cert_request(request_id: int, template: bytes, controls: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """A CertRequest, which is what a proof of possession signs."""
    listed = der.sequence(*(der.sequence(der.oid(oid), value) for oid, value in controls)) if controls else b""
    return der.sequence(der.integer(request_id), template, listed)


def cert_req_msg(request: bytes, proof: bytes = b"") -> bytes:
    """A CertReqMsg of a finished CertRequest and ProofOfPossession."""
    return der.sequence(request, proof)


def signature_proof(algorithm: bytes, signature: bytes) -> bytes:
    """ProofOfPossession: a signature over the CertRequest."""
    return der.explicit(1, algorithm + der.bit_string(signature))


def ra_verified() -> bytes:
    """ProofOfPossession: a registration authority says that it has seen one."""
    return der.implicit(0, b"")


def encrypted_certificate_proof() -> bytes:
    """ProofOfPossession: whoever can decrypt the certificate has the key. Source: RFC 4211 section 4.2."""
    return der.explicit(2, der.implicit(1, b"\x00"))


def cert_id(issuer: bytes, serial: int) -> bytes:
    """A CertId of an issuer's Name."""
    return der.sequence(der.explicit(4, issuer), der.integer(serial))


def _validity(bounds: tuple[datetime | None, datetime | None]) -> bytes:
    return b"".join(
        der.explicit(number, der.utc_or_generalized_time(bound))
        for number, bound in enumerate(bounds)
        if bound is not None
    )
