"""The request-extension step: which extensions of a request go into the certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from intaglio.profiles import vocabulary
from intaglio.profiles.engine import purposes
from intaglio.profiles.engine.extension_values import (
    check_others_can_read,
    read_purposes,
    read_usages,
    read_value,
)
from intaglio.profiles.engine.refusals import forbidden, refused
from intaglio.profiles.engine.requester import check_sid
from intaglio.profiles.engine.values import IssuanceInput
from intaglio.profiles.model import REJECTING_CHANNELS, CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.requests import RequestedExtension


@dataclass(slots=True)
class Choice:
    """What the request changes about a certificate's extensions; None leaves the profile's own."""

    key_usage: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    purposes_critical: bool = False
    copied: dict[str, bytes] = field(default_factory=dict)


def choose(profile: CertificateProfile, request: IssuanceInput, warnings: list[str]) -> Choice:
    """Filter the extensions of the request and of the caller by the profile.

    All copies are non-critical, but for extended key usages that a caller explicitly asks for as critical, as time
    stamping needs them (RFC 3161 section 2.3).

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
    if choice.copied:
        check_others_can_read(choice.copied)
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
    if oid == x509.SUBJECT_ALT_NAME:
        raise refused(
            "extensions",
            "extension-not-allowed",
            "Subject alternative names are not asked for as an extension.",
            "Send them as names, in subjectAltNames.",
            target="extensions",
        )
    if oid == x509.KEY_USAGE:
        usages = read_usages(extension)
        choice.key_usage = purposes.overriding_key_usage(profile, tuple(usages))
    elif not _taken(profile, request, extension, choice) and not _already_granted(profile, extension):
        _unlisted(profile, extension, request.on_unlisted or "reject", warnings)
    elif oid == x509.EXTENDED_KEY_USAGE and extension.critical:
        choice.purposes = choice.purposes or profile.default_purpose_oids
        choice.purposes_critical = True


def _taken(profile: CertificateProfile, request: IssuanceInput, extension: RequestedExtension, choice: Choice) -> bool:
    """Take the extension over if the profile lets it through."""
    oid = extension.oid
    if oid not in profile.request_extension_oids:
        return False
    if oid == x509.EXTENDED_KEY_USAGE:
        asked = read_purposes(extension)
        purposes.check_requested_purposes(profile, asked)
        choice.purposes = asked
        return True
    value = read_value(extension)
    if oid == x509.MS_APPLICATION_POLICIES:
        purposes.check_application_policies(profile, cast("tuple[str, ...]", value))
    elif oid == x509.MS_NTDS_CA_SECURITY:
        check_sid(request, cast(str, value))
    choice.copied[oid] = extension.value
    return True


def _already_granted(profile: CertificateProfile, extension: RequestedExtension) -> bool:
    """Whether the request merely asks for extended key usages that the profile gives anyway."""
    if extension.oid != x509.EXTENDED_KEY_USAGE:
        return False
    return set(read_purposes(extension)) <= set(profile.purpose_oids)


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
    asked = set(read_usages(extension))
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
