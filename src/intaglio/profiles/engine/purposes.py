"""The key usage and extended key usage steps: what the subject's key may be used for."""

from __future__ import annotations

from typing import Final

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles import vocabulary
from intaglio.profiles.engine.refusals import invalid, refused
from intaglio.profiles.model import BUILT_IN_KEY_ALGORITHMS, CertificateProfile
from intaglio.x509 import extensions as x509

_SIGNING: Final = frozenset({"digitalSignature", "nonRepudiation", "keyCertSign", "cRLSign"})
_AUTHORITY_USAGES: Final = frozenset({"keyCertSign", "cRLSign"})
#: Key types whose standards leave open what they are certified for; the lint warns where it makes no sense.
_GENERAL_PURPOSE: Final = frozenset(BUILT_IN_KEY_ALGORITHMS)


def check_key_usage(usages: tuple[str, ...], algorithm: KeyAlgorithm) -> None:
    """Refuse to certify an EdDSA or ML-DSA key for anything but signing, which its standard forbids.

    Sources: RFC 8410 section 5, RFC 9881 section 5.
    """
    if algorithm in _GENERAL_PURPOSE:
        return
    wrong = [usage for usage in usages if usage not in _SIGNING]
    if wrong:
        raise refused(
            "key-usage",
            "key-usage-not-for-key",
            f"The key usage {', '.join(wrong)} is impossible with a key of type {algorithm}.",
            "Use a profile with signing usages only, or another key type.",
            target="keyUsage",
        )


def overriding_key_usage(profile: CertificateProfile, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The key usage an authorized caller asks for instead of the profile's, checked and in bit order.

    Raises InvalidInput (``key-usage-unknown``) and Refused (``key-usage-not-allowed``).
    """
    try:
        usages = {vocabulary.key_usage(usage) for usage in asked}
    except ValueError as error:
        raise invalid("key-usage", "key-usage-unknown", f"The key usage cannot be read: {error}.") from None
    if not usages:
        raise refused("key-usage", "key-usage-not-allowed", "The key usage asked for is empty.", target="keyUsage")
    wrong = (usages & _AUTHORITY_USAGES) - set(profile.key_usage)
    if wrong:
        raise refused(
            "key-usage",
            "key-usage-not-allowed",
            f'Profile "{profile.id}" never certifies {", ".join(sorted(wrong))}.',
            "CA certificates are issued from profiles for CAs only.",
            target="keyUsage",
        )
    if profile.is_ca and "keyCertSign" not in usages:
        raise refused(
            "key-usage",
            "key-usage-not-allowed",
            "A CA certificate needs keyCertSign (RFC 5280 section 4.2.1.3).",
            target="keyUsage",
        )
    if usages & {"encipherOnly", "decipherOnly"} and "keyAgreement" not in usages:
        raise refused(
            "key-usage",
            "key-usage-not-allowed",
            "encipherOnly and decipherOnly mean nothing without keyAgreement (RFC 5280 section 4.2.1.3).",
            target="keyUsage",
        )
    return tuple(usage for usage in x509.KEY_USAGE_BITS if usage in usages)


def check_requested_purposes(profile: CertificateProfile, purposes: tuple[str, ...]) -> None:
    """Refuse an extended key usage (dotted OIDs) that a request may not obtain from this profile."""
    _refuse_dangerous(profile, purposes, "extended key usage")


def check_application_policies(profile: CertificateProfile, policies: tuple[str, ...]) -> None:
    """Refuse application policies that would widen what the extended key usage permits.

    Windows reads application policies as extended key usages, in preference to the standard extension: without this
    check a request could obtain through them what it is refused as an extended key usage.
    """
    _refuse_dangerous(profile, policies, "application policy")
    if profile.eku_from_request:
        return
    for policy in policies:
        if policy.startswith(vocabulary.ID_KP) and policy not in profile.purpose_oids:
            raise _not_allowed(profile, policy, "application policy")


def _refuse_dangerous(profile: CertificateProfile, oids: tuple[str, ...], kind: str) -> None:
    for oid in oids:
        if oid in profile.refused_purpose_oids and oid not in profile.purpose_oids:
            raise _not_allowed(profile, oid, kind)


def _not_allowed(profile: CertificateProfile, oid: str, kind: str) -> Exception:
    never = oid == x509.OCSP_SIGNING
    remedy = (
        "OCSP signers are certified by the platform itself."
        if never
        else "Ask for other purposes, or use a profile made for this one; a custom profile can open it."
    )
    return refused(
        "extended-key-usage",
        "eku-not-allowed",
        f'A request cannot obtain the {kind} {vocabulary.purpose_name(oid)} from profile "{profile.id}".',
        remedy,
        target="extensions",
    )
