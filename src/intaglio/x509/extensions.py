"""Certificate and CRL extensions: object identifiers, encoders of finished values, decoders of the common ones.

Source: RFC 5280 section 4.2 and 5.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput

SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
SUBJECT_ALT_NAME = "2.5.29.17"
ISSUER_ALT_NAME = "2.5.29.18"
BASIC_CONSTRAINTS = "2.5.29.19"
CRL_NUMBER = "2.5.29.20"
REASON_CODE = "2.5.29.21"
INVALIDITY_DATE = "2.5.29.24"
DELTA_CRL_INDICATOR = "2.5.29.27"
ISSUING_DISTRIBUTION_POINT = "2.5.29.28"
CERTIFICATE_ISSUER = "2.5.29.29"
NAME_CONSTRAINTS = "2.5.29.30"
CRL_DISTRIBUTION_POINTS = "2.5.29.31"
CERTIFICATE_POLICIES = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
EXTENDED_KEY_USAGE = "2.5.29.37"
FRESHEST_CRL = "2.5.29.46"
AUTHORITY_INFORMATION_ACCESS = "1.3.6.1.5.5.7.1.1"
OCSP_NO_CHECK = "1.3.6.1.5.5.7.48.1.5"
OCSP = "1.3.6.1.5.5.7.48.1"
CA_ISSUERS = "1.3.6.1.5.5.7.48.2"
MS_TEMPLATE_NAME = "1.3.6.1.4.1.311.20.2"
MS_TEMPLATE = "1.3.6.1.4.1.311.21.7"
MS_APPLICATION_POLICIES = "1.3.6.1.4.1.311.21.10"
MS_NTDS_CA_SECURITY = "1.3.6.1.4.1.311.25.2"
SMIME_CAPABILITIES = "1.2.840.113549.1.9.15"
PIV_INTERIM = "2.16.840.1.101.3.6.9.1"
TLS_FEATURE = "1.3.6.1.5.5.7.1.24"

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"
ANY_POLICY = "2.5.29.32.0"

#: Names of the key usage bits by position. Source: RFC 5280 section 4.2.1.3.
KEY_USAGE_BITS = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
_BIT_POSITIONS = {name.lower(): i for i, name in enumerate(KEY_USAGE_BITS)} | {"contentcommitment": 1}

_MOST_ITEMS = 256


class Extension(NamedTuple):
    """One extension as it stands in a certificate, CRL or request; ``value`` is the content of extnValue."""

    oid: str
    critical: bool
    value: bytes


# ---- wrapping --------------------------------------------------------------------------------------------------------


def extension(oid: str, critical: bool, value: bytes) -> bytes:
    """The Extension TLV around a finished extension value."""
    if critical:
        return der.sequence(der.oid(oid), b"\x01\x01\xff", der.octet_string(value))
    return der.sequence(der.oid(oid), der.octet_string(value))


def read_extensions(content: bytes, *, limit: int = 50) -> tuple[Extension, ...]:
    """The Extension TLVs in ``content`` (what stands inside the Extensions SEQUENCE), at most ``limit``.

    Raises InvalidInput (``invalid-der``), also when an extension occurs twice.
    """
    found: list[Extension] = []
    seen: set[str] = set()
    position, end = 0, len(content)
    while position < end:
        oid, critical, start, position = _read_extension(content, position, end)
        if oid in seen:
            raise der.not_der(f"extension {oid} occurs twice")
        seen.add(oid)
        found.append(Extension(oid, critical, content[start:position]))
        if len(found) > limit:
            raise der.not_der(f"there are more than {limit} extensions")
    return tuple(found)


def _read_extension(data: bytes, position: int, end: int) -> tuple[str, bool, int, int]:
    tag, start, stop = der.header(data, position, end)
    oid_tag, oid_start, oid_end = der.header(data, start, stop)
    if tag != der.SEQUENCE or oid_tag != der.OBJECT_IDENTIFIER:
        raise der.not_der("an extension is a SEQUENCE that starts with an object identifier")
    value_tag, value_start, value_end = der.header(data, oid_end, stop)
    critical = value_tag == der.BOOLEAN
    if critical:
        # FALSE is the default and must not be encoded, but some requests do; reading it as FALSE harms nobody.
        critical = der.decode_boolean(data[value_start:value_end])
        value_tag, value_start, value_end = der.header(data, value_end, stop)
    if value_tag != der.OCTET_STRING or value_end != stop:
        raise der.not_der("an extension ends with its OCTET STRING")
    return der.decode_oid(data[oid_start:oid_end]), critical, value_start, stop


# ---- values ----------------------------------------------------------------------------------------------------------


def key_usage(names: Iterable[str]) -> bytes:
    """KeyUsage from bit names (RFC 5280 spelling, any case; ``contentCommitment`` too). Raises InvalidInput."""
    positions = set()
    for name in names:
        position = _BIT_POSITIONS.get(name.lower())
        if position is None:
            raise InvalidInput(f'"{name}" is not a key usage.', remedy=f"Use one of: {', '.join(KEY_USAGE_BITS)}.")
        positions.add(position)
    return der.named_bits(frozenset(positions))


def extended_key_usage(oids: Sequence[str]) -> bytes:
    """ExtKeyUsageSyntax from dotted OIDs, at least one."""
    return _oid_sequence(oids, "An extended key usage")


def basic_constraints(ca: bool, path_len: int | None = None) -> bytes:
    """BasicConstraints; ``path_len`` only for a CA."""
    if path_len is not None and (not ca or path_len < 0):
        raise InvalidInput("A path length constraint needs a CA and a number that is not negative.")
    if not ca:
        return der.sequence()
    return der.sequence(der.boolean(True), b"" if path_len is None else der.integer(path_len))


def subject_key_identifier(key_id: bytes) -> bytes:
    """SubjectKeyIdentifier from the octets of the identifier."""
    return der.octet_string(key_id)


def authority_key_identifier(key_id: bytes) -> bytes:
    """AuthorityKeyIdentifier with keyIdentifier only: the issuer's subject key identifier, copied."""
    return der.sequence(der.implicit(0, key_id))


