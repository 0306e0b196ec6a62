"""Certificate requests (PKCS #10): outside bytes become a checked, typed value in one step. Source: RFC 2986."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PublicKey
from intaglio.core.errors import InvalidInput
from intaglio.x509 import pem, weak_keys
from intaglio.x509.extensions import SUBJECT_ALT_NAME, Extension, read_extensions
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

MAX_REQUEST_OCTETS = 64 * 1024
MAX_REQUEST_NAMES = 100
MAX_REQUEST_EXTENSIONS = 50
MAX_REQUEST_ATTRIBUTES = 50

#: An extension the requester asks for; ``value`` is the content of extnValue.
RequestedExtension: TypeAlias = Extension

_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_MS_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
_CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105 - the type of the attribute
#: String types of a challengePassword (DirectoryString, RFC 2985 section 5.4.1, and what clients write instead).
_CHALLENGE_STRINGS = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
    der.TELETEX_STRING: "latin-1",
    der.BMP_STRING: "utf-16-be",
}
_LONGEST_CHALLENGE = 255
_ATTRIBUTES = 0xA0
#: What keeps its own code; everything else that is wrong with the bytes becomes ``csr-unparsable``.
_OWN_CODES = frozenset({"key-algorithm-not-allowed", "weak-key", "too-many-names", "proof-of-possession-failed"})


@dataclass(frozen=True)
class CertificateRequest:
    """A parsed PKCS #10 request. ``spki``, ``subject.der`` and ``san.der`` are the bytes of the request.

    ``challenge_password`` is the secret its holder was given beforehand (RFC 2985 section 5.4.1), None without exactly
    one that can be read.
    """

    der: bytes = field(repr=False)
    subject: Name
    spki: bytes = field(repr=False)
    public_key: PublicKey
    key_algorithm: KeyAlgorithm
    san: GeneralNames | None
    extensions: tuple[RequestedExtension, ...]
    challenge_password: str | None = field(default=None, repr=False)

    def extension(self, oid: str) -> RequestedExtension | None:
        """The requested extension of the dotted type ``oid``."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)


def parse_request(
    data: bytes | str, *, prove_possession: bool = True, max_names: int = MAX_REQUEST_NAMES
) -> CertificateRequest:
    """Parse and check a request in DER, PEM (either spelling of the label) or bare base64, at most 64 KiB of DER.

    ``prove_possession=False`` leaves the signature unchecked; ``max_names`` bounds the subject alternative names.
    Raises InvalidInput with one of the codes ``csr-unparsable``, ``proof-of-possession-failed``, ``weak-key``,
    ``key-algorithm-not-allowed``, ``too-many-names``.
    """
    try:
        request, signed, signature_oid, signature = _parse(_to_der(data), max_names)
    except InvalidInput as error:
        if error.code in _OWN_CODES:
            raise
        raise _unparsable(error.detail, error.remedy) from None
    weak_keys.check_public_key(request.public_key)
    if prove_possession:
        _check_signature(request, signed, signature_oid, signature)
    return request


def request_pem(request_der: bytes) -> str:
    """The request as PEM text."""
    return pem.encode(_LABELS[0], request_der)


def _to_der(data: bytes | str) -> bytes:
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if data[:1] != b"\x30":
        if len(data) > 2 * MAX_REQUEST_OCTETS:
            raise _too_long()
        data = _text_to_der(data)
    if len(data) > MAX_REQUEST_OCTETS:
        raise _too_long()
    return data


def _text_to_der(data: bytes) -> bytes:
    if b"-----BEGIN" not in data:
        return pem.decode_base64(data)
    found = pem.blocks(data, _LABELS, limit=1)
    if not found:
        raise _unparsable("the PEM text has no CERTIFICATE REQUEST block")
    return found[0][1]


