"""The subject and subject alternative name steps."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from intaglio.core.errors import InvalidInput
from intaglio.profiles.engine.refusals import invalid, refused
from intaglio.profiles.engine.requester import check_names, is_upn, printable
from intaglio.profiles.engine.values import IssuanceInput, Issuer
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.host_names import check_dns_name

_SERVER_NAME_TYPES: Final = frozenset({"dNSName", "iPAddress"})
#: otherName of an internationalized mail address, as it shows in the text of a general name. Source: RFC 9598.
_SMTP_UTF8_MAILBOX: Final = "1.3.6.1.5.5.7.8.9;"


def check_subject(profile: CertificateProfile, issuer: Issuer, request: IssuanceInput) -> None:
    """Refuse a subject that the profile, or its kind of certificate, does not permit."""
    subject = request.subject
    check_variables(profile, request.subject_variables)
    for name, oid in profile.required_attribute_oids:
        if not any(value.strip() for value in subject.values(oid)):
            raise invalid(
                "subject",
                "subject-attribute-required",
                f'Profile "{profile.id}" needs the attribute {name} in the subject.',
                "Add it to the subject.",
                target="subject",
            )
    if profile.kind == "root":
        return
    if subject.der == issuer.subject_der:
        raise refused(
            "subject",
            "subject-is-issuer",
            f'The subject is the name of CA "{issuer.name}" itself; the certificate would pass for its own issuer.',
            "Choose another subject.",
            target="subject",
        )
    if profile.is_ca and subject.is_empty:
        raise refused(
            "subject",
            "subject-required",
            "A CA certificate needs a subject (RFC 5280 section 4.1.2.6).",
            "Name the CA.",
            target="subject",
        )


def check_variables(profile: CertificateProfile, variables: Sequence[tuple[str, str]]) -> None:
    """Refuse a request without the subject variables (name, value) that the profile requires."""
    given = {name.lower() for name, value in variables if value}
    for name in profile.required_variables:
        if name.lower() not in given:
            raise invalid(
                "subject",
                "subject-variable-required",
                f'Profile "{profile.id}" needs the subject variable "{name}".',
                "Send it in subjectVariables.",
                target="subjectVariables",
            )


def san_of(profile: CertificateProfile, request: IssuanceInput, warnings: list[str]) -> GeneralNames | None:
    """The subject alternative names: those of the request byte for byte, then missing CNs where the profile fills."""
    san = request.san
    if san is not None and not san.entries:
        san = None
    if profile.fill_san_dns_with_cn:
        san = _filled(request, san, warnings)
    elif profile.copy_cn_to_san:
        san = _with_common_names(request, san, warnings)
    if san is None and request.subject.is_empty:
        raise invalid(
            "san",
            "subject-and-san-empty",
            "The request names nobody: subject and subject alternative name are both empty.",
            "Put a name into one of them.",
            target="subject",
        )
    if profile.san_requirements:
        _check_required_types(profile, san)
    if san is not None:
        check_names(request, san)
    return san


def check_san_for_purposes(
    profile: CertificateProfile, san: GeneralNames | None, purposes: tuple[str, ...], warnings: list[str]
) -> None:
    """Refuse or warn about certificates whose names relying parties will not find where they look.

    Sources: RFC 9525 section 6.1 (TLS servers), RFC 8550 section 3 (mail addresses).
    """
    if profile.is_ca:
        return
    if x509.SERVER_AUTH in purposes and not _has_type(san, _SERVER_NAME_TYPES):
        if profile.require_san_for_server:
            raise refused(
                "san",
                "san-required",
                "A TLS server certificate without a DNS name or IP address in the subject alternative name is "
                "accepted by no current client.",
                "Add a dNSName or iPAddress, or use a profile that fills it from the CN.",
                target="subjectAltNames",
            )
        warnings.append("TLS clients will not accept this server certificate: no dNSName or iPAddress in the SAN")
    if x509.EMAIL_PROTECTION in purposes and not _has_mail_address(san):
        warnings.append("mail programs will not find the holder's address: no rfc822Name in the SAN")


def _filled(request: IssuanceInput, san: GeneralNames | None, warnings: list[str]) -> GeneralNames | None:
    present = {entry.text.lower() for entry in san.entries} if san is not None else set()
    missing: list[str] = []
    for common_name in request.subject.common_names:
        if common_name.lower() in present:
            continue
        try:
            missing.append(check_dns_name(common_name))
        except InvalidInput:
            warnings.append(f'the CN "{printable(common_name)}" is not a DNS name and was not copied to the SAN')
    if not missing:
        return san
    return (san or GeneralNames.build([("dNSName", missing[0])])).with_dns(missing)


def _with_common_names(
    request: IssuanceInput, san: GeneralNames | None, warnings: list[str]
) -> GeneralNames | None:
    for common_name in request.subject.common_names:
        try:
            copied = GeneralNames.build([(_name_type(common_name), common_name)])
        except InvalidInput:
            warnings.append(
                f'the CN "{printable(common_name)}" is no DNS name, IP or mail address and was not copied to the SAN'
            )
            continue
        san = copied if san is None else san.with_names(copied)
    return san


def _name_type(text: str) -> str:
    """The type of general name that ``text`` could be."""
    if "@" in text:
        return "rfc822Name"
    try:
        ip_address(text.strip())
    except ValueError:
        return "dNSName"
    return "iPAddress"


def _check_required_types(profile: CertificateProfile, san: GeneralNames | None) -> None:
    for wanted in profile.required_san_types:
        if not _has_type(san, frozenset({wanted})):
            raise invalid(
                "san",
                "san-required",
                f'Profile "{profile.id}" needs a subject alternative name of type {wanted}.',
                "Add one to the request.",
                target="subjectAltNames",
            )


def _has_type(san: GeneralNames | None, types: frozenset[str]) -> bool:
    if san is None:
        return False
    return any(entry.type in types or ("userPrincipalName" in types and is_upn(entry)) for entry in san.entries)


def _has_mail_address(san: GeneralNames | None) -> bool:
    return san is not None and any(
        entry.type == "rfc822Name" or entry.text.startswith(_SMTP_UTF8_MAILBOX) for entry in san.entries
    )
