"""Reading the values of extensions that a request brings, before they are copied into a certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509 as pyca

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.profiles import vocabulary
from intaglio.profiles.engine.refusals import invalid
from intaglio.x509 import extensions as x509
from intaglio.x509.certificates import assemble_certificate, assemble_tbs
from intaglio.x509.requests import RequestedExtension

T = TypeVar("T")

_LONGEST: Final = 16 * 1024
_DEEPEST: Final = 16
_STRING_TAGS: Final = frozenset({der.BMP_STRING, der.UTF8_STRING, der.PRINTABLE_STRING, der.IA5_STRING})
_SID_NAME: Final = der.oid("1.3.6.1.4.1.311.25.2.1")


def read_usages(extension: RequestedExtension) -> frozenset[str]:
    """The key usages in a request. Raises InvalidInput (``extension-malformed``), as all functions here do."""
    return _read(extension, x509.read_key_usage)


def read_purposes(extension: RequestedExtension) -> tuple[str, ...]:
    """The extended key usages in a request as dotted OIDs, each once."""
    return tuple(dict.fromkeys(_read(extension, x509.read_extended_key_usage)))


def read_value(extension: RequestedExtension) -> object:
    """What an extension says, checked against its own syntax; any DER where the syntax is not known here."""
    return _read(extension, _READERS.get(extension.oid, _well_formed))


def check_others_can_read(copied: Mapping[str, bytes]) -> None:
    """A relying party that knows an extension must not stumble over the value that a requester gave it."""
    encoded = b"".join(x509.extension(oid, False, value) for oid, value in copied.items())
    try:
        _ = pyca.load_der_x509_certificate(_certificate_with(encoded)).extensions
    except (ValueError, TypeError, pyca.UnsupportedGeneralNameType) as error:
        raise _malformed(", ".join(map(vocabulary.extension_name, copied)), str(error)) from None


def _read(extension: RequestedExtension, reader: Callable[[bytes], T]) -> T:
    try:
        if len(extension.value) > _LONGEST:
            raise der.not_der(f"it is longer than {_LONGEST} octets")
        return reader(extension.value)
    except InvalidInput as error:
        raise _malformed(vocabulary.extension_name(extension.oid), error.detail.rstrip(".")) from None


def _malformed(names: str, reason: str) -> InvalidInput:
    return invalid(
        "extensions",
        "extension-malformed",
        f"The request's extension cannot be read ({names}): {reason}.",
        "Encode it as its standard says, in DER.",
        target="extensions",
    )


def _certificate_with(extensions: bytes) -> bytes:
    identifier = KeyAlgorithm.ECDSA_P256.signature_identifier
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    tbs = assemble_tbs(
        serial=b"\x01",
        signature_identifier=identifier,
        issuer_der=der.sequence(),
        not_before=moment,
        not_after=moment,
        subject_der=der.sequence(),
        spki=der.sequence(identifier, der.bit_string(b"")),
        extensions=extensions,
    )
    return assemble_certificate(tbs, identifier, b"")


# ---- readers ---------------------------------------------------------------------------------------------------------


def read_security_identifier(value: bytes) -> str:
    """The SID in the value of the Windows security extension. Raises InvalidInput.

    Source: MS-WCCE section 2.2.2.7.7.4 (szOID_NTDS_CA_SECURITY_EXT).
    """
    names = der.children(der.read_tlv(value, der.SEQUENCE).content)
    if len(names) != 1 or names[0].tag != 0xA0:
        raise der.not_der("the security extension holds one otherName")
    parts = der.children(names[0].content)
    if len(parts) != 2 or parts[0].der != _SID_NAME or parts[1].tag != 0xA0:
        raise der.not_der("the security extension names an object SID")
    text = der.read_tlv(parts[1].content, der.OCTET_STRING).content
    if not text.startswith(b"S-1-") or not text.isascii() or len(text) > 184:
        raise der.not_der("the object SID is not of the form S-1-...")
    return text.decode("ascii")


def _read_template(value: bytes) -> str:
    """Source: MS-WCCE section 2.2.2.7.7.2 (szOID_CERTIFICATE_TEMPLATE)."""
    outer = der.Reader(value)
    template = outer.enter()
    outer.finish()
    oid = der.decode_oid(template.read(der.OBJECT_IDENTIFIER).content)
    for version in template.rest(2):
        if version.tag != der.INTEGER:
            raise der.not_der("a template version is not a number")
        der.decode_integer(version.content)
    return oid


def _read_template_name(value: bytes) -> bytes:
    """Source: MS-WCCE section 2.2.2.7.7.1 (szOID_ENROLL_CERTTYPE_EXTENSION): a BMPString; some clients send others."""
    name = der.read_tlv(value)
    if name.tag not in _STRING_TAGS:
        raise der.not_der("a template name is a character string")
    return name.content


def _read_capabilities(value: bytes) -> int:
    """Source: RFC 8551 section 2.5.2."""
    capabilities = der.children(der.read_tlv(value, der.SEQUENCE).content, 256)
    for capability in capabilities:
        if capability.tag != der.SEQUENCE:
            raise der.not_der("S/MIME capabilities are a list of algorithm identifiers")
        der.decode_oid(der.Reader(capability.content).read(der.OBJECT_IDENTIFIER).content)
    _well_formed(value)
    return len(capabilities)


def _read_boolean(value: bytes) -> bool:
    return der.decode_boolean(der.read_tlv(value, der.BOOLEAN).content)


def _well_formed(value: bytes) -> None:
    """Raise InvalidInput unless ``value`` is one DER element with DER all the way down."""
    pending = [(der.read_tlv(value), 0)]
    while pending:
        element, depth = pending.pop()
        if depth > _DEEPEST:
            raise der.not_der("the nesting is too deep")
        if element.tag & 0x20:
            pending += [(child, depth + 1) for child in der.children(element.content)]


_READERS: Final[Mapping[str, Callable[[bytes], object]]] = {
    x509.CERTIFICATE_POLICIES: x509.read_certificate_policies,
    x509.MS_APPLICATION_POLICIES: x509.read_certificate_policies,
    x509.MS_NTDS_CA_SECURITY: read_security_identifier,
    x509.MS_TEMPLATE: _read_template,
    x509.MS_TEMPLATE_NAME: _read_template_name,
    x509.SMIME_CAPABILITIES: _read_capabilities,
    x509.PIV_INTERIM: _read_boolean,
}
