"""What a line of an access log says, whoever wrote it, and how products spell what was wrong with a certificate."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from intaglio.mtls.access.values import ReasonCode

LONGEST_LINE: Final = 16_384
_LONGEST_TEXT: Final = 500


class BadLine(Exception):
    """A line that cannot be read; its text says why."""


@dataclass(frozen=True)
class Entry:
    """One observation. ``reason`` is what was wrong with the certificate, ``subject`` and ``uri`` what it claims;
    ``ip_allowed`` is None where the log does not say. ``served`` tells that the ingress let the request through."""

    at: datetime
    kind: Literal["request", "handshake"] = "request"
    source_ip: str = ""
    reason: ReasonCode | None = None
    served: bool = True
    verified: bool = True
    ip_allowed: bool | None = None
    serial: bytes = b""
    fingerprint: bytes = b""
    issuer: str = ""
    subject: str = ""
    uri: str = ""
    not_after: datetime | None = None
    tls_version: str = ""
    cipher: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    detail: str = ""


_WORDS: Final = (
    ("no required ssl certificate", ReasonCode.NO_CERTIFICATE),
    ("peer_did_not_return", ReasonCode.NO_CERTIFICATE),
    ("did not return a certificate", ReasonCode.NO_CERTIFICATE),
    ("no client certificate", ReasonCode.NO_CERTIFICATE),
    ("self-signed certificate in", ReasonCode.UNKNOWN_CA),
    ("self signed certificate in", ReasonCode.UNKNOWN_CA),
    ("self-signed", ReasonCode.SELF_SIGNED),
    ("self signed", ReasonCode.SELF_SIGNED),
    ("not yet valid", ReasonCode.NOT_YET_VALID),
    ("clientcertcrlprocessing", ReasonCode.STATUS_UNAVAILABLE),
    ("clientcertcrlhit", ReasonCode.REVOKED),
    ("get certificate crl", ReasonCode.STATUS_UNAVAILABLE),
    ("crl has expired", ReasonCode.STATUS_UNAVAILABLE),
    ("crl is not yet", ReasonCode.STATUS_UNAVAILABLE),
    ("ocsp", ReasonCode.STATUS_UNAVAILABLE),
    ("expired", ReasonCode.EXPIRED),
    ("revoked", ReasonCode.REVOKED),
    ("purpose", ReasonCode.BAD_PURPOSE),
    ("signature failure", ReasonCode.BAD_SIGNATURE),
    ("too weak", ReasonCode.WEAK_KEY),
    ("too small", ReasonCode.WEAK_KEY),
)

# X509_V_ERR_... of openssl/x509_vfy.h, as HAProxy's ssl_c_verify says them; every other number is an unknown CA.
_NUMBERS: Final = {
    3: ReasonCode.STATUS_UNAVAILABLE,
    7: ReasonCode.BAD_SIGNATURE,
    9: ReasonCode.NOT_YET_VALID,
    10: ReasonCode.EXPIRED,
    11: ReasonCode.STATUS_UNAVAILABLE,
    12: ReasonCode.STATUS_UNAVAILABLE,
    18: ReasonCode.SELF_SIGNED,
    23: ReasonCode.REVOKED,
    26: ReasonCode.BAD_PURPOSE,
    66: ReasonCode.WEAK_KEY,
    67: ReasonCode.WEAK_KEY,
    68: ReasonCode.WEAK_KEY,
}


def reason_in(words: str) -> ReasonCode:
    """The reason code of what a product says about a certificate it did not take."""
    lower = words.lower()
    return next((reason for mark, reason in _WORDS if mark in lower), ReasonCode.UNKNOWN_CA)


def reason_of_verify(said: str) -> ReasonCode | None:
    """The reason code of ``$ssl_client_verify``, ``SSL_CLIENT_VERIFY``, ``ssl_c_verify`` or ALB's verify status; None
    when the certificate was good, and when nothing was verified."""
    if said in ("SUCCESS", "Success", "0"):
        return None
    if said in ("", "-", "NONE"):
        return ReasonCode.NO_CERTIFICATE
    if said.isascii() and said.isdigit():
        return _NUMBERS.get(int(said[:6]), ReasonCode.UNKNOWN_CA)
    return reason_in(said)


# ---- values ----------------------------------------------------------------------------------------------------------

_SERIAL = re.compile(r"(?:0x)?([0-9A-Fa-f]{1,64})")
_COLONS = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})+")
_UTC_TIME = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    """Seconds since 1970 with a fraction, or ISO 8601. Raises BadLine."""
    try:
        if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", text):
            found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(text))
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadLine("the time cannot be read") from None
    return checked_moment(found)


def local_moment(text: str) -> datetime:
    """The time of a combined log: ``21/Nov/2026:08:00:00 +0000``. Raises BadLine."""
    matched = _LOCAL.fullmatch(text)
    if matched is None:
        raise BadLine("the time cannot be read")
    day, month, year, clock, zone = matched.groups()
    number = _MONTHS.get(month)
    if number is None:
        raise BadLine("the time has no month")
    return moment(f"{year}-{number:02d}-{day}T{clock}{zone[:3]}:{zone[3:]}")


_LOCAL = re.compile(r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}:[0-9]{2}:[0-9]{2}) ([+-][0-9]{4})")
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS: Mapping[str, int] = {name: number for number, name in enumerate(_NAMES, 1)}


def checked_moment(found: datetime) -> datetime:
    """The moment in UTC. Raises BadLine for one without a zone, or in another century."""
    if found.tzinfo is None:
        raise BadLine("the time has no zone")
    try:
        found = found.astimezone(UTC)
    except OverflowError:
        raise BadLine("the time is out of range") from None
    if not _EARLIEST <= found < _LATEST:
        raise BadLine("the time is out of range")
    return found


def optional_moment(text: str) -> datetime | None:
    """A moment that is not worth losing a line over: ISO 8601, ``Nov 21 08:00:00 2026 GMT`` as OpenSSL writes, or the
    UTCTime of a certificate, ``261121080000Z``."""
    if matched := _UTC_TIME.fullmatch(text):
        year, month, day, hour, minute, second = matched.groups()
        century = "20" if year < "50" else "19"  # RFC 5280 section 4.1.2.5.1
        text = f"{century}{year}-{month}-{day}T{hour}:{minute}:{second}+00:00"
    try:
        return moment(text)
    except BadLine:
        pass
    try:
        # strptime would read the names of months in the language of the process.
        month, day, clock, year, zone = text.split()
        if zone != "GMT":
            return None
        return moment(f"{int(year):04d}-{_MONTHS[month]:02d}-{int(day):02d}T{clock}+00:00")
    except (BadLine, ValueError, KeyError):
        return None


def address(text: str) -> str:
    """An IP address, without port. Raises BadLine."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        raise BadLine("the address of the client cannot be read") from None
    return str(getattr(found, "ipv4_mapped", None) or found)


