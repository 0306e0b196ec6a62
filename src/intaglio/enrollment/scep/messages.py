"""SCEP messages: outside bytes become a checked request, and an answer becomes bytes. Source: RFC 8894 section 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Final

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_octets
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.cms.enveloped import EnvelopedData, read_enveloped
from intaglio.x509.cms.identifiers import DigestName, attribute
from intaglio.x509.cms.signed import SignedData, SignerInfo, read_signed_data
from intaglio.x509.names import Name

MESSAGE_TYPE: Final = "2.16.840.1.113733.1.9.2"
PKI_STATUS: Final = "2.16.840.1.113733.1.9.3"
FAIL_INFO: Final = "2.16.840.1.113733.1.9.4"
SENDER_NONCE: Final = "2.16.840.1.113733.1.9.5"
RECIPIENT_NONCE: Final = "2.16.840.1.113733.1.9.6"
TRANSACTION_ID: Final = "2.16.840.1.113733.1.9.7"
FAIL_INFO_TEXT: Final = "1.3.6.1.5.5.7.24.1"

#: A request with a hundred names and a chain fits many times.
MAX_MESSAGE_OCTETS: Final = 128 * 1024
NONCE_OCTETS: Final = 16
_LONGEST_NONCE: Final = 64
_LONGEST_TRANSACTION: Final = 256
_LONGEST_FAIL_TEXT: Final = 255


class MessageType(IntEnum):
    """What a message is. Source: RFC 8894 section 3.2.1.2."""

    CERT_REP = 3
    RENEWAL_REQ = 17
    PKCS_REQ = 19
    CERT_POLL = 20
    GET_CERT = 21
    GET_CRL = 22


class FailInfo(IntEnum):
    """Why a request was refused. Source: RFC 8894 section 3.2.1.4."""

    BAD_ALG = 0
    BAD_MESSAGE_CHECK = 1
    BAD_REQUEST = 2
    BAD_TIME = 3
    BAD_CERT_ID = 4


@dataclass(frozen=True)
class Envelope:
    """What a message says in the clear, signed but not verified yet. Read first, so that even a message that is refused
    can be answered by its transaction.

    ``transaction`` is the octets of its id; ``nonce`` None where the client sends none; ``certificate`` is the
    signer's.
    """

    signed: SignedData = field(repr=False)
    signer: SignerInfo = field(repr=False)
    transaction: bytes
    message_type: int | None
    nonce: bytes | None = field(repr=False)

    @property
    def digest(self) -> DigestName | None:
        """The digest of the signature, None for one that is not known."""
        return self.signer.digest

    @property
    def name(self) -> str:
        """The transaction, as it is shown and stored."""
        return self.transaction.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")

    def signer_certificate(self) -> CertificateInfo:
        """The certificate that the signature names. Raises InvalidInput."""
        return self.signed.signer_certificate()

    @cached_property
    def content(self) -> EnvelopedData:
        """The encrypted content. Raises InvalidInput (``cms-unparsable``)."""
        return read_enveloped(self.signed.content or b"", max_octets=MAX_MESSAGE_OCTETS)

    @property
    def signing_time(self) -> datetime | None:
        """When the client says to have signed. Raises InvalidInput (``cms-unparsable``)."""
        return self.signer.signing_time


def read_message(data: bytes) -> Envelope:
    """A message of a client, of at most 128 KiB.

    Raises TooLarge (``cms-too-large``), InvalidInput (``cms-unparsable``, ``scep-transaction-missing``).
    """
    signed = read_signed_data(data, max_octets=MAX_MESSAGE_OCTETS)
    signer = signed.signer
    try:
        transaction = signer.value(TRANSACTION_ID)
        nonce = signer.value(SENDER_NONCE)
        message_type = _decimal(signer.value(MESSAGE_TYPE))
    except InvalidInput as error:
        raise _malformed(error.detail) from None
    if transaction is None or not 0 < len(transaction.content) <= _LONGEST_TRANSACTION:
        raise InvalidInput(
            f"The message has no transaction id of 1 to {_LONGEST_TRANSACTION} octets.",
            code="scep-transaction-missing",
            remedy="Send a SCEP message (RFC 8894 section 3.2.1.1).",
        )
    if nonce is not None and not 0 < len(nonce.content) <= _LONGEST_NONCE:
        raise _malformed(f"a nonce has 1 to {_LONGEST_NONCE} octets")
    return Envelope(signed, signer, transaction.content, message_type, None if nonce is None else nonce.content)


def read_issuer_and_subject(data: bytes) -> tuple[Name, Name]:
    """The content of a poll. Raises InvalidInput (``cms-unparsable``). Source: RFC 8894 section 3.3.3."""
    try:
        fields = der.Reader(der.read_tlv(data, der.SEQUENCE).content)
        issuer, subject = Name.from_der(fields.read(der.SEQUENCE).der), Name.from_der(fields.read(der.SEQUENCE).der)
        fields.finish()
    except InvalidInput as error:
        raise _malformed(error.detail) from None
    return issuer, subject


def read_issuer_and_serial(data: bytes) -> tuple[Name, bytes]:
    """The content of GetCert and GetCRL; the serial number in minimal octets. Raises InvalidInput
    (``cms-unparsable``). Source: RFC 8894 sections 3.3.4 and 3.3.5."""
    try:
        fields = der.Reader(der.read_tlv(data, der.SEQUENCE).content)
        issuer = Name.from_der(fields.read(der.SEQUENCE).der)
        number = int.from_bytes(fields.read(der.INTEGER).content, "big", signed=True)
        fields.finish()
    except InvalidInput as error:
        raise _malformed(error.detail) from None
    return issuer, serial_octets(abs(number))


def reply_attributes(
    envelope: Envelope, nonce: bytes, status: int, fail_info: FailInfo | None = None, fail_text: str = ""
) -> tuple[bytes, ...]:
    """The signed attributes of a CertRep: ``status`` is 0 (success), 2 (failure) or 3 (pending); ``nonce`` is ours.

    The client's nonce and transaction id are given back as they came. Source: RFC 8894 section 3.2.1.
    """
    found = [
        attribute(MESSAGE_TYPE, der.printable_string(str(MessageType.CERT_REP.value))),
        attribute(PKI_STATUS, der.printable_string(str(status))),
        attribute(TRANSACTION_ID, *envelope.signer.attributes[TRANSACTION_ID]),
        attribute(SENDER_NONCE, der.octet_string(nonce)),
    ]
    if envelope.nonce is not None:
        found.append(attribute(RECIPIENT_NONCE, der.octet_string(envelope.nonce)))
    if fail_info is not None:
        found.append(attribute(FAIL_INFO, der.printable_string(str(fail_info.value))))
    if fail_text:
        found.append(attribute(FAIL_INFO_TEXT, der.utf8_string(fail_text[:_LONGEST_FAIL_TEXT])))
    return tuple(found)


def _decimal(value: der.Element | None) -> int | None:
    """A number as text; None for what is none."""
    text = b"" if value is None else value.content
    return int(text) if text.isdigit() and len(text) <= 4 else None


def _malformed(why: str) -> InvalidInput:
    return InvalidInput(
        f"The SCEP message cannot be read: {why.rstrip('.')}.",
        code="cms-unparsable",
        remedy="Send a message as RFC 8894 section 3 has it.",
    )
