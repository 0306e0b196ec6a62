"""Lint: what would make a certificate break a standard, found before it is signed.

``lint_certificate`` is for every issuance and costs some tens of microseconds; ``deep_lint`` is pkilint, for profile
activation and tests. Findings of severity ``error`` must stop the signature.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from cryptography import x509 as pyca

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as ext
from intaglio.x509.attribute_types import BY_OID
from intaglio.x509.names import PRINTABLE_TEXT, Attribute, Name

Severity = Literal["error", "warning"]
Kind = Literal["certificate", "crl", "ocsp-response"]


class Finding(NamedTuple):
    """One fault: ``code`` is stable and kebab-case, ``text`` one sentence without its full stop."""

    severity: Severity
    code: str
    text: str


class _Tbs(NamedTuple):
    """The parts of a TBSCertificate that the checks look at, as raw DER."""

    tbs: bytes
    serial: bytes
    signature: bytes
    issuer: bytes
    not_before: bytes
    not_after: bytes
    subject: bytes
    spki: bytes
    #: (critical, value) by the content octets of the OID.
    extensions: dict[bytes, tuple[bool, bytes]]


def lint_certificate(data: bytes) -> list[Finding]:
    """Findings on a DER TBSCertificate that is about to be signed, or on a complete certificate.

    Never raises: bytes that cannot be read are one finding (``unreadable``). Sources: RFC 5280 section 4, RFC 3161
    section 2.3, RFC 8813, RFC 9881.
    """
    try:
        tbs = _read(data)
        return [finding for check in _CHECKS for finding in check(tbs)]
    except InvalidInput as error:
        return [Finding("error", "unreadable", error.detail.rstrip("."))]


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> _Tbs:
    header = der.header
    _, start, end = header(data, 0, len(data))
    if data[start : start + 1] == b"\x30":  # a complete certificate: take its TBSCertificate
        _, position, stop = header(data, start, end)
        data, start, end = data[start:stop], position - start, stop - start
    elif end != len(data):
        raise der.not_der("there is trailing data")
    tag, position, stop = header(data, start, end)
    if tag != 0xA0 or data[position:stop] != b"\x02\x01\x02":
        raise der.not_der("a certificate must be of version 3")
    fields: list[tuple[int, int, int]] = []
    while stop < end:
        first = stop
        tag, position, stop = header(data, first, end)
        fields.append((tag, first, stop))
    tags = [field[0] for field in fields]
    if tags[:6] != [der.INTEGER] + [der.SEQUENCE] * 5 or tags[6:] not in ([], [0xA3]):
        raise der.not_der("a TBSCertificate has its fields in another order, or unique identifiers")
    parts = [data[first:last] for _, first, last in fields]
    validity = der.Reader(parts[3]).enter()
    not_before, not_after = validity.read().der, validity.read().der
    validity.finish()
    extensions = _read_extensions(parts[6]) if len(parts) == 7 else {}
    return _Tbs(data, parts[0], parts[1], parts[2], not_before, not_after, parts[4], parts[5], extensions)


def _read_extensions(wrapped: bytes) -> dict[bytes, tuple[bool, bytes]]:
    header = der.header
    _, start, end = header(wrapped, 0, len(wrapped))
    tag, position, stop = header(wrapped, start, end)
    if tag != der.SEQUENCE or stop != end or position == end:
        raise der.not_der("extensions are a SEQUENCE of at least one")
    found: dict[bytes, tuple[bool, bytes]] = {}
    while position < end:
        tag, start, stop = header(wrapped, position, end)
        oid_tag, oid_start, oid_end = header(wrapped, start, stop)
        critical = wrapped[oid_end : oid_end + 3] == b"\x01\x01\xff"
        value_tag, value_start, value_end = header(wrapped, oid_end + 3 if critical else oid_end, stop)
        if (tag, oid_tag, value_tag) != (der.SEQUENCE, der.OBJECT_IDENTIFIER, der.OCTET_STRING) or value_end != stop:
            raise der.not_der("an extension is not in its form")
        oid = wrapped[oid_start:oid_end]
        if oid in found:
            raise der.not_der(f"extension {der.decode_oid(oid)} occurs twice")
        found[oid] = (critical, wrapped[value_start:value_end])
        position = stop
    return found


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_serial(tbs: _Tbs) -> Iterator[Finding]:
    octets = tbs.serial[2:]
    if not 0 < len(octets) <= 20 or octets[0] & 0x80 or octets == b"\x00":
        yield Finding("error", "serial-number", "the serial number is not positive or longer than 20 octets")
    elif octets[0] == 0 and not octets[1] & 0x80:
        yield Finding("error", "serial-number", "the serial number is padded")


def _check_validity(tbs: _Tbs) -> Iterator[Finding]:
    begin, end = _sortable_time(tbs.not_before), _sortable_time(tbs.not_after)
    if begin is None or end is None:
        yield Finding("error", "validity-encoding", "a time is not UTCTime until 2049 and GeneralizedTime from 2050")
    elif begin >= end:
        yield Finding("error", "validity-order", "the certificate ends before it begins")


def _sortable_time(time: bytes) -> bytes | None:
    digits = time[2:-1]
    if time[-1:] != b"Z" or not digits.isdigit():
        return None
    if time[0] == der.UTC_TIME and len(digits) == 12:
        return (b"20" if digits < b"50" else b"19") + digits
    return digits if time[0] == der.GENERALIZED_TIME and len(digits) == 14 and digits >= b"2050" else None


def _check_names(tbs: _Tbs) -> Iterator[Finding]:
    if tbs.issuer == b"\x30\x00":
        yield Finding("error", "issuer-empty", "the issuer is empty")
    for rdn in Name(tbs.subject).attributes:
        for attribute in rdn:
            yield from _check_attribute(attribute)


def _check_attribute(attribute: Attribute) -> Iterator[Finding]:
    oid, value, raw = attribute
    known = BY_OID.get(oid)
    if _DECEPTIVE.search(value):
        # Programs that end a text at NUL, or show it as it comes, would see another name than the one certified.
        yield Finding("error", "control-character", f"{known.name if known else oid} has deceptive characters")
    elif _UNPRINTABLE.search(value):
        yield Finding("warning", "unprintable", f"{known.name if known else oid} has unprintable characters")
    if raw[0] == der.PRINTABLE_STRING and not PRINTABLE_TEXT.fullmatch(value):
        yield Finding("warning", "printable-string", f"{oid} has characters that a PrintableString must not have")
    if known is None:
        return
    if known.is_country and (len(value) != 2 or not value.isalpha() or raw[0] != der.PRINTABLE_STRING):
        yield Finding("error", "country", f"{known.name} is not a PrintableString of two letters")
    elif not attribute.is_text:
        yield Finding("error", "attribute-type", f"{known.name} is no character string")
    elif len(value) > known.upper_bound:
        yield Finding("error", "attribute-length", f"{known.name} is longer than {known.upper_bound} characters")
    elif not value:
        yield Finding("warning", "attribute-empty", f"{known.name} is empty")


def _check_ca(tbs: _Tbs) -> Iterator[Finding]:
    critical, value = tbs.extensions.get(_BASIC_CONSTRAINTS, _ABSENT)
    is_ca, path_len = (False, None) if value in (b"", b"\x30\x00") else ext.read_basic_constraints(value)
    usage_critical, usage_value = tbs.extensions.get(_KEY_USAGE, _ABSENT)
    usage = _key_usage(usage_value) if usage_value else frozenset()
    if usage_value and not usage:
        yield Finding("error", "key-usage-empty", "the key usage has no bit set")
    if usage_value and not usage_critical:
        yield Finding("warning", "key-usage-not-critical", "the key usage is not critical")
    if path_len is not None and not is_ca:
        yield Finding("error", "path-length", "a path length constraint stands in a certificate that is no CA")
    if is_ca and not critical:
        yield Finding("error", "basic-constraints-not-critical", "the basic constraints of a CA are not critical")
    if is_ca and "keyCertSign" not in usage:
        yield Finding("error", "ca-key-usage", "a CA lacks the key usage keyCertSign")
    if not is_ca and "keyCertSign" in usage:
        yield Finding("error", "ca-key-usage", "keyCertSign stands in a certificate that is no CA")
    if not is_ca and "cRLSign" in usage:
        yield Finding("warning", "crl-sign-without-ca", "cRLSign stands in a certificate that is no CA")
    if usage & _ENCIPHERMENT and not _can_encipher(tbs.spki):
        yield Finding("warning", "key-usage-algorithm", "keyEncipherment or dataEncipherment does not fit the key")
    if not is_ca:
        yield from _check_purposes(tbs, usage if usage_value else None)


def _can_encipher(spki: bytes) -> bool:
    # Only RSA keys can; RFC 8813 section 3, RFC 8410 section 5 and RFC 9881 section 5 forbid the bits for the others.
    return _RSA_ENCRYPTION in spki[:24]


def _check_purposes(tbs: _Tbs, usage: frozenset[str] | None) -> Iterator[Finding]:
    critical, value = tbs.extensions.get(_EXTENDED_KEY_USAGE, _ABSENT)
    if not value:
        return
    purposes = _extended_key_usage(value)
    if len(set(purposes)) != len(purposes):
        yield Finding("error", "extended-key-usage-twice", "an extended key usage occurs twice")
    for purpose in purposes:
        wanted = _CONSISTENT_USAGE.get(purpose)
        if wanted and usage is not None and not usage & wanted:
            yield Finding(
                "error", "usage-inconsistent", f"extended key usage {purpose} needs one of {', '.join(sorted(wanted))}"
            )
    if ext.TIME_STAMPING in purposes and (not critical or len(purposes) > 1):
        yield Finding("warning", "time-stamping", "RFC 3161 wants timeStamping alone and critical")


def _check_key_identifiers(tbs: _Tbs) -> Iterator[Finding]:
    subject_critical, subject = tbs.extensions.get(_SUBJECT_KEY_IDENTIFIER, _ABSENT)
    authority_critical, authority = tbs.extensions.get(_AUTHORITY_KEY_IDENTIFIER, _ABSENT)
    if subject_critical or authority_critical:
        yield Finding("error", "key-identifier-critical", "a key identifier is critical")
    if subject[:1] != b"\x04" or len(subject) < 3 or subject[1] != len(subject) - 2:
        yield Finding("error", "subject-key-identifier", "the subject key identifier is missing or malformed")
    if authority[:1] != b"\x30" and tbs.issuer != tbs.subject:
        yield Finding("error", "authority-key-identifier", "the authority key identifier is missing")


def _check_alternative_names(tbs: _Tbs) -> Iterator[Finding]:
    critical, value = tbs.extensions.get(_SUBJECT_ALT_NAME, _ABSENT)
    if tbs.subject == b"\x30\x00" and not critical:
        yield Finding("error", "subject-empty", "an empty subject needs a critical subject alternative name")
    if not value:
        return
    if critical and tbs.subject != b"\x30\x00":
        yield Finding("warning", "san-critical", "the subject alternative name is critical beside a subject")
    tag, position, end = der.header(value, 0, len(value))
    if tag != der.SEQUENCE or end != len(value) or position == end:
        yield Finding("error", "san-malformed", "the subject alternative name is empty or malformed")
        return
    while position < end:
        tag, start, position = der.header(value, position, end)
        syntax = _GENERAL_NAME_SYNTAX.get(tag)
        if syntax is not None and (position - start > syntax[1] or not syntax[0].fullmatch(value, start, position)):
            shown = value[start:position][:80].decode("ascii", "backslashreplace")
            yield Finding("error", "san-syntax", f'"{shown}" is not a {syntax[2]}')


def _check_re_readable(tbs: _Tbs) -> Iterator[Finding]:
    # A stranger must read what we wrote; the signature does not matter for that. (A wrong serial number is found above,
    # and would only make the library warn.)
    if any(_check_serial(tbs)):
        return
    try:
        pyca.load_der_x509_certificate(der.sequence(tbs.tbs, tbs.signature, b"\x03\x01\x00"))
    except ValueError as error:
        yield Finding("error", "unreadable", f"another implementation cannot read it: {error}")


_CHECKS: tuple[Callable[[_Tbs], Iterator[Finding]], ...] = (
    _check_serial,
    _check_validity,
    _check_names,
    _check_ca,
    _check_key_identifiers,
    _check_alternative_names,
    _check_re_readable,
)

# ---- tables ----------------------------------------------------------------------------------------------------------


def _oid_content(dotted: str) -> bytes:
    return der.oid(dotted)[2:]


_ABSENT: tuple[bool, bytes] = (False, b"")
#: What ends a text, steers a terminal, breaks a line, or turns the direction of writing.
_DECEPTIVE = re.compile("[\\x00\\n\\r\\x1b\\x9b\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
#: The other control characters (C0, DEL, C1): old devices have them in their names, and they are shown escaped.
_UNPRINTABLE = re.compile("[\\x01-\\x1f\\x7f-\\x9f]")
_BASIC_CONSTRAINTS = _oid_content(ext.BASIC_CONSTRAINTS)
_KEY_USAGE = _oid_content(ext.KEY_USAGE)
_EXTENDED_KEY_USAGE = _oid_content(ext.EXTENDED_KEY_USAGE)
_SUBJECT_KEY_IDENTIFIER = _oid_content(ext.SUBJECT_KEY_IDENTIFIER)
_AUTHORITY_KEY_IDENTIFIER = _oid_content(ext.AUTHORITY_KEY_IDENTIFIER)
_SUBJECT_ALT_NAME = _oid_content(ext.SUBJECT_ALT_NAME)
_RSA_ENCRYPTION = der.oid("1.2.840.113549.1.1.1")
_ENCIPHERMENT = frozenset({"keyEncipherment", "dataEncipherment"})

#: Key usage of which at least one bit must be there. Source: RFC 5280 section 4.2.1.12, RFC 3161, RFC 6960.
_CONSISTENT_USAGE = {
    ext.SERVER_AUTH: frozenset({"digitalSignature", "keyEncipherment", "keyAgreement"}),
    ext.CLIENT_AUTH: frozenset({"digitalSignature", "keyAgreement"}),
    ext.CODE_SIGNING: frozenset({"digitalSignature"}),
    ext.EMAIL_PROTECTION: frozenset({"digitalSignature", "nonRepudiation", "keyEncipherment", "keyAgreement"}),
    ext.TIME_STAMPING: frozenset({"digitalSignature", "nonRepudiation"}),
    ext.OCSP_SIGNING: frozenset({"digitalSignature", "nonRepudiation"}),
}

#: Syntax, greatest length and name by tag. The same rules as `host_names`, on octets.
_GENERAL_NAME_SYNTAX: dict[int, tuple[re.Pattern[bytes], int, str]] = {
    0x81: (re.compile(rb"[\x21-\x3f\x41-\x7e]{1,64}@[A-Za-z0-9_.-]+"), 320, "mailbox"),
    0x82: (
        re.compile(
            rb"(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        ),
        253,
        "DNS name",
    ),
    0x86: (re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+"), 4096, "URI"),
}


# The values of these two extensions come from a handful of profiles, so that nearly every one is in the cache.
_key_usage = lru_cache(maxsize=512)(ext.read_key_usage)
_extended_key_usage = lru_cache(maxsize=512)(ext.read_extended_key_usage)


# ---- pkilint ---------------------------------------------------------------------------------------------------------


def deep_lint(data: bytes, kind: Kind = "certificate") -> list[Finding]:
    """Findings of pkilint on a signed DER certificate, CRL or OCSP response; notices and information are left out.

    Takes about a tenth of a second, more on the first call. Sources: RFC 5280 and RFC 6960 as pkilint reads them.
    """
    loader, validator = _pkilint(kind)
    try:
        document = loader.load_der_document(data)
    except ValueError as error:
        return [Finding("error", "unreadable", str(error))]
    findings = [
        (description.finding, description.message, result.node.path)
        for result in validator.validate(document.root)
        for description in result.finding_descriptions
    ]
    return [
        Finding(_PKILINT_SEVERITIES[finding.severity.name], finding.code, f"{message or finding.code} at {path}")
        for finding, message, path in findings
        if finding.severity.name in _PKILINT_SEVERITIES
    ]


_PKILINT_SEVERITIES: dict[str, Severity] = {"FATAL": "error", "ERROR": "error", "WARNING": "warning"}


@lru_cache(maxsize=3)
def _pkilint(kind: Kind) -> tuple[Any, Any]:
    """Loader and validator; imported here because pkilint is large and only needed for this."""
    from pkilint import loader, pkix
    from pkilint.pkix import certificate, crl, extension, name, ocsp

    attribute_decoder = pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS)
    extension_decoder = pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)
    if kind == "crl":
        parts = [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ]
        validator = crl.create_pkix_crl_validator_container([attribute_decoder, extension_decoder], parts)
        return loader.RFC5280CertificateListDocumentLoader(), validator
    if kind == "ocsp-response":
        decoders = [ocsp.create_response_decoder(), attribute_decoder, extension_decoder]
        return loader.RFC6960OCSPResponseDocumentLoader(), ocsp.create_pkix_ocsp_response_validator_container(
            decoders, []
        )
    parts = [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ]
    decoders = certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS)
    return loader.RFC5280CertificateDocumentLoader(), certificate.create_pkix_certificate_validator_container(
        decoders, parts
    )
