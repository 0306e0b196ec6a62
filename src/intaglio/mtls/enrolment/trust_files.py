"""The CA certificates that users install, as PEM, DER and Apple configuration profile.

They are the trust anchor of the domain and, where the listeners present a certificate of the platform's own CA, that
CA's root, so that the page itself and the mTLS host are verified too.
"""

from __future__ import annotations

import hashlib
import plistlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from intaglio.x509 import pem
from intaglio.x509.certificates import read_certificate

PEM_TYPE = "application/x-pem-file"
DER_TYPE = "application/x-x509-ca-cert"
MOBILECONFIG_TYPE = "application/x-apple-aspen-config"
#: Names of payloads are made from what is in them, so that installing the same profile again replaces it.
_NAMESPACE = uuid.UUID("6f3a1d0e-7c55-5e0b-9a43-2f6f0f0c7b11")


@dataclass(frozen=True)
class TrustFiles:
    """What to trust for one domain: ``anchors`` of the domain, and of the ``server`` if they are others (DER)."""

    domain: str
    title: str
    anchors: Sequence[bytes] = field(repr=False)
    server: Sequence[bytes] = field(default=(), repr=False)

    @property
    def all(self) -> tuple[bytes, ...]:
        """Every certificate once, the anchor of the domain first."""
        return tuple(dict.fromkeys([*self.anchors, *self.server]))


def as_pem(files: TrustFiles) -> str:
    """All certificates in PEM, each under a line with its subject and SHA-256 fingerprint."""
    return "".join(
        f"# {_subject(der)}\n# SHA-256 {fingerprint(der)}\n{pem.encode('CERTIFICATE', der)}" for der in files.all
    )


def as_der(files: TrustFiles) -> bytes:
    """The first anchor of the domain."""
    return files.anchors[0]


def as_mobileconfig(files: TrustFiles) -> bytes:
    """A configuration profile that installs the certificates on macOS, iOS and iPadOS.

    Roots go in as ``com.apple.security.root``, other CAs as ``com.apple.security.pem``. Source: Apple Configuration
    Profile Reference, Certificate Payload. It is not signed: who loads it over a verified connection knows whom it is
    from, and the device shows the certificates before it installs them.
    """
    payloads = [_payload(der) for der in files.all]
    identifier = f"intaglio.{files.domain}"
    content = b"".join(hashlib.sha256(der).digest() for der in files.all)
    profile: dict[str, Any] = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{identifier}.trust",
        "PayloadUUID": _uuid(f"{identifier} {content.hex()}"),
        "PayloadDisplayName": f"Trust for {files.title}",
        "PayloadDescription": f"Installs the certificate authorities of {files.title}.",
        "PayloadOrganization": files.title,
        "PayloadRemovalDisallowed": False,
        "PayloadContent": payloads,
    }
    return plistlib.dumps(profile, fmt=plistlib.FMT_XML, sort_keys=True)


def fingerprint(der: bytes) -> str:
    """SHA-256 as people compare it: upper-case hexadecimal in pairs."""
    return hashlib.sha256(der).digest().hex(":").upper()


def _payload(der: bytes) -> dict[str, Any]:
    certificate = read_certificate(der)
    is_root = certificate.is_self_issued
    digest = hashlib.sha256(der).hexdigest()
    name = _subject(der)
    payload: dict[str, Any] = {
        "PayloadType": "com.apple.security.root" if is_root else "com.apple.security.pem",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"intaglio.certificate.{digest[:16]}",
        "PayloadUUID": _uuid(digest),
        "PayloadDisplayName": name,
        "PayloadDescription": f"SHA-256 {fingerprint(der)}",
        "PayloadCertificateFileName": f"{digest[:16]}.{'cer' if is_root else 'pem'}",
        "PayloadContent": der if is_root else pem.encode("CERTIFICATE", der).encode(),
    }
    return payload


def _subject(der: bytes) -> str:
    subject = read_certificate(der).subject
    text = subject.common_names[-1] if subject.common_names else subject.rfc4514
    return "".join(character if character.isprintable() else "?" for character in text)


def _uuid(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name)).upper()
