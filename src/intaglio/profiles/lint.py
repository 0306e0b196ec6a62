"""Advice about a profile declaration: what is permitted and yet likely to disappoint somebody (``profile lint``).

Contradictions never get this far: a declaration that contains one is not read. What is found here are warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles import vocabulary
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.lint import Finding

_ELLIPTIC: Final = frozenset({KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ECDSA_P521})
_RSA: Final = frozenset({KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096})
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
#: What Apple's platforms accept from TLS servers under any root, installed ones included.
_LONGEST_SERVER: Final = timedelta(days=825)


def lint_profile(profile: CertificateProfile) -> list[Finding]:
    """Warnings about ``profile``, in the order of the certificate's parts. Empty when there is nothing to say."""
    return [Finding("warning", code, text) for check in _CHECKS for code, text in check(profile)]


def _key_usages(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    usages, keys = set(profile.key_usage), set(profile.key_algorithms)
    encryption = usages & {"keyEncipherment", "dataEncipherment"}
    if encryption and keys & _ELLIPTIC:
        text = f"{' and '.join(sorted(encryption))} mean nothing with an ECDSA key (RFC 8813 section 3)"
        yield "encryption-with-ecdsa", text
    if "keyAgreement" in usages and keys & _RSA:
        yield "key-agreement-with-rsa", "keyAgreement means nothing with an RSA key (RFC 3279 section 2.3.1)"


def _purposes(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    if profile.eku_from_request and not profile.eku_default:
        yield (
            "any-purpose-when-silent",
            "a request that names no extended key usage gets a certificate for every purpose (see eku_default)",
        )
    opened = [*profile.eku_allow, *(name for name in profile.extended_key_usage if name == "anyExtendedKeyUsage")]
    if opened:
        yield "dangerous-purposes", f"{', '.join(opened)} can be obtained by whoever may use this profile"


def _server(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    if profile.is_ca or x509.SERVER_AUTH not in profile.default_purpose_oids:
        return
    named = {"dNSName", "iPAddress"} & set(profile.required_san_types)
    if not profile.require_san_for_server and not named:
        yield "server-without-name", "a TLS server certificate can be issued without the name that clients look for"
    if "keyEncipherment" not in profile.key_usage and set(profile.key_algorithms) & _RSA:
        yield "no-static-rsa", "RSA keys without keyEncipherment serve ECDHE and TLS 1.3, not the static RSA of TLS 1.2"
    if profile.validity.default.after(_SOME_DAY) > _SOME_DAY + _LONGEST_SERVER:
        yield "server-too-long", "some clients accept no TLS server certificate that lives longer than 825 days"


def _mail(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    if x509.EMAIL_PROTECTION in profile.default_purpose_oids and "rfc822Name" not in profile.required_san_types:
        yield "mail-without-address", "an S/MIME certificate can be issued without the mail address programs look for"


def _domain_controller(profile: CertificateProfile) -> Iterator[tuple[str, str]]:
    if "domain-controller" in profile.id and vocabulary.PURPOSES["pkinitKdc"] not in profile.purpose_oids:
        text = "clients with strict KDC validation want pkinitKdc in a domain controller's certificate (RFC 4556)"
        yield "no-kdc-purpose", text


_CHECKS: Final[tuple[Callable[[CertificateProfile], Iterator[tuple[str, str]]], ...]] = (
    _key_usages,
    _purposes,
    _server,
    _mail,
    _domain_controller,
)
