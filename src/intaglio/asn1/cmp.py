"""Messages of the Certificate Management Protocol: a strict, bounded reader, and the writers.

Source: RFC 9810 section 5 and appendix F (CMPv3; CMPv2 of RFC 4210 is the same syntax with fewer choices). What belongs
to a higher floor stays as it came: names, certificates and algorithm identifiers are DER.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from intaglio.asn1 import der
from intaglio.asn1.cmp_values import (
    Body,
    CertStatus,
    Failure,
    InfoTypeAndValue,
    PkiHeader,
    PkiMessage,
    RevocationDetails,
    Status,
    StatusInfo,
)

__all__ = [
    "Body",
    "CertStatus",
    "Failure",
    "InfoTypeAndValue",
    "PkiHeader",
    "PkiMessage",
    "RevocationDetails",
    "Status",
    "StatusInfo",
]

#: Limits of one message: octets, certificates beside it, items of general information, texts, octets of a nonce.
MAX_MESSAGE_OCTETS: Final = 64 * 1024
MAX_CERTIFICATES: Final = 16
MAX_INFORMATION: Final = 32
MAX_TEXTS: Final = 16
MAX_IDENTIFIER_OCTETS: Final = 128
MAX_NESTED: Final = 16
MAX_ITEMS: Final = 16

_OPTIONAL_HEADER: Final = range(9)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_message(data: bytes) -> PkiMessage:
    """The message in ``data``. Raises InvalidInput (``invalid-der``) for anything else, and beyond the limits."""
    if len(data) > MAX_MESSAGE_OCTETS:
        raise der.not_der(f"a message is longer than {MAX_MESSAGE_OCTETS} octets")
    outer = der.Reader(data)
    reader = outer.enter()
    outer.finish()
    header, body = reader.read(der.SEQUENCE), reader.read()
    protection, certificates = reader.optional(0xA0), reader.optional(0xA1)
    reader.finish()
    kind = body.tag - 0xA0
    if not 0 <= kind < len(Body):
        raise der.not_der("the body is of an unknown kind")
    content = der.read_tlv(body.content)
    return PkiMessage(
        read_header(header.content),
        Body(kind),
        content.der,
        der.sequence(header.der, body.der),
        None if protection is None else _read_bits(protection.content),
        () if certificates is None else _read_certificates(certificates.content),
        data,
    )


def read_header(content: bytes) -> PkiHeader:
    """The PKIHeader with these content octets. Raises InvalidInput (``invalid-der``)."""
    reader = der.Reader(content)
    version = der.decode_integer(reader.read(der.INTEGER).content)
    sender, recipient = reader.read(), reader.read()
    for name in (sender, recipient):
        if not 0x80 <= name.tag <= 0xBF or (name.tag == 0xA4 and der.read_tlv(name.content).tag != der.SEQUENCE):
            raise der.not_der("sender and recipient are general names")
    fields: list[bytes | None] = [None] * len(_OPTIONAL_HEADER)
    for number in _OPTIONAL_HEADER:
        if (found := reader.optional(0xA0 | number)) is not None:
            fields[number] = found.content
    reader.finish()
    moment, algorithm, *identifiers, text, information = fields
    sender_kid, recipient_kid, transaction_id, sender_nonce, recipient_nonce = map(_read_identifier, identifiers)
    return PkiHeader(
        version,
        sender.der,
        recipient.der,
        None if moment is None else _read_moment(moment),
        None if algorithm is None else der.read_tlv(algorithm, der.SEQUENCE).der,
        sender_kid,
        recipient_kid,
        transaction_id,
        sender_nonce,
        recipient_nonce,
        () if text is None else read_texts(text),
        () if information is None else read_information(information),
    )


def read_information(content: bytes) -> tuple[InfoTypeAndValue, ...]:
    """The items of a SEQUENCE OF InfoTypeAndValue TLV, each type once. Raises InvalidInput (``invalid-der``)."""
    found = []
    for element in der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_INFORMATION):
        reader = der.Reader(element.der).enter()
        oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
        value = None if reader.at_end else reader.read().der
        reader.finish()
        found.append(InfoTypeAndValue(oid, value))
    if len({item.oid for item in found}) != len(found):
        raise der.not_der("general information repeats a type")
    return tuple(found)


def read_texts(content: bytes) -> tuple[str, ...]:
    """The texts of a PKIFreeText TLV. Raises InvalidInput (``invalid-der``)."""
    elements = der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_TEXTS)
    if any(element.tag != der.UTF8_STRING for element in elements):
        raise der.not_der("a text is a UTF8String")
    return tuple(element.content.decode("utf-8", "replace") for element in elements)


def read_status_info(element: der.Element) -> StatusInfo:
    """A PKIStatusInfo. Raises InvalidInput (``invalid-der``)."""
    reader = der.Reader(element.der).enter()
    status = der.decode_integer(reader.read(der.INTEGER).content)
    texts, failures = reader.optional(der.SEQUENCE), reader.optional(der.BIT_STRING)
    reader.finish()
    found = frozenset() if failures is None else _read_named_bits(failures.content)
    return StatusInfo(status, () if texts is None else read_texts(texts.der), found)


def read_cert_confirm(content: bytes) -> tuple[CertStatus, ...]:
    """The entries of a CertConfirmContent TLV; none means that every certificate is rejected.

    Raises InvalidInput (``invalid-der``). Source: RFC 9810 section 5.3.18.
    """
    entries = der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_ITEMS)
    return tuple(map(_read_cert_status, entries))


def read_poll_request(content: bytes) -> tuple[int, ...]:
    """The certReqIds of a PollReqContent TLV, at least one. Raises InvalidInput (``invalid-der``)."""
    found = []
    for element in der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_ITEMS):
        reader = der.Reader(element.der).enter()
        found.append(der.decode_integer(reader.read(der.INTEGER).content))
        reader.finish()
    if not found:
        raise der.not_der("a poll request names no certificate request")
    return tuple(found)


def read_revocation_request(content: bytes) -> tuple[RevocationDetails, ...]:
    """The certificates in a RevReqContent TLV, at least one. Raises InvalidInput (``invalid-der``)."""
    found = []
    for element in der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_ITEMS):
        reader = der.Reader(element.der).enter()
        template, extensions = reader.read(der.SEQUENCE), reader.optional(der.SEQUENCE)
        reader.finish()
        found.append(RevocationDetails(template, None if extensions is None else extensions.content))
    if not found:
        raise der.not_der("a revocation request names no certificate")
    return tuple(found)


def read_nested(content: bytes) -> tuple[bytes, ...]:
    """The messages in a NestedMessageContent TLV, at least one. Raises InvalidInput (``invalid-der``)."""
    found = der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_NESTED)
    if not found:
        raise der.not_der("a nested message contains no message")
    return tuple(element.der for element in found)


def read_error(content: bytes) -> StatusInfo:
    """The status of an ErrorMsgContent TLV, with its details among the texts. Raises InvalidInput (``invalid-der``)."""
    reader = der.Reader(content).enter()
    status = read_status_info(reader.read(der.SEQUENCE))
    reader.optional(der.INTEGER)
    details = reader.optional(der.SEQUENCE)
    reader.finish()
    texts = () if details is None else read_texts(details.der)
    return StatusInfo(status.status, (*status.texts, *texts), status.failures)


def _read_cert_status(element: der.Element) -> CertStatus:
    reader = der.Reader(element.der).enter()
    cert_hash, request_id = reader.read(der.OCTET_STRING), der.decode_integer(reader.read(der.INTEGER).content)
    status, algorithm = reader.optional(der.SEQUENCE), reader.optional(0xA0)
    reader.finish()
    return CertStatus(
        cert_hash.content,
        request_id,
        None if status is None else read_status_info(status),
        None if algorithm is None else der.read_tlv(algorithm.content, der.SEQUENCE).der,
    )


def _read_certificates(content: bytes) -> tuple[bytes, ...]:
    elements = der.children(der.read_tlv(content, der.SEQUENCE).content, MAX_CERTIFICATES)
    if any(element.tag != der.SEQUENCE for element in elements):
        raise der.not_der("extraCerts holds something that is not a certificate")
    return tuple(element.der for element in elements)


def _read_bits(content: bytes) -> bytes:
    octets, unused = der.decode_bit_string(der.read_tlv(content, der.BIT_STRING).content)
    if unused:
        raise der.not_der("a protection has unused bits")
    return octets


def _read_identifier(content: bytes | None) -> bytes | None:
    if content is None:
        return None
    octets = der.read_tlv(content, der.OCTET_STRING).content
    if len(octets) > MAX_IDENTIFIER_OCTETS:
        raise der.not_der(f"an identifier or nonce is longer than {MAX_IDENTIFIER_OCTETS} octets")
    return octets


def _read_moment(content: bytes) -> datetime:
    return der.decode_time(der.read_tlv(content, der.GENERALIZED_TIME))


def _read_named_bits(content: bytes) -> frozenset[int]:
    octets, unused = der.decode_bit_string(content)
    return frozenset(
        bit for bit in range(min(8 * len(octets) - unused, 64)) if octets[bit // 8] & 0x80 >> bit % 8
    )


# ---- writing ---------------------------------------------------------------------------------------------------------


def header(value: PkiHeader) -> bytes:
    """A PKIHeader."""
    identifiers = (
        value.sender_kid, value.recipient_kid, value.transaction_id, value.sender_nonce, value.recipient_nonce,
    )  # fmt: skip
    return der.sequence(
        der.integer(value.version),
        value.sender,
        value.recipient,
        b"" if value.message_time is None else der.explicit(0, der.generalized_time(value.message_time)),
        b"" if value.protection_algorithm is None else der.explicit(1, value.protection_algorithm),
        *(
            b"" if octets is None else der.explicit(number, der.octet_string(octets))
            for number, octets in enumerate(identifiers, 2)
        ),
        der.explicit(7, texts(value.free_text)) if value.free_text else b"",
        der.explicit(8, der.sequence(*(item.der for item in value.information))) if value.information else b"",
    )


def body(kind: Body, content: bytes) -> bytes:
    """A PKIBody around its finished content."""
    return der.explicit(kind, content)


def protected_part(header_der: bytes, body_der: bytes) -> bytes:
    """What a protection is computed over. Source: RFC 9810 section 5.1.3."""
    return der.sequence(header_der, body_der)


def message(header_der: bytes, body_der: bytes, protection: bytes | None, certificates: Sequence[bytes] = ()) -> bytes:
    """A PKIMessage of finished parts."""
    return der.sequence(
        header_der,
        body_der,
        b"" if protection is None else der.explicit(0, der.bit_string(protection)),
        der.explicit(1, der.sequence(*certificates)) if certificates else b"",
    )


def texts(values: Sequence[str]) -> bytes:
    """PKIFreeText."""
    return der.sequence(*map(der.utf8_string, values))


def status_info(value: StatusInfo) -> bytes:
    """PKIStatusInfo."""
    return der.sequence(
        der.integer(value.status),
        texts(value.texts) if value.texts else b"",
        der.named_bits(value.failures) if value.failures else b"",
    )


def cert_response(request_id: int, status: StatusInfo, key_pair: bytes = b"") -> bytes:
    """CertResponse; ``key_pair`` is a finished CertifiedKeyPair."""
    return der.sequence(der.integer(request_id), status_info(status), key_pair)


def certified_key_pair(certificate: bytes, private_key: bytes | None = None) -> bytes:
    """CertifiedKeyPair of a certificate, and of an EncryptedKey when the key was made here."""
    return der.sequence(
        der.explicit(0, certificate), b"" if private_key is None else der.explicit(0, private_key)
    )


def encrypted_key_pair(encrypted_key: bytes) -> bytes:
    """CertifiedKeyPair of a certificate in an EncryptedKey, which only the holder of the key can read."""
    return der.sequence(der.explicit(1, encrypted_key))


def cert_rep(response: bytes, ca_certificates: Sequence[bytes] = ()) -> bytes:
    """CertRepMessage with one finished CertResponse."""
    return der.sequence(
        der.explicit(1, der.sequence(*ca_certificates)) if ca_certificates else b"", der.sequence(response)
    )


def rev_rep(statuses: Sequence[StatusInfo], cert_ids: Sequence[bytes] = ()) -> bytes:
    """RevRepContent; ``cert_ids`` are finished CertIds, one per status, or none."""
    return der.sequence(
        der.sequence(*map(status_info, statuses)), der.explicit(0, der.sequence(*cert_ids)) if cert_ids else b""
    )


def poll_rep(request_id: int, check_after: int, reason: str = "") -> bytes:
    """PollRepContent of one request; ``check_after`` in seconds."""
    return der.sequence(
        der.sequence(der.integer(request_id), der.integer(check_after), texts((reason,)) if reason else b"")
    )


def error(status: StatusInfo, details: Sequence[str] = ()) -> bytes:
    """ErrorMsgContent."""
    return der.sequence(status_info(status), texts(details) if details else b"")


def cert_confirm(entries: Sequence[CertStatus]) -> bytes:
    """CertConfirmContent."""
    return der.sequence(*map(_cert_status, entries))


def poll_request(request_ids: Sequence[int]) -> bytes:
    """PollReqContent."""
    return der.sequence(*(der.sequence(der.integer(request_id)) for request_id in request_ids))


def _cert_status(entry: CertStatus) -> bytes:
    return der.sequence(
        der.octet_string(entry.cert_hash),
        der.integer(entry.request_id),
        b"" if entry.status is None else status_info(entry.status),
        b"" if entry.hash_algorithm is None else der.explicit(0, entry.hash_algorithm),
    )
