"""What clients are told to put into their requests. Sources: RFC 7030 section 4.5, RFC 8951 section 3.5, RFC 9908.

Two ways to say the same: loose attributes, which every client knows, and the template of RFC 9908, in which what is
missing is for the client to fill in. A client that knows the template goes by it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.x509.attribute_types import BY_ALIAS, BY_OID
from intaglio.x509.extensions import SUBJECT_ALT_NAME, extension
from intaglio.x509.general_names import GeneralNames, canonical_type
from intaglio.x509.names import Name

if TYPE_CHECKING:
    from intaglio.enrollment.est.options import EstOptions

_CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105 - the type of the attribute
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_TEMPLATE = "1.2.840.113549.1.9.16.2.61"
_RSA = "1.2.840.113549.1.1.1"
_EC = "1.2.840.10045.2.1"
_CURVES = {
    KeyAlgorithm.ECDSA_P256: "1.2.840.10045.3.1.7",
    KeyAlgorithm.ECDSA_P384: "1.3.132.0.34",
    KeyAlgorithm.ECDSA_P521: "1.3.132.0.35",
}
_RSA_BITS = {KeyAlgorithm.RSA_2048: 2048, KeyAlgorithm.RSA_3072: 3072, KeyAlgorithm.RSA_4096: 4096}
#: Tags of general names that a client can fill in: an empty one stands for its value.
_FILLABLE = {"rfc822Name": 0x81, "dNSName": 0x82, "uniformResourceIdentifier": 0x86, "iPAddress": 0x87}


def csr_attributes(options: EstOptions) -> bytes | None:
    """CsrAttrs in DER; None when clients are told nothing."""
    found = [*_loose(options), *_template(options)]
    return der.sequence(*found) if found else None


def _loose(options: EstOptions) -> list[bytes]:
    found = []
    if options.link_to_connection == "required":
        found.append(der.oid(_CHALLENGE_PASSWORD))
    found += [der.oid(dotted) for dotted in options.request_attributes]
    algorithm = _algorithm(options)
    if algorithm in _CURVES:
        found.append(der.sequence(der.oid(_EC), der.set_of(der.oid(_CURVES[algorithm]))))
    elif algorithm in _RSA_BITS:
        found.append(der.sequence(der.oid(_RSA), der.set_of(der.integer(_RSA_BITS[algorithm]))))
    if algorithm is not None:
        found.append(der.oid(algorithm.signature_oid))
    if options.san_template and all("=" in each for each in options.san_template):
        found.append(_requested_names(options))
    return found


def _template(options: EstOptions) -> list[bytes]:
    """The Attribute with a CertificationRequestInfoTemplate. Source: RFC 9908 section 3.4."""
    if options.subject_template is None and not options.san_template:
        return []
    subject = b"" if options.subject_template is None else name_template(options.subject_template)
    inner = der.sequence(
        der.integer(0),
        subject,
        _key_template(_algorithm(options)),
        der.explicit(1, _requested_names(options) if options.san_template else b""),
    )
    return [der.sequence(der.oid(_TEMPLATE), der.set_of(inner))]


def name_template(text: str) -> bytes:
    """NameTemplate of ``CN=,O=Example``: what has no value is for the client to fill in. Raises InvalidInput."""
    rdns = []
    for part in _split(text):
        kind, equals, value = part.partition("=")
        known = BY_ALIAS.get(kind.strip().lower()) or BY_OID.get(kind.strip())
        if not equals or known is None:
            raise InvalidInput(
                f'"{part[:80]}" is not TYPE= or TYPE=VALUE of a subject.', code="endpoint-options-invalid"
            )
        if value.strip():
            rdn = der.read_tlv(Name.parse(f"{kind.strip()}={value.strip()}").der).content
        else:
            rdn = der.set_of(der.sequence(der.oid(known.oid)))
        rdns.append(rdn)
    return der.sequence(*reversed(rdns))  # RFC 4514 begins with what comes last


def _split(text: str) -> list[str]:
    """The parts between commas that no backslash stands before."""
    parts, current, escaped = [], "", False
    for character in text:
        if character == "," and not escaped:
            parts.append(current)
            current = ""
        else:
            current += character
        escaped = character == "\\" and not escaped
    return [part for part in (*parts, current) if part.strip()]


def _key_template(algorithm: KeyAlgorithm | None) -> bytes:
    """SubjectPublicKeyInfoTemplate; the size of an RSA key is that of a placeholder."""
    if algorithm is None:
        return b""
    if algorithm in _CURVES:
        return der.explicit(0, der.sequence(der.oid(_EC), der.oid(_CURVES[algorithm])))
    if algorithm in _RSA_BITS:
        placeholder = der.sequence(der.integer((1 << _RSA_BITS[algorithm]) - 1), der.integer(65537))
        return der.explicit(0, der.sequence(der.oid(_RSA), der.null()) + der.bit_string(placeholder))
    return der.explicit(0, der.sequence(der.oid(algorithm.signature_oid)))


def _requested_names(options: EstOptions) -> bytes:
    """The Attribute id-ExtensionReq with the alternative names; empty ones are for the client to fill in."""
    names = b"".join(map(general_name_template, options.san_template))
    extensions = der.sequence(extension(SUBJECT_ALT_NAME, False, der.sequence(names)))
    return der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(extensions))


def general_name_template(text: str) -> bytes:
    """GeneralName of ``dNSName=www.example.com``, or an empty one of ``dNSName``. Raises InvalidInput."""
    kind, equals, value = text.partition("=")
    if equals:
        return GeneralNames.build([(kind, value)]).entries[0].der
    tag = _FILLABLE.get(canonical_type(kind))
    if tag is None:
        raise InvalidInput(
            f'A client cannot be told to fill in "{kind[:40]}".',
            code="endpoint-options-invalid",
            remedy=f"Use one of: {', '.join(_FILLABLE)}.",
        )
    return der.tlv(tag, b"")


def _algorithm(options: EstOptions) -> KeyAlgorithm | None:
    return None if options.request_key is None else KeyAlgorithm.parse(options.request_key)
