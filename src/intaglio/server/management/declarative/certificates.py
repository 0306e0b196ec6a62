"""Certificates in declarations, of keys that another CA certifies: PEM, those above it behind that of the key."""

from __future__ import annotations

from intaglio.server.management.declarative.steps import FieldChange
from intaglio.x509.certificates import CertificateInfo, read_certificates


def certificate_change(wanted: str, present: str) -> FieldChange | None:
    """The change when a declared certificate is to take the place of the one in use.

    One that is not newer stays out: since the document was written, the certificate was renewed.
    """
    if not wanted:
        return None
    new = read_certificates(wanted)[0]
    old = read_certificates(present)[0] if present else None
    if old is not None and (new.der == old.der or new.not_before <= old.not_before):
        return None
    return FieldChange("certificate", _told(old), _told(new))


def bundle(certificate: CertificateInfo | None, chain: tuple[CertificateInfo, ...]) -> str:
    """The PEM of a certificate and those above it; empty when there is none."""
    return "" if certificate is None else "".join(each.pem for each in (certificate, *chain))


def _told(certificate: CertificateInfo | None) -> str:
    if certificate is None:
        return "(nothing)"
    return f"{certificate.subject.rfc4514} until {certificate.not_after:%Y-%m-%d}"
