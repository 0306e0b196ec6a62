"""Certificate revocation lists, assembled from finished entries. Source: RFC 5280 section 5.

An entry is made once, when a certificate is revoked, and kept as bytes; a CRL of any size is then one concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as ext

#: CRLReason codes. Source: RFC 5280 section 5.3.1 (7 is not used).
REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}


def revoked_entry(
    serial: bytes,
    revoked_at: datetime,
    reason: int | None,
    invalidity_date: datetime | None = None,
    certificate_issuer: bytes | None = None,
) -> bytes:
    """One element of revokedCertificates.

    ``serial`` is unsigned big-endian, at most 20 octets; ``reason`` a CRLReason code, where None and 0 (unspecified)
    leave the extension out as RFC 5280 asks; ``certificate_issuer`` the DER Name of another issuer (indirect CRLs).
    Raises InvalidInput.
    """
    if invalidity_date is not None or certificate_issuer is not None:
        return _long_entry(serial, revoked_at, reason, invalidity_date, certificate_issuer)
    # The usual entry is shorter than 128 octets; writing its lengths directly lets a big CRL be rebuilt in a moment.
    number = _integer_octets(serial)
    moment = der.utc_or_generalized_time(revoked_at)
    extensions = _REASON_EXTENSIONS[reason] if reason in _REASON_EXTENSIONS else _unknown_reason(reason)
    length = 2 + len(number) + len(moment) + len(extensions)
    return bytes((0x30, length, 0x02, len(number))) + number + moment + extensions


def _long_entry(
    serial: bytes,
    revoked_at: datetime,
    reason: int | None,
    invalidity_date: datetime | None,
    certificate_issuer: bytes | None,
) -> bytes:
    if reason not in _REASON_EXTENSIONS:
        _unknown_reason(reason)
    extensions = _reason_extension(reason)
    if invalidity_date is not None:
        extensions += ext.extension(ext.INVALIDITY_DATE, False, der.generalized_time(invalidity_date))
    if certificate_issuer is not None:
        names = der.sequence(der.explicit(4, certificate_issuer))
        extensions += ext.extension(ext.CERTIFICATE_ISSUER, True, names)
    return der.sequence(
        der.tlv(der.INTEGER, _integer_octets(serial)),
        der.utc_or_generalized_time(revoked_at),
        der.tlv(der.SEQUENCE, extensions),
    )


def _integer_octets(serial: bytes) -> bytes:
    if not 0 < len(serial) <= 20:
        raise InvalidInput("A serial number has 1 to 20 octets.")
    return serial if 0 < serial[0] < 0x80 else der.integer(serial)[2:]


def assemble_tbs_crl(
    *,
    signature_identifier: bytes,
    issuer_der: bytes,
    this_update: datetime,
    next_update: datetime,
    entries: bytes,
    number: int,
    aki: bytes,
    delta_base: int | None = None,
    idp: bytes | None = None,
    freshest_urls: Sequence[str] = (),
) -> bytes:
    """TBSCertList (v2).

    ``entries`` are concatenated results of :func:`revoked_entry`; ``number`` is the CRL number (below 2^159); ``aki``
    the issuer's subject key identifier; ``delta_base`` the number of the complete CRL a delta is relative to; ``idp`` a
    value of :func:`issuing_distribution_point`; ``freshest_urls`` where deltas are (only in a complete CRL). Raises
    InvalidInput when these do not go together.
    """
    _check(this_update, next_update, number, delta_base, freshest_urls)
    extensions = ext.extension(ext.AUTHORITY_KEY_IDENTIFIER, False, ext.authority_key_identifier(aki))
    extensions += ext.extension(ext.CRL_NUMBER, False, der.integer(number))
    if delta_base is not None:
        extensions += ext.extension(ext.DELTA_CRL_INDICATOR, True, der.integer(delta_base))
    if idp is not None:
        extensions += ext.extension(ext.ISSUING_DISTRIBUTION_POINT, True, idp)
    if freshest_urls:
        extensions += ext.extension(ext.FRESHEST_CRL, False, ext.freshest_crl(freshest_urls))
    return der.sequence(
        der.integer(1),
        signature_identifier,
        issuer_der,
        der.utc_or_generalized_time(this_update),
        der.utc_or_generalized_time(next_update),
        # An empty list must be absent (RFC 5280 section 5.1.2.6).
        der.tlv(der.SEQUENCE, entries) if entries else b"",
        der.explicit(0, der.tlv(der.SEQUENCE, extensions)),
    )


def assemble_crl(tbs: bytes, signature_identifier: bytes, signature: bytes) -> bytes:
    """CertificateList from a TBSCertList, the same AlgorithmIdentifier as inside it, and the signature octets."""
    return der.sequence(tbs, signature_identifier, der.bit_string(signature))


def issuing_distribution_point(
    url: str | None = None, *, only_user: bool = False, only_ca: bool = False, indirect: bool = False
) -> bytes:
    """IssuingDistributionPoint value: the scope of a partitioned CRL.

    ``url`` is the one the certificates of the partition name in their CRL distribution point. Raises InvalidInput when
    nothing restricts the scope, or both user and CA certificates are excluded. Source: RFC 5280 section 5.2.5.
    """
    if only_user and only_ca:
        raise InvalidInput("A CRL cannot be for user certificates only and for CA certificates only.")
    parts = [
        der.explicit(0, ext.full_name(url)) if url else b"",
        der.implicit(1, b"\xff") if only_user else b"",
        der.implicit(2, b"\xff") if only_ca else b"",
        der.implicit(4, b"\xff") if indirect else b"",
    ]
    if not any(parts):
        raise InvalidInput("An issuing distribution point must restrict something.")
    return der.sequence(*parts)


def _check(
    this_update: datetime, next_update: datetime, number: int, delta_base: int | None, freshest_urls: Sequence[str]
) -> None:
    if next_update <= this_update:
        raise InvalidInput("The next update of a CRL must be after this update.")
    if not 0 <= number < 1 << 159:
        raise InvalidInput("A CRL number is not negative and has at most 20 octets.")
    if delta_base is not None and not 0 <= delta_base < number:
        raise InvalidInput("The base of a delta CRL must have a lower number than the delta.")
    if delta_base is not None and freshest_urls:
        raise InvalidInput("A delta CRL must not point to delta CRLs.")


def _reason_extension(reason: int | None) -> bytes:
    return b"" if not reason else ext.extension(ext.REASON_CODE, False, der.enumerated(reason))


def _unknown_reason(reason: int | None) -> bytes:
    raise InvalidInput(f"{reason} is not a CRL reason code.", remedy="Use 0 to 6 or 8 to 10.")


_REASON_EXTENSIONS: dict[int | None, bytes] = {
    code: der.sequence(_reason_extension(code)) if code else b"" for code in (None, *REASONS.values())
}
