"""What messages of the Certificate Management Protocol consist of. Source: RFC 9810 section 5.

What belongs to a higher floor stays as it came: names, certificates and algorithm identifiers are DER.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from intaglio.asn1 import der


class Body(IntEnum):
    """The kinds of message; the value is the tag number of PKIBody."""

    IR = 0
    IP = 1
    CR = 2
    CP = 3
    P10CR = 4
    POPDECC = 5
    POPDECR = 6
    KUR = 7
    KUP = 8
    KRR = 9
    KRP = 10
    RR = 11
    RP = 12
    CCR = 13
    CCP = 14
    CKUANN = 15
    CANN = 16
    RANN = 17
    CRLANN = 18
    PKICONF = 19
    NESTED = 20
    GENM = 21
    GENP = 22
    ERROR = 23
    CERTCONF = 24
    POLLREQ = 25
    POLLREP = 26


class Status(IntEnum):
    """PKIStatus. Source: RFC 9810 section 5.2.3."""

    ACCEPTED = 0
    GRANTED_WITH_MODIFICATIONS = 1
    REJECTION = 2
    WAITING = 3
    REVOCATION_WARNING = 4
    REVOCATION_NOTIFICATION = 5
    KEY_UPDATE_WARNING = 6


class Failure(IntEnum):
    """Bits of PKIFailureInfo. Source: RFC 9810 section 5.2.3."""

    BAD_ALG = 0
    BAD_MESSAGE_CHECK = 1
    BAD_REQUEST = 2
    BAD_TIME = 3
    BAD_CERT_ID = 4
    BAD_DATA_FORMAT = 5
    WRONG_AUTHORITY = 6
    INCORRECT_DATA = 7
    MISSING_TIME_STAMP = 8
    BAD_POP = 9
    CERT_REVOKED = 10
    CERT_CONFIRMED = 11
    WRONG_INTEGRITY = 12
    BAD_RECIPIENT_NONCE = 13
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    ADD_INFO_NOT_AVAILABLE = 17
    BAD_SENDER_NONCE = 18
    BAD_CERT_TEMPLATE = 19
    SIGNER_NOT_TRUSTED = 20
    TRANSACTION_ID_IN_USE = 21
    UNSUPPORTED_VERSION = 22
    NOT_AUTHORIZED = 23
    SYSTEM_UNAVAIL = 24
    SYSTEM_FAILURE = 25
    DUPLICATE_CERT_REQ = 26

    @property
    def label(self) -> str:
        """The name of the bit in the standard, such as ``badMessageCheck``."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(word.upper() if word == "pop" else word.capitalize() for word in rest)


@dataclass(frozen=True, slots=True)
class InfoTypeAndValue:
    """An item of general information: dotted type, and the TLV of its value (None: absent)."""

    oid: str
    value: bytes | None = None

    @property
    def der(self) -> bytes:
        return der.sequence(der.oid(self.oid), self.value or b"")


@dataclass(frozen=True, slots=True)
class PkiHeader:
    """A PKIHeader: ``sender`` and ``recipient`` are GeneralNames, ``protection_algorithm`` an AlgorithmIdentifier."""

    version: int
    sender: bytes
    recipient: bytes
    message_time: datetime | None = None
    protection_algorithm: bytes | None = None
    sender_kid: bytes | None = None
    recipient_kid: bytes | None = None
    transaction_id: bytes | None = None
    sender_nonce: bytes | None = None
    recipient_nonce: bytes | None = None
    free_text: tuple[str, ...] = ()
    information: tuple[InfoTypeAndValue, ...] = ()

    def info(self, oid: str) -> InfoTypeAndValue | None:
        """The item of general information of a dotted type."""
        return next((item for item in self.information if item.oid == oid), None)


@dataclass(frozen=True, slots=True)
class PkiMessage:
    """A PKIMessage as it came: ``content`` is the TLV inside the body's tag, ``protected`` what a protection covers."""

    header: PkiHeader
    body: Body
    content: bytes = field(repr=False)
    protected: bytes = field(repr=False)
    protection: bytes | None = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)
    der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StatusInfo:
    """PKIStatusInfo: status, texts for people, and what is wrong."""

    status: int
    texts: tuple[str, ...] = ()
    failures: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CertStatus:
    """One certificate that a client accepts or rejects; ``hash_algorithm`` is an AlgorithmIdentifier (CMPv3)."""

    cert_hash: bytes
    request_id: int
    status: StatusInfo | None
    hash_algorithm: bytes | None


@dataclass(frozen=True, slots=True)
class RevocationDetails:
    """One certificate to be revoked: the CertTemplate that names it, and the content of its Extensions."""

    template: der.Element
    extensions: bytes | None
