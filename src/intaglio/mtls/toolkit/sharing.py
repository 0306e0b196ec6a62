"""What may be given away of an identity: certificate, fingerprint, pin. Source: RFC 7469 section 2.4 (the pin)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from intaglio.x509.certificates import CertificateInfo, read_certificates


@dataclass(frozen=True)
class Shared:
    """Everything public of a certificate that a partner may ask for."""

    pem: str
    der: bytes
    sha256: str
    spki_pin: str
    subject: str
    issuer: str
    serial_number: str
    not_after: str


def share(data: bytes | str) -> Shared:
    """What to give to the other side of the first certificate in ``data`` (PEM, DER, PKCS #7); others may follow.

    Raises InvalidInput (``certificate-unparsable``).
    """
    return shared(read_certificates(data)[0])


def shared(info: CertificateInfo) -> Shared:
    """The same of a certificate that was read."""
    return Shared(
        pem=info.pem,
        der=info.der,
        sha256=colons(info.fingerprint),
        spki_pin=spki_pin(info.spki),
        subject=info.subject.rfc4514,
        issuer=info.issuer.rfc4514,
        serial_number=info.serial.hex().upper(),
        not_after=info.not_after.isoformat(),
    )


def colons(fingerprint: bytes) -> str:
    """Octets as OpenSSL prints them: ``A1:B2:...``."""
    return fingerprint.hex(":").upper()


def spki_pin(spki: bytes) -> str:
    """``sha256//`` and base64 of the SHA-256 of a SubjectPublicKeyInfo, as curl's ``--pinnedpubkey`` takes it."""
    return "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode()
