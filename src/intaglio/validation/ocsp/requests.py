"""OCSP requests: a strict, bounded parser. Source: RFC 6960 section 4.1."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_octets

#: More is not even parsed; a lower limit is a live setting (``ocsp.max_body_octets``).
MAX_REQUEST_OCTETS = 32 * 1024
#: Certificates one request may ask about.
MAX_CERTIFICATES = 32
#: Source: RFC 9654 section 2.1 (1 to 128 octets; new clients send at least 32).
MAX_NONCE_OCTETS = 128
#: Certificates that may come with the signature of a request.
MAX_SIGNER_CERTIFICATES = 6
_MAX_EXTENSIONS = 16

_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
# Understood in the sense that ignoring them is what their standard permits even when they are critical: acceptable
# response types (there is only one type), preferred signature algorithms, service locator (nothing is forwarded).
_IGNORED = frozenset(map(der.oid, ("1.3.6.1.5.5.7.48.1.4", "1.3.6.1.5.5.7.48.1.8", "1.3.6.1.5.5.7.48.1.7")))


@dataclass(frozen=True, slots=True)
class CertId:
    """One certificate asked about.

    ``der`` is the CertID as sent, for the answer repeats it byte for byte; ``issuer`` its hash algorithm,
    issuerNameHash and issuerKeyHash as sent; ``serial`` minimal big-endian octets, None for a negative number.
    """

    der: bytes
    issuer: bytes
    serial: bytes | None


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """The signature of a request, well-formed but not checked. ``signed`` is the TBSRequest, ``requestor`` the
    GeneralName that it names (empty without), ``certificates`` are DER, at most ``MAX_SIGNER_CERTIFICATES``."""

    signed: bytes = field(repr=False)
    requestor: bytes = field(repr=False)
    algorithm: str
    value: bytes = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """A parsed request; ``nonce`` is the value of the nonce extension as sent (an OCTET STRING), or None."""

    certificates: tuple[CertId, ...]
    nonce: bytes | None = field(repr=False)
    signature: RequestSignature | None = None


def parse_request(data: bytes) -> OcspRequest:
    """The request in ``data``. Raises InvalidInput for anything malformed, too large, or critical and not understood.

    A signature on the request is read, not checked: only some authorities want to know who asks.
    """
    if len(data) > MAX_REQUEST_OCTETS:
        raise InvalidInput(f"An OCSP request has at most {MAX_REQUEST_OCTETS} octets.")
    outer = der.children(der.read_tlv(data, der.SEQUENCE).content, 2)
    if not outer or outer[0].tag != der.SEQUENCE or (len(outer) == 2 and outer[1].tag != 0xA0):
        raise der.not_der("an OCSPRequest is a TBSRequest and an optional signature")
    fields = {element.tag: element.content for element in der.children(outer[0].content, 4)}
    order = [element.tag for element in der.children(outer[0].content, 4)]
    if order != [tag for tag in (0xA0, 0xA1, der.SEQUENCE, 0xA2) if tag in fields] or der.SEQUENCE not in fields:
        raise der.not_der("a TBSRequest has fields that are repeated, missing or out of order")
    if fields.get(0xA0, b"\x02\x01\x00") != b"\x02\x01\x00":
        raise InvalidInput("The version of the OCSP request is not 1.")
    requestor = der.read_tlv(fields[0xA1]).der if 0xA1 in fields else b""
    certificates = tuple(_request(element) for element in der.children(fields[der.SEQUENCE], MAX_CERTIFICATES))
    if not certificates:
        raise InvalidInput("The OCSP request asks about no certificate.")
    nonce = _extensions(fields[0xA2], nonce_allowed=True) if 0xA2 in fields else None
    signature = _signature(outer[0].der, requestor, outer[1].content) if len(outer) == 2 else None
    return OcspRequest(certificates, nonce, signature)


def split_nonce(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What stands before, in (the extension's value) and behind the nonce of a request; None when no usual nonce is
    found. Only a search for octets: whether it is a nonce, and a request at all, is for the parser to say."""
    mark = data.rfind(_NONCE)
    start = mark + len(_NONCE)
    if mark < 0 or len(data) < start + 4 or data[start] != der.OCTET_STRING or data[start + 2] != der.OCTET_STRING:
        return None
    length = data[start + 1]
    end = start + 2 + length
    if length != data[start + 3] + 2 or length >= 0x80 or end > len(data):
        return None
    return data[: start + 4], data[start + 2 : end], data[end:]


