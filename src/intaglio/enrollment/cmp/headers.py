"""What a header must say before anything else counts. Source: RFC 9810 section 5.1.1, RFC 9483 section 3.5."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from intaglio.asn1 import der
from intaglio.asn1.cmp import Failure, PkiHeader
from intaglio.core.errors import InvalidInput
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import CERTIFICATE_PROFILE
from intaglio.enrollment.cmp.options import CmpOptions
from intaglio.enrollment.values import Endpoint
from intaglio.x509.names import Name

#: Versions that are spoken: cmp2000 and cmp2021.
VERSIONS: Final = (2, 3)
_SHORTEST_NONCE: Final = 16
_DIRECTORY_NAME: Final = 0xA4


def check_header(endpoint: Endpoint, header: PkiHeader, now: datetime) -> None:
    """Raise CmpRefusal for the first rule that a header breaks: unsupportedVersion, badRequest (no transactionID),
    badSenderNonce, missingTimeStamp, badTime, badRequest (a profile that is not offered)."""
    options: CmpOptions = endpoint.options
    if header.version not in VERSIONS:
        raise CmpRefusal(
            Failure.UNSUPPORTED_VERSION,
            f"Version {header.version} of CMP is not spoken here.",
            remedy="Use pvno 2 or 3.",
        )
    if not header.transaction_id:
        raise CmpRefusal(Failure.BAD_REQUEST, "The message has no transactionID.", remedy="Send 16 random octets.")
    nonce = header.sender_nonce or b""
    if len(nonce) < _SHORTEST_NONCE and not options.excludes("sender-nonce"):
        raise CmpRefusal(
            Failure.BAD_SENDER_NONCE, f"senderNonce has {len(nonce)} octets; at least {_SHORTEST_NONCE} are needed."
        )
    _check_time(options, header, now)
    _check_profile(endpoint, header)


def check_recipient(options: CmpOptions, header: PkiHeader, names: Iterable[Name]) -> None:
    """Raise CmpRefusal (wrongAuthority) unless the message is for one of ``names``, or for nobody in particular."""
    name = directory_name(header.recipient)
    if options.excludes("recipient") or (name is not None and name.is_empty):
        return
    if name is None or all(name.key != known.key for known in names):
        shown = "another kind of name" if name is None else f'"{name.rfc4514[:200]}"'
        raise CmpRefusal(
            Failure.WRONG_AUTHORITY,
            f"The message is for {shown}, not for the CA of this endpoint.",
            remedy="Name the CA as recipient, or nobody (an empty name).",
        )


def directory_name(general_name: bytes) -> Name | None:
    """The Name in a GeneralName; None for one of another kind. Raises InvalidInput."""
    element = der.read_tlv(general_name)
    return Name.from_der(element.content) if element.tag == _DIRECTORY_NAME else None


def as_general_name(name: Name) -> bytes:
    """A directoryName."""
    return der.explicit(4, name.der)


def _check_time(options: CmpOptions, header: PkiHeader, now: datetime) -> None:
    if options.excludes("message-time"):
        return
    if header.message_time is None:
        if options.require_message_time:
            raise CmpRefusal(Failure.MISSING_TIME_STAMP, "The message does not say its time (messageTime).")
        return
    off = abs((header.message_time - now).total_seconds())
    if off > options.message_time_window:
        raise CmpRefusal(
            Failure.BAD_TIME,
            f"messageTime is {off:.0f} seconds off; {options.message_time_window} are accepted.",
            remedy="Set the clock of the client right (NTP).",
        )


def _check_profile(endpoint: Endpoint, header: PkiHeader) -> None:
    """A client may say which profile it expects. Source: RFC 9483 section 3.1."""
    item = header.info(CERTIFICATE_PROFILE)
    if item is None:
        return
    elements = der.children(der.read_tlv(item.value or b"", der.SEQUENCE).content, 16)
    try:
        names = [element.content.decode("utf-8") for element in elements if element.tag == der.UTF8_STRING]
    except UnicodeDecodeError:
        raise InvalidInput("certProfile is not UTF-8.", code="invalid-der") from None
    if len(names) != 1 or names[0] not in (endpoint.profile, endpoint.name):
        raise CmpRefusal(
            Failure.BAD_REQUEST,
            f'This endpoint offers the profile "{endpoint.profile}" only.',
            remedy="Ask at the endpoint of the other profile, or leave certProfile out.",
        )
