"""What a certificate of a profile will hold, and where each part comes from: the content of ``profile show``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from intaglio.profiles import vocabulary
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as x509

Source = Literal["profile", "issuer", "key", "request"]


@dataclass(frozen=True)
class ExtensionDescription:
    """One extension: ``present`` says when, ``source`` where its value comes from."""

    name: str
    oid: str
    critical: bool
    value: str
    source: Source
    present: str


@dataclass(frozen=True)
class ProfileDescription:
    """A profile for people: ``facts`` are (label, text) pairs, ``extensions`` in the order they are issued."""

    id: str
    title: str
    facts: tuple[tuple[str, str], ...]
    extensions: tuple[ExtensionDescription, ...]


def describe(profile: CertificateProfile) -> ProfileDescription:
    """The exact contents of certificates of ``profile``."""
    return ProfileDescription(profile.id, profile.title, tuple(_facts(profile)), tuple(_extensions(profile)))


def _facts(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    yield "group", profile.group
    yield "kind", profile.kind
    yield "version", str(profile.version)
    if profile.based_on:
        yield "based on", profile.based_on
    yield "offered", "yes" if profile.exposed else "no, the platform uses it itself"
    yield "channels", ", ".join(profile.channels)
    yield "modes", ", ".join(profile.issuance_modes)
    yield "keys", ", ".join(profile.key_algorithms)
    if profile.minimum_keysize.action != "off":
        policy = profile.minimum_keysize
        yield "minimum key size", f"{policy.action}: RSA {policy.rsa or '-'}, elliptic curves {policy.ecc or '-'} bits"
    yield "validity", _validity(profile)
    yield "subject", f"needs {', '.join(profile.subject_required)}" if profile.subject_required else "any"
    if profile.subject_variable_requirements:
        variables = profile.subject_variable_requirements
        yield "subject variables", ", ".join(_optional(entry.name, entry.required) for entry in variables)
    if profile.subject_builder.name != "basic":
        yield "subject is made", _builder(profile)
    if profile.san_requirements:
        yield "SAN types", ", ".join(_optional(entry.type, entry.required) for entry in profile.san_requirements)
    if profile.requested_properties:
        wanted = profile.requested_properties
        yield "properties", ", ".join(_optional(entry.name, entry.required) for entry in wanted)
    yield "EKU from the request", _purposes_rule(profile)
    yield "other extensions in the request", _unlisted_rule(profile)


def _builder(profile: CertificateProfile) -> str:
    builder = profile.subject_builder
    source = (
        "from the subject variables, or without them from the CSR"
        if builder.name == "template"
        else f"from the first of {', '.join(builder.san_type_order)}"
    )
    return f"{builder.template} {source}, unless it is asked for in full"


def _validity(profile: CertificateProfile) -> str:
    validity = profile.validity
    if validity.fixed:
        return f"{validity.default}, fixed; never beyond the issuer"
    limit = f"at most {validity.maximum} and never beyond the issuer" if validity.maximum else "never beyond the issuer"
    return f"{validity.default} unless the request says otherwise, {limit}"


def _purposes_rule(profile: CertificateProfile) -> str:
    if not profile.eku_from_request:
        return "no"
    opened = f", including {', '.join(profile.eku_allow)}" if profile.eku_allow else ""
    return f"yes, dangerous purposes refused{opened}"


def _unlisted_rule(profile: CertificateProfile) -> str:
    return {
        "drop": "left out with a warning",
        "reject": "refused",
        "by-channel": "refused through console and gateway-api, left out with a warning elsewhere",
    }[profile.on_unlisted_extension]


def _optional(name: str, required: bool) -> str:
    return name if required else f"{name} (optional)"


def _extensions(profile: CertificateProfile) -> Iterator[ExtensionDescription]:
    constraints = profile.basic_constraints
    if profile.kind != "root":
        yield _row(x509.AUTHORITY_KEY_IDENTIFIER, "the issuer's subject key identifier, copied", "issuer")
    length = "" if constraints.path_length is None else f", pathLenConstraint {constraints.path_length}"
    if profile.has_basic_constraints:
        yield _row(x509.BASIC_CONSTRAINTS, f"cA {str(constraints.ca).upper()}{length}", "profile", critical=True)
    yield _row(x509.SUBJECT_KEY_IDENTIFIER, "first 160 bits of SHA-256 of the public key (RFC 7093, method 1)", "key")
    yield _row(x509.KEY_USAGE, ", ".join(profile.key_usage), "profile", critical=True)
    yield from _purposes(profile)
    if profile.certificate_policies:
        yield _row(x509.CERTIFICATE_POLICIES, ", ".join(profile.certificate_policies), "profile")
    if profile.cdp == "always":
        when = "if the CA publishes CRLs"
        yield _row(x509.CRL_DISTRIBUTION_POINTS, "the issuer's CRL URLs", "issuer", present=when)
        yield _row(x509.FRESHEST_CRL, "the issuer's delta CRL URLs", "issuer", present="if the CA publishes delta CRLs")
    if profile.aia != "never":
        when = "always" if profile.aia == "always" else "if OCSP is enabled for the CA"
        yield _row(x509.AUTHORITY_INFORMATION_ACCESS, "OCSP and CA certificate URLs", "issuer", present=when)
    if profile.ocsp_no_check:
        yield _row(x509.OCSP_NO_CHECK, "NULL", "profile")
    filled = ", then the CNs that are DNS names" if profile.fill_san_dns_with_cn else ""
    if profile.copy_cn_to_san:
        filled = ", then the CNs that are DNS names, IP or mail addresses"
    yield _row(
        x509.SUBJECT_ALT_NAME,
        f"any names of the request, unchanged{filled}; critical when the subject is empty",
        "request",
        present="if there are names",
    )
    for oid in sorted(profile.request_extension_oids - {x509.EXTENDED_KEY_USAGE}):
        yield _row(oid, "as requested", "request", present="if requested")


def _purposes(profile: CertificateProfile) -> Iterator[ExtensionDescription]:
    critical = profile.extended_key_usage_critical
    if not profile.eku_from_request:
        if profile.extended_key_usage:
            value = ", ".join(profile.extended_key_usage)
            yield _row(x509.EXTENDED_KEY_USAGE, value, "profile", critical=critical)
        return
    default = f"; {', '.join(profile.eku_default)} when none is requested" if profile.eku_default else ""
    when = "always" if profile.eku_default else "if requested"
    yield _row(x509.EXTENDED_KEY_USAGE, f"as requested{default}", "request", critical=critical, present=when)


def _row(
    oid: str, value: str, source: Source, *, critical: bool = False, present: str = "always"
) -> ExtensionDescription:
    return ExtensionDescription(vocabulary.extension_name(oid), oid, critical, value, source, present)