def decode_get_path(text: str) -> bytes:
    """The request in the last part of a GET path, percent-decoded: base64 with or without padding, of either alphabet,
    with any number of slashes before it. Raises InvalidInput. Source: RFC 6960 appendix A.1."""
    encoded = text.lstrip("/").replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    if len(encoded) > MAX_REQUEST_OCTETS * 4 // 3 + 4:
        raise InvalidInput(f"An OCSP request has at most {MAX_REQUEST_OCTETS} octets.")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The path does not end in a base64 OCSP request.") from None


def _signature(signed: bytes, requestor: bytes, explicit: bytes) -> RequestSignature:
    """Signature ::= SEQUENCE { AlgorithmIdentifier, BIT STRING, certs [0] EXPLICIT Certificates OPTIONAL }"""
    parts = der.children(der.read_tlv(explicit, der.SEQUENCE).content, 3)
    tags = [part.tag for part in parts]
    if tags not in ([der.SEQUENCE, der.BIT_STRING], [der.SEQUENCE, der.BIT_STRING, 0xA0]):
        raise der.not_der("a Signature is an algorithm, a bit string and optional certificates")
    algorithm = der.children(parts[0].content, 2)
    if not algorithm or algorithm[0].tag != der.OBJECT_IDENTIFIER:
        raise der.not_der("an AlgorithmIdentifier starts with an object identifier")
    value, unused = der.decode_bit_string(parts[1].content)
    if unused:
        raise der.not_der("a signature has no unused bits")
    certificates: tuple[bytes, ...] = ()
    if len(parts) == 3:
        elements = der.children(der.read_tlv(parts[2].content, der.SEQUENCE).content, MAX_SIGNER_CERTIFICATES)
        certificates = tuple(element.der for element in elements)
    return RequestSignature(signed, requestor, der.decode_oid(algorithm[0].content), value, certificates)


def _request(element: der.Element) -> CertId:
    if element.tag != der.SEQUENCE:
        raise der.unexpected_tag(der.SEQUENCE, element.tag)
    parts = der.children(element.content, 2)
    if not parts or parts[0].tag != der.SEQUENCE or (len(parts) == 2 and parts[1].tag != 0xA0):
        raise der.not_der("a Request is a CertID and optional extensions")
    if len(parts) == 2:
        _extensions(parts[1].content, nonce_allowed=False)
    return _cert_id(parts[0])


def _cert_id(element: der.Element) -> CertId:
    parts = der.children(element.content, 4)
    if [part.tag for part in parts] != [der.SEQUENCE, der.OCTET_STRING, der.OCTET_STRING, der.INTEGER]:
        raise der.not_der("a CertID is an algorithm, two hashes and a serial number")
    algorithm = der.children(parts[0].content, 2)
    if not algorithm or algorithm[0].tag != der.OBJECT_IDENTIFIER:
        raise der.not_der("an AlgorithmIdentifier starts with an object identifier")
    serial = der.decode_integer(parts[3].content)
    issuer = element.content[: len(element.content) - len(parts[3].der)]
    return CertId(element.der, issuer, serial_octets(serial) if serial >= 0 else None)


def _extensions(explicit: bytes, *, nonce_allowed: bool) -> bytes | None:
    """Check Extensions; returns the value of the nonce extension."""
    nonce = None
    seen = set()
    elements = der.children(der.read_tlv(explicit, der.SEQUENCE).content, _MAX_EXTENSIONS)
    if not elements:
        raise der.not_der("Extensions are not empty")
    for element in elements:
        oid, critical, value = _extension(element)
        if oid in seen:
            raise InvalidInput("An extension of the OCSP request is repeated.")
        seen.add(oid)
        if oid == _NONCE and nonce_allowed:
            nonce = _checked_nonce(value)
        elif critical and oid not in _IGNORED:
            raise InvalidInput(f"The critical extension {der.decode_oid(oid[2:])} is not understood.")
    return nonce


def _extension(element: der.Element) -> tuple[bytes, bool, bytes]:
    parts = der.children(element.content, 3) if element.tag == der.SEQUENCE else []
    tags = [part.tag for part in parts]
    if tags == [der.OBJECT_IDENTIFIER, der.OCTET_STRING]:
        critical = False
    elif tags == [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING]:
        critical = der.decode_boolean(parts[1].content)
    else:
        raise der.not_der("an Extension is an identifier, an optional boolean and an octet string")
    der.decode_oid(parts[0].content)
    return parts[0].der, critical, parts[-1].content


def _checked_nonce(value: bytes) -> bytes:
    nonce = der.read_tlv(value, der.OCTET_STRING).content
    if not 0 < len(nonce) <= MAX_NONCE_OCTETS:
        raise InvalidInput(f"A nonce has 1 to {MAX_NONCE_OCTETS} octets.")
    return value
