"""Plans of ingresses without a server: CAs made here, everything else as it would be registered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.ingresses.plan import CrlSource, Layout, Plan, Status, plan_of
from intaglio.x509.certificates import CertificateInfo, read_certificate

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
TOKEN = "igi_" + "a" * 49


@cache
def authority(name: str = "Root") -> tuple[CertificateInfo, str]:
    """A self-signed CA and its first CRL (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=3650))
    certificate = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, SHA256())
    lists = x509.CertificateRevocationListBuilder(subject, NOW, NOW + timedelta(days=1))
    crl = lists.add_extension(x509.CRLNumber(1), False).sign(key, SHA256())
    return read_certificate(certificate.public_bytes(Encoding.DER)), crl.public_bytes(Encoding.PEM).decode()


def make_ingress(type: str = "nginx", **changes: Any) -> Ingress:
    """A registered ingress."""
    values: dict[str, Any] = {
        "id": UUID(int=1), "name": "edge", "organization": "demo", "domain": "prod.example", "environment": "prod",
        "type": type, "description": "", "listener": "0.0.0.0:443", "hosts": ("www.example.com",), "mode": "enforce",
        "mode_since": NOW, "permissive_until": None, "ip_rule": ("10.0.0.0/8", "2001:db8::/32"), "policy": None,
        "revocation_source": "crl", "refresh_seconds": 10, "forward": ("client-cert", "xfcc", "identity"),
        "fail_mode": "closed", "token_made_at": NOW, "created_by": "alice", "created_at": NOW,
    }  # fmt: skip
    return Ingress(**(values | changes))


def make_status(**changes: Any) -> Status:
    """One CRL, published at once after a revocation."""
    certificate, crl = authority()
    url = "http://pki.example.com/crl/demo/root/crl.crl"
    values: dict[str, Any] = {"name": "root-1", "url": url, "issuer": certificate.pem, "pem": crl}
    source = CrlSource(**(values | changes))
    return Status((source,), "http://pki.example.com/ocsp")


def make_plan(type: str = "nginx", layout: Layout | None = None, status: Status | None = None, **changes: Any) -> Plan:
    """A plan with one root as trust anchor."""
    certificate, _ = authority()
    ingress = make_ingress(type, **changes)
    given = layout or Layout(token=TOKEN)
    return plan_of(ingress, given, [certificate], [certificate], status or make_status())