def _parse(data: bytes, max_names: int) -> tuple[CertificateRequest, bytes, str, bytes]:
    """The request, the octets that are signed, the dotted signature algorithm and the signature."""
    outer = der.Reader(data)
    request = outer.enter()
    outer.finish()
    info = request.read(der.SEQUENCE)
    signature_oid = der.decode_oid(request.enter().read(der.OBJECT_IDENTIFIER).content)
    signature, unused = der.decode_bit_string(request.read(der.BIT_STRING).content)
    request.finish()
    if unused:
        raise der.not_der("a signature has unused bits")

    fields = der.Reader(info.content)
    if fields.read(der.INTEGER).content != b"\x00":
        raise _unparsable("its version is not 1")
    subject = Name.from_der(fields.read(der.SEQUENCE).der)
    spki = fields.read(der.SEQUENCE).der
    # RFC 2986 wants the attributes even when there are none; several clients leave them out.
    attributes = fields.optional(_ATTRIBUTES)
    fields.finish()

    public_key, key_algorithm = algorithms.load_public_key(spki)
    extensions = _requested_extensions(attributes.content) if attributes is not None else ()
    san = next((extension.value for extension in extensions if extension.oid == SUBJECT_ALT_NAME), None)
    names = None if san is None else GeneralNames.from_der(san, max_names=max_names)
    challenge = _challenge_password(attributes.content) if attributes is not None else None
    return (
        CertificateRequest(data, subject, spki, public_key, key_algorithm, names, extensions, challenge),
        info.der,
        signature_oid,
        signature,
    )


def _requested_extensions(content: bytes) -> tuple[RequestedExtension, ...]:
    found: tuple[RequestedExtension, ...] | None = None
    for attribute in der.children(content, MAX_REQUEST_ATTRIBUTES):
        reader = der.Reader(attribute.content)
        if attribute.tag != der.SEQUENCE:
            raise der.not_der("a request attribute is a SEQUENCE")
        oid = der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content)
        values = reader.enter(der.SET)
        reader.finish()
        if oid not in (_EXTENSION_REQUEST, _MS_EXTENSION_REQUEST):
            continue
        if found is not None:
            raise _unparsable("extensions are requested twice")
        found = read_extensions(values.read(der.SEQUENCE).content, limit=MAX_REQUEST_EXTENSIONS)
        values.finish()
    return found or ()


def _challenge_password(content: bytes) -> str | None:
    """The text of the only challengePassword; what cannot be read counts as none, for most callers want none."""
    found: list[str | None] = []
    for attribute in der.children(content, MAX_REQUEST_ATTRIBUTES):
        reader = der.Reader(attribute.content)
        if der.decode_oid(reader.read(der.OBJECT_IDENTIFIER).content) != _CHALLENGE_PASSWORD:
            continue
        values = der.children(reader.read(der.SET).content, MAX_REQUEST_ATTRIBUTES)
        found += [_challenge_text(value) for value in values]
    return found[0] if len(found) == 1 else None


def _challenge_text(value: der.Element) -> str | None:
    encoding = _CHALLENGE_STRINGS.get(value.tag)
    if encoding is None or len(value.content) > _LONGEST_CHALLENGE:
        return None
    try:
        return value.content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _check_signature(request: CertificateRequest, signed: bytes, signature_oid: str, signature: bytes) -> None:
    if signature_oid == algorithms.RSASSA_PSS:
        valid = _pss_signature_is_valid(request.der)
    else:
        valid = algorithms.verify(request.public_key, signature_oid, signature, signed)
    if not valid:
        raise InvalidInput(
            "The signature of the certificate request is not valid under its own public key.",
            code="proof-of-possession-failed",
            remedy="Sign the request with the private key that belongs to it, with SHA-256, SHA-384 or SHA-512.",
        )


def _pss_signature_is_valid(data: bytes) -> bool:
    try:
        return pyca.load_der_x509_csr(data).is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _too_long() -> InvalidInput:
    return _unparsable(f"it is longer than {MAX_REQUEST_OCTETS} octets")


def _unparsable(why: str, remedy: str | None = None) -> InvalidInput:
    return InvalidInput(
        f"The certificate request cannot be read: {why.rstrip('.')}.",
        code="csr-unparsable",
        remedy=remedy or "Send a PKCS #10 request in PEM, or base64 DER.",
    )