def serial_of(text: str) -> bytes:
    """A serial number in hexadecimal, with or without colons; nothing for what is none."""
    bare = text.replace(":", "") if _COLONS.fullmatch(text) else text
    matched = _SERIAL.fullmatch(bare)
    if matched is None:
        return b""
    digits = matched[1].lstrip("0")
    return bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")


def digest_of(text: str) -> bytes:
    """A SHA-256 fingerprint in hexadecimal; nothing for what is none."""
    bare = text.replace(":", "")
    return bytes.fromhex(bare) if re.fullmatch(r"[0-9A-Fa-f]{64}", bare) else b""


def words(text: object) -> str:
    """A text of the log, cut and without control characters; nothing for the dash that stands for nothing."""
    said = text if isinstance(text, str) else ""
    if said == "-":
        return ""
    return "".join(c if c.isprintable() else "?" for c in said[:_LONGEST_TEXT])


def route(target: str) -> str:
    """The path of a request target, without query."""
    return words(re.split(r"[?#]", target, maxsplit=1)[0])


def spiffe_in(text: str) -> str:
    """The first SPIFFE ID in a list of names; nothing when there is none."""
    matched = re.search(r"spiffe://[A-Za-z0-9._/:-]{1,300}", text)
    return matched[0] if matched else ""