def crl_distribution_points(urls: Sequence[str]) -> bytes:
    """CRLDistributionPoints: one point per URL, so that each is a full alternative source of the same scope."""
    if not urls:
        raise InvalidInput("CRL distribution points need at least one URL.")
    return der.sequence(*(der.sequence(der.explicit(0, full_name(url))) for url in urls))


def freshest_crl(urls: Sequence[str]) -> bytes:
    """FreshestCRL (delta CRL distribution points), the same syntax."""
    return crl_distribution_points(urls)


def full_name(url: str) -> bytes:
    """The ``fullName`` alternative of DistributionPointName with one URI."""
    return der.explicit(0, uri_general_name(url))


def uri_general_name(url: str) -> bytes:
    """GeneralName of a URI. Raises InvalidInput unless it is visible ASCII."""
    if not url.isascii() or not url.isprintable() or " " in url or ":" not in url:
        raise InvalidInput(f'"{url[:80]}" is not an absolute URI.', remedy="Write http://host/path.")
    return der.implicit(6, url.encode("ascii"))


def authority_information_access(ocsp_urls: Sequence[str] = (), issuer_urls: Sequence[str] = ()) -> bytes:
    """AuthorityInfoAccessSyntax: where to ask for status, where to fetch the issuer's certificate."""
    if not ocsp_urls and not issuer_urls:
        raise InvalidInput("Authority information access needs at least one URL.")
    described = [(OCSP, url) for url in ocsp_urls] + [(CA_ISSUERS, url) for url in issuer_urls]
    return der.sequence(*(der.sequence(der.oid(method), uri_general_name(url)) for method, url in described))


def certificate_policies(oids: Sequence[str]) -> bytes:
    """CertificatePolicies without qualifiers."""
    if not oids or len(set(oids)) != len(oids):
        raise InvalidInput("Certificate policies need at least one OID, each once.")
    return der.sequence(*(der.sequence(der.oid(oid)) for oid in oids))


