"""The request-extension step: which extensions of a request go into the certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.profiles import vocabulary
from intaglio.profiles.engine import purposes
from intaglio.profiles.engine.refusals import forbidden, invalid, refused
from intaglio.profiles.engine.values import IssuanceInput
from intaglio.profiles.model import REJECTING_CHANNELS, CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.requests import RequestedExtension

T = TypeVar("T")

_SID_NAME: Final = der.oid("1.3.6.1.4.1.311.25.2.1")
_DEEPEST: Final = 16
_LONGEST: Final = 16 * 1024


@dataclass(slots=True)
class Choice:
    """What the request changes about a certificate's extensions; None leaves the profile's own."""

    key_usage: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    copied: dict[str, bytes] = field(default_factory=dict)


def choose(profile: CertificateProfile, request: IssuanceInput, warnings: list[str]) -> Choice:
    """Filter the extensions of the request and of the caller by the profile. All copies are non-critical.

    Raises Refused (``extension-not-allowed``, ``eku-not-allowed``, ``requester-mismatch``), Forbidden
    (``forbidden-extension``) and InvalidInput (``extension-malformed``).
    """
    choice = Choice()
    explicit = {extension.oid for extension in request.explicit_extensions}
    for extension in request.extensions:
        if extension.oid not in explicit:
            _from_csr(profile, request, extension, choice, warnings)
    for extension in request.explicit_extensions:
        _explicit(profile, request, extension, choice, warnings)
    if request.key_usage is not None:
        choice.key_usage = purposes.overriding_key_usage(profile, request.key_usage)
    return choice


def _from_csr(
    profile: CertificateProfile,
    request: IssuanceInput,
    extension: RequestedExtension,
    choice: Choice,
    warnings: list[str],
) -> None:
    oid = extension.oid
    if oid == x509.SUBJECT_ALT_NAME:
        return
    if oid == x509.KEY_USAGE:
        _compare_key_usage(profile, extension, warnings)
    elif oid in vocabulary.AUTHORITY_EXTENSIONS:
        if oid != x509.BASIC_CONSTRAINTS or extension.value != _basic_constraints(profile):
            warnings.append(f"{vocabulary.extension_name(oid)} in the request was ignored: the CA writes it itself")
    elif not _taken(profile, request, extension, choice) and not _already_granted(profile, extension):
        _unlisted(profile, extension, _unlisted_rule(profile, request), warnings)


def _explicit(
    profile: CertificateProfile,
    request: IssuanceInput,
    extension: RequestedExtension,
    choice: Choice,
    warnings: list[str],
) -> None:
    oid = extension.oid
    if oid in vocabulary.AUTHORITY_EXTENSIONS:
        raise forbidden(
            "extensions",
            "forbidden-extension",
            f"Nobody may ask for the extension {vocabulary.extension_name(oid)} ({oid}).",
            "Leave it out: the CA writes it itself.",
            target="extensions",
        )
    if oid == x509.KEY_USAGE:
        usages = _decoded(extension, x509.read_key_usage)
        choice.key_usage = purposes.overriding_key_usage(profile, tuple(usages))
    elif not _taken(profile, request, extension, choice) and not _already_granted(profile, extension):
        _unlisted(profile, extension, request.on_unlisted or "reject", warnings)


def _taken(
    profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension, choice: Choice
) -> bool:
    """Take the extension over if the profile lets it through."""
    oid = extension.oid
    if oid not in profile.request_extension_oids:
        return False
    if oid == x509.EXTENDED_KEY_USAGE:
        asked = tuple(dict.fromkeys(_decoded(extension, x509.read_extended_key_usage)))
        purposes.check_requested_purposes(profile, asked)
        choice.purposes = asked
        return True
    _CHECKS.get(oid, _check_well_formed)(profile, request, extension)
    choice.copied[oid] = extension.value
    return True


def _already_granted(profile: CertificateProfile, extension: RequestedExtension) -> bool:
    """Whether the request merely asks for extended key usages that the profile gives anyway."""
    if extension.oid != x509.EXTENDED_KEY_USAGE:
        return False
    return set(_decoded(extension, x509.read_extended_key_usage)) <= set(profile.purpose_oids)


def _unlisted_rule(profile: CertificateProfile, request: IssuanceInput) -> Literal["drop", "reject"]:
    rule = request.on_unlisted or profile.on_unlisted_extension
    if rule == "by-channel":
        return "reject" if request.channel in REJECTING_CHANNELS else "drop"
    return rule


def _unlisted(
    profile: CertificateProfile, extension: RequestedExtension, rule: Literal["drop", "reject"], warnings: list[str]
) -> None:
    name = vocabulary.extension_name(extension.oid)
    if rule == "drop":
        warnings.append(f'{name} in the request was left out: profile "{profile.id}" does not take it from requests')
        return
    listed = ", ".join(sorted(map(vocabulary.extension_name, profile.request_extension_oids))) or "none"
    raise refused(
        "extensions",
        "extension-not-allowed",
        f'Profile "{profile.id}" does not take the extension {name} ({extension.oid}) from requests.',
        f"Leave it out; extensions a request may bring: {listed}.",
        target="extensions",
    )


def _compare_key_usage(profile: CertificateProfile, extension: RequestedExtension, warnings: list[str]) -> None:
    asked = set(_decoded(extension, x509.read_key_usage))
    if asked == set(profile.key_usage):
        return
    asked_text, given = ", ".join(sorted(asked)) or "nothing", ", ".join(profile.key_usage)
    if profile.on_csr_key_usage_mismatch == "reject":
        raise refused(
            "key-usage",
            "key-usage-mismatch",
            f'The request asks for the key usage {asked_text}; profile "{profile.id}" gives {given}.',
            "Ask for the profile's key usage, or leave it out.",
            target="keyUsage",
        )
    if asked - set(profile.key_usage):
        warnings.append(f'the key usage {asked_text} in the request was ignored: profile "{profile.id}" gives {given}')


def _basic_constraints(profile: CertificateProfile) -> bytes:
    return x509.basic_constraints(profile.basic_constraints.ca, profile.basic_constraints.path_length)


# ---- checks of single extensions -------------------------------------------------------------------------------------


def _check_policies(profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension) -> None:
    _decoded(extension, x509.read_certificate_policies)


def _check_application_policies(
    profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension
) -> None:
    policies = _decoded(extension, x509.read_certificate_policies)
    purposes.check_application_policies(profile, tuple(policies))


def _check_security_identifier(
    profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension
) -> None:
    sid = _decoded(extension, read_security_identifier)
    check_requester_sid(request, sid)


def _check_boolean(profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension) -> None:
    _decoded(extension, lambda value: der.decode_boolean(der.read_tlv(value, der.BOOLEAN).content))


def _check_well_formed(profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension) -> None:
    _decoded(extension, _walk)


_CHECKS: Final[Mapping[str, Callable[[CertificateProfile, IssuanceInput, RequestedExtension], None]]] = {
    x509.CERTIFICATE_POLICIES: _check_policies,
    x509.MS_APPLICATION_POLICIES: _check_application_policies,
    x509.MS_NTDS_CA_SECURITY: _check_security_identifier,
    x509.PIV_INTERIM: _check_boolean,
}


def check_requester_sid(request: IssuanceInput, sid: str) -> None:
    """Refuse a security identifier that is not the authenticated requester's. Unknown requesters are not checked."""
    if request.requester_sid is None and request.requester_upn is None:
        return
    if request.requester_sid is None or sid.upper() != request.requester_sid.upper():
        raise refused(
            "extensions",
            "requester-mismatch",
            f"The request carries the security identifier {sid[:80]}, which is not that of the requester.",
            "Ask for a certificate with your own security identifier, or with none.",
            target="extensions",
        )


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


def _walk(value: bytes) -> None:
    """Raise InvalidInput unless ``value`` is one DER element with DER all the way down."""
    pending = [(der.read_tlv(value), 0)]
    while pending:
        element, depth = pending.pop()
        if depth > _DEEPEST:
            raise der.not_der("the nesting is too deep")
        if element.tag & 0x20:
            pending += [(child, depth + 1) for child in der.children(element.content)]


def _decoded(extension: RequestedExtension, decode: Callable[[bytes], T]) -> T:
    name = vocabulary.extension_name(extension.oid)
    try:
        if len(extension.value) > _LONGEST:
            raise der.not_der(f"it is longer than {_LONGEST} octets")
        return decode(extension.value)
    except InvalidInput as error:
        raise invalid(
            "extensions",
            "extension-malformed",
            f"The extension {name} in the request cannot be read. {error.detail}",
            "Encode it as its standard says, in DER.",
            target="extensions",
        ) from None
