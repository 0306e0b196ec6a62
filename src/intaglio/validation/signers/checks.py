"""Whether a certificate can sign OCSP answers that relying parties believe. Source: RFC 6960 section 4.2.2.2."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from intaglio.core.errors import Refused
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo

#: Less than this left is worth a word.
_SOON = timedelta(days=14)


def require_fit(
    certificate: CertificateInfo, spki: bytes, issuers: Sequence[CertificateInfo], now: datetime, *, shared: bool
) -> list[str]:
    """Check the certificate of a signer; ``issuers`` are the CA certificates of its authority (none when shared).

    Returns what is worth a warning. Raises Refused: ``signer-certificate-wrong-key``, ``signer-certificate-expired``,
    ``signer-certificate-not-for-ocsp``, ``signer-certificate-not-for-signatures``, ``signer-certificate-wrong-issuer``.
    """
    if certificate.spki != spki:
        raise _refused("wrong-key", "The certificate is for another key.", "Have the request of this signer signed.")
    if certificate.not_after <= now:
        raise _refused("expired", f"The certificate ended on {certificate.not_after:%Y-%m-%d}.", "Get a new one.")
    if certificate.key_usage is not None and not certificate.key_usage & {"digitalSignature", "nonRepudiation"}:
        raise _refused(
            "not-for-signatures",
            "The key usage of the certificate has no digitalSignature.",
            "Have the request signed with key usage digitalSignature.",
        )
    if ext.OCSP_SIGNING not in (certificate.eku or ()):
        raise _refused(
            "not-for-ocsp",
            "The certificate lacks the extended key usage OCSPSigning.",
            "Have the request signed with extended key usage OCSPSigning (1.3.6.1.5.5.7.3.9).",
        )
    if not shared and not is_issued_by(certificate, issuers):
        raise _refused(
            "wrong-issuer",
            f'The certificate was issued by "{certificate.issuer}", and not with a key of the CA that it is to answer '
            "for, so clients would not believe its answers.",
            "Have the request signed by that CA, or make a shared signer, which clients must be told to trust.",
        )
    return _warnings(certificate, now, shared=shared)


def is_issued_by(certificate: CertificateInfo, issuers: Sequence[CertificateInfo]) -> bool:
    """Whether one of the CA certificates belongs to the key that signed it."""
    return any(
        certificate.issuer.key == issuer.subject.key and certificate.verify_signed_by(issuer.spki)
        for issuer in issuers
    )


def _warnings(certificate: CertificateInfo, now: datetime, *, shared: bool) -> list[str]:
    found = []
    if certificate.extension(ext.OCSP_NO_CHECK) is None:
        found.append("It has no id-pkix-ocsp-nocheck: clients may ask for its own status, or not believe its answers.")
    if certificate.extension(ext.CRL_DISTRIBUTION_POINTS) is not None:
        found.append("It names CRL distribution points: clients may look for its own status there.")
    if certificate.extension(ext.BASIC_CONSTRAINTS) is not None and certificate.is_ca:
        found.append("It is the certificate of a CA.")
    if certificate.not_before > now:
        found.append(f"It is valid from {certificate.not_before:%Y-%m-%d %H:%M:%S} UTC on; until then others sign.")
    if certificate.not_after - now < _SOON:
        found.append(f"It ends on {certificate.not_after:%Y-%m-%d}; ask for its successor now.")
    if shared:
        found.append("Clients have to be told to trust a shared signer (openssl ocsp -VAfile).")
    return found


def _refused(code: str, detail: str, remedy: str) -> Refused:
    return Refused(detail, code=f"signer-certificate-{code}", remedy=remedy, target="certificate")
