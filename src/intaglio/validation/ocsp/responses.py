"""OCSP responses, assembled octet by octet. Source: RFC 6960 section 4.2.

Everything that does not change from answer to answer is encoded once; only the status, three times, the nonce and the
signature are new.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime

from intaglio.asn1 import der
from intaglio.validation.status_profiles import NEVER_ISSUED_SINCE

_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_ARCHIVE_CUTOFF = der.oid("1.3.6.1.5.5.7.48.1.6")
_EXTENDED_REVOKED = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.9"), der.octet_string(der.null()))
_SUCCESSFUL = der.enumerated(0)


def _refusal(status: int) -> bytes:
    return der.sequence(der.enumerated(status))


MALFORMED_REQUEST = _refusal(1)
INTERNAL_ERROR = _refusal(2)
TRY_LATER = _refusal(3)
SIGNATURE_REQUIRED = _refusal(5)
UNAUTHORIZED = _refusal(6)

GOOD = b"\x80\x00"
UNKNOWN = b"\x82\x00"


def revoked(at: datetime, reason: int | None) -> bytes:
    """CertStatus revoked with its time and CRLReason code (None and unspecified are left out)."""
    because = der.explicit(0, der.enumerated(reason)) if reason else b""
    return der.explicit(1, der.generalized_time(at) + because)


#: CertStatus of a certificate that was never issued, where that counts as revoked. Source: RFC 6960 section 2.2.
NEVER_ISSUED = revoked(NEVER_ISSUED_SINCE, 6)


def single_response(
    cert_id_and_status: bytes, this_update: bytes, next_update: bytes, extensions: bytes = b""
) -> bytes:
    """SingleResponse of a CertID, as in the request, and its CertStatus; the times are finished GeneralizedTimes
    (``next_update`` empty: none), ``extensions`` finished Extension TLVs."""
    after = der.tlv(0xA0, next_update) if next_update else b""
    further = der.tlv(0xA1, der.tlv(der.SEQUENCE, extensions)) if extensions else b""
    return der.tlv(der.SEQUENCE, cert_id_and_status + this_update + after + further)


def archive_cutoff(since: datetime) -> bytes:
    """The extension that says since when status is kept. Source: RFC 6960 section 4.4.4."""
    return der.sequence(_ARCHIVE_CUTOFF, der.octet_string(der.generalized_time(since)))


def responder_id(key_hash: bytes) -> bytes:
    """ResponderID byKey: SHA-1 over the responder's subjectPublicKey bits."""
    return der.explicit(2, der.octet_string(key_hash))


def responder_name(subject: bytes) -> bytes:
    """ResponderID byName: the responder's subject, DER."""
    return der.explicit(1, subject)


def response_data(
    responder: bytes,
    produced_at: bytes,
    singles: Iterable[bytes],
    nonce: bytes = b"",
    *,
    extended_revoked: bool = False,
) -> bytes:
    """ResponseData, the part that is signed; ``nonce`` is the extension value of the request. It comes last.

    ``extended_revoked`` says that certificates which were never issued count as revoked (RFC 6960 section 4.4.8).
    """
    extensions = _EXTENDED_REVOKED if extended_revoked else b""
    if nonce:
        extensions += der.tlv(der.SEQUENCE, _NONCE + der.tlv(der.OCTET_STRING, nonce))
    wrapped = der.tlv(0xA1, der.tlv(der.SEQUENCE, extensions)) if extensions else b""
    return der.tlv(der.SEQUENCE, responder + produced_at + der.tlv(der.SEQUENCE, b"".join(singles)) + wrapped)


def certificates(*certificate_ders: bytes) -> bytes:
    """The certs field of a BasicOCSPResponse."""
    return der.explicit(0, der.sequence(*certificate_ders))


def successful_response(data: bytes, signature_identifier: bytes, signature: bytes, certs: bytes) -> bytes:
    """OCSPResponse around a signed ResponseData; ``certs`` from :func:`certificates`."""
    signed = der.tlv(der.BIT_STRING, b"\0" + signature)
    content = len(data) + len(signature_identifier) + len(signed) + len(certs)
    return b"".join((_headers(content), data, signature_identifier, signed, certs))


def _headers(content: int) -> bytes:
    """Everything before the ResponseData, when ``content`` octets follow: six headers written at once."""
    if not 256 <= content < 65_000:  # else the lengths do not all have two octets
        basic = der.tlv(der.SEQUENCE, bytes(content))
        octets = der.tlv(der.SEQUENCE, _BASIC + der.tlv(der.OCTET_STRING, basic))
        whole = der.tlv(der.SEQUENCE, _SUCCESSFUL + der.tlv(0xA0, octets))
        return whole[: len(whole) - content]
    octets_length = content + 4
    bytes_length = octets_length + 4 + len(_BASIC)
    return _HEADERS.pack(
        b"\x30\x82", bytes_length + 8 + len(_SUCCESSFUL), _SUCCESSFUL, b"\xa0\x82", bytes_length + 4,
        b"\x30\x82", bytes_length, _BASIC, b"\x04\x82", octets_length, b"\x30\x82", content,
    )  # fmt: skip


_HEADERS = struct.Struct(f">2sH{len(_SUCCESSFUL)}s2sH2sH{len(_BASIC)}s2sH2sH")