def name_constraints(
    permitted: Sequence[tuple[int, bytes]] = (), excluded: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    """NameConstraints of subtrees, each the tag and content of a general name; an address is followed by its mask.

    Source: RFC 5280 section 4.2.1.10.
    """
    lists = [
        der.explicit(number, b"".join(der.sequence(der.tlv(tag, content)) for tag, content in subtrees))
        for number, subtrees in enumerate((permitted, excluded))
        if subtrees
    ]
    return der.sequence(*lists)


def ocsp_no_check() -> bytes:
    """id-pkix-ocsp-nocheck: a responder's certificate needs no status check. Source: RFC 6960 section 4.2.2.2.1."""
    return der.null()


# ---- reading values --------------------------------------------------------------------------------------------------


def read_key_usage(value: bytes) -> frozenset[str]:
    """Names of the bits set in a KeyUsage value. Raises InvalidInput (``invalid-der``)."""
    octets, _ = der.decode_bit_string(der.read_tlv(value, der.BIT_STRING).content)
    if len(octets) > 2:
        raise der.not_der("a key usage has more than nine bits")
    return frozenset(
        name for i, name in enumerate(KEY_USAGE_BITS) if i // 8 < len(octets) and octets[i // 8] & 0x80 >> i % 8
    )


def read_extended_key_usage(value: bytes) -> tuple[str, ...]:
    """Dotted OIDs of an ExtKeyUsageSyntax value. Raises InvalidInput (``invalid-der``)."""
    elements = der.children(der.read_tlv(value, der.SEQUENCE).content, _MOST_ITEMS)
    if not elements or any(element.tag != der.OBJECT_IDENTIFIER for element in elements):
        raise der.not_der("an extended key usage is a list of object identifiers")
    return tuple(der.decode_oid(element.content) for element in elements)


def read_certificate_policies(value: bytes) -> tuple[str, ...]:
    """Dotted policy OIDs of a CertificatePolicies value, qualifiers left out. Raises InvalidInput (``invalid-der``)."""
    elements = der.children(der.read_tlv(value, der.SEQUENCE).content, _MOST_ITEMS)
    if not elements or any(element.tag != der.SEQUENCE for element in elements):
        raise der.not_der("certificate policies are a list of policy information")
    return tuple(
        der.decode_oid(der.Reader(element.content).read(der.OBJECT_IDENTIFIER).content) for element in elements
    )


def read_basic_constraints(value: bytes) -> tuple[bool, int | None]:
    """(cA, pathLenConstraint) of a BasicConstraints value. Raises InvalidInput (``invalid-der``)."""
    reader = der.Reader(value).enter()
    flag, length = reader.optional(der.BOOLEAN), reader.optional(der.INTEGER)
    reader.finish()
    path_len = None if length is None else der.decode_integer(length.content)
    if path_len is not None and path_len < 0:
        raise der.not_der("a path length is negative")
    return flag is not None and der.decode_boolean(flag.content), path_len


def read_authority_key_identifier(value: bytes) -> bytes | None:
    """keyIdentifier of an AuthorityKeyIdentifier value, None when absent. Raises InvalidInput (``invalid-der``)."""
    found = der.Reader(value).enter().optional(0x80)
    return found.content if found else None


def read_distribution_point_urls(value: bytes) -> tuple[str, ...]:
    """All URIs in the full names of a CRLDistributionPoints or FreshestCRL value. Raises InvalidInput."""
    urls: list[str] = []
    for point in der.children(der.read_tlv(value, der.SEQUENCE).content, _MOST_ITEMS):
        name = der.Reader(der.Reader(point.der).enter().read().content) if point.content[:1] == b"\xa0" else None
        if name is not None and name.peek() == 0xA0:
            urls += [_text(n.content) for n in der.children(name.read().content, _MOST_ITEMS) if n.tag == 0x86]
    return tuple(urls)


def read_authority_information_access(value: bytes) -> tuple[tuple[str, str], ...]:
    """(access method OID, URI) pairs of an AuthorityInfoAccessSyntax value. Raises InvalidInput."""
    found: list[tuple[str, str]] = []
    for description in der.children(der.read_tlv(value, der.SEQUENCE).content, _MOST_ITEMS):
        reader = der.Reader(description.der).enter()
        method, location = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content), reader.read()
        if location.tag == 0x86:
            found.append((method, _text(location.content)))
    return tuple(found)


def _text(content: bytes) -> str:
    text = content.decode("latin-1")
    if not text.isascii() or not text.isprintable():
        raise der.not_der("a URI has control or non-ASCII characters")
    return text


def _oid_sequence(oids: Sequence[str], what: str) -> bytes:
    if not oids or len(set(oids)) != len(oids):
        raise InvalidInput(f"{what} needs at least one OID, each once.")
    return der.sequence(*map(der.oid, oids))
