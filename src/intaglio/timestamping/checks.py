"""Whether a certificate can sign timestamps: what a verifier will look at, looked at before it counts.

Sources: RFC 3161 section 2.3, RFC 5280 section 6.1, ETSI EN 319 422 section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from intaglio.core.clock import rfc3339
from intaglio.core.errors import Refused
from intaglio.timestamping.values import KEY_ALGORITHMS
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.extensions import EXTENDED_KEY_USAGE, TIME_STAMPING

_USAGES = frozenset({"digitalSignature", "nonRepudiation"})


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (``error``) or should be looked at (``warning``)."""

    level: str
    code: str
    detail: str
    remedy: str = ""


def certificate_findings(
    certificate: CertificateInfo, chain: Sequence[CertificateInfo], spki: bytes | None, now: datetime
) -> list[Finding]:
    """What speaks against signing timestamps with this certificate; empty when nothing does.

    ``chain`` are its CA certificates, issuer first; ``spki`` is the key that is there for it, None when there is none.
    """
    return [
        *_purpose(certificate),
        *_key(certificate, spki),
        *_dates(certificate, now),
        *_chain(certificate, chain, now),
    ]


def require_fit(
    certificate: CertificateInfo, chain: Sequence[CertificateInfo], spki: bytes | None, now: datetime
) -> None:
    """Raise Refused with the code of the first thing that is wrong, and all of them in ``fields``."""
    found = [each for each in certificate_findings(certificate, chain, spki, now) if each.level == "error"]
    if found:
        raise Refused(
            found[0].detail,
            code=found[0].code,
            remedy=found[0].remedy,
            target="certificate",
            fields=[("certificate", each.detail) for each in found],
        )


def ordered_chain(certificate: CertificateInfo, given: Sequence[CertificateInfo]) -> tuple[CertificateInfo, ...]:
    """The CA certificates of ``given`` that lead up from ``certificate``, issuer first, as far as they reach.

    Signatures are verified, so that of several certificates with one name the right one is found.
    """
    found: list[CertificateInfo] = []
    below = certificate
    while not below.is_self_issued:
        above = next(
            (ca for ca in given if ca.subject.key == below.issuer.key and below.verify_signed_by(ca.spki)), None
        )
        if above is None or above in found:
            break
        found.append(above)
        below = above
    return tuple(found)


def _purpose(certificate: CertificateInfo) -> list[Finding]:
    """The extended key usage has to be critical and timeStamping alone, or verifiers refuse every token."""
    found = []
    purposes = certificate.extension(EXTENDED_KEY_USAGE)
    if certificate.eku != (TIME_STAMPING,) or purposes is None or not purposes.critical:
        found.append(
            Finding(
                "error",
                "tsa-certificate-purpose",
                "The certificate does not have a critical extended key usage with timeStamping alone.",
                "Have it issued with extendedKeyUsage = critical, timeStamping (RFC 3161 section 2.3).",
            )
        )
    usages = certificate.key_usage
    if usages is not None and (not usages & _USAGES or usages - _USAGES):
        found.append(
            Finding(
                "error",
                "tsa-certificate-usage",
                "The key usage of the certificate is not digitalSignature.",
                "Have it issued with keyUsage = digitalSignature.",
            )
        )
    if certificate.is_ca:
        found.append(Finding("error", "tsa-certificate-usage", "The certificate is that of a CA."))
    return found


def _key(certificate: CertificateInfo, spki: bytes | None) -> list[Finding]:
    if certificate.key_algorithm not in KEY_ALGORITHMS:
        return [
            Finding(
                "error",
                "tsa-certificate-key-type",
                "The key of the certificate cannot sign timestamps.",
                f"Use one of: {', '.join(KEY_ALGORITHMS)}.",
            )
        ]
    if spki is None or certificate.spki != spki:
        return [
            Finding(
                "error",
                "tsa-certificate-key-missing",
                "There is no private key here that belongs to the certificate.",
                "Have the request of this issuer signed: intaglio tsa issuer csr.",
            )
        ]
    return []


def _dates(certificate: CertificateInfo, now: datetime) -> list[Finding]:
    if now > certificate.not_after:
        when = rfc3339(certificate.not_after)
        return [Finding("error", "tsa-certificate-expired", f"The certificate expired at {when}.", "Renew it.")]
    if now < certificate.not_before:
        when = rfc3339(certificate.not_before)
        return [Finding("error", "tsa-certificate-not-yet-valid", f"The certificate is valid from {when} on only.")]
    return []


def _chain(certificate: CertificateInfo, chain: Sequence[CertificateInfo], now: datetime) -> list[Finding]:
    below, between = certificate, 0
    for above in chain:
        wrong = _link(below, above, now)
        if not wrong and above.path_len is not None and between > above.path_len:
            wrong = f'"{above.subject}" may not stand above as many CAs.'
        if wrong:
            return [Finding("error", "tsa-chain-broken", wrong, "Give the CA certificates up to the root.")]
        below, between = above, between + (not above.is_self_issued)
    if not below.is_self_issued:
        issuer = certificate.issuer if below is certificate else below.issuer
        detail = f'The certificate of "{issuer}" is missing in the chain.'
        return [Finding("error", "tsa-chain-broken", detail, "Give the CA certificates up to the root.")]
    return []


def _link(below: CertificateInfo, above: CertificateInfo, now: datetime) -> str:
    """What is wrong with ``above`` as issuer of ``below``; empty when nothing is."""
    if above.subject.key != below.issuer.key:
        return f'The chain has "{above.subject}" where "{below.issuer}" belongs.'
    if not below.verify_signed_by(above.spki):
        return f'The signature of "{below.subject}" is not that of "{above.subject}".'
    if not above.is_ca or (above.key_usage is not None and "keyCertSign" not in above.key_usage):
        return f'"{above.subject}" is no CA.'
    if not above.not_before <= now <= above.not_after:
        return f'The certificate of "{above.subject}" is not valid now.'
    return ""
