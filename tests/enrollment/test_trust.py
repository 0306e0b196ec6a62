"""Certificates of manufacturers and other CAs: which path leads to somebody who is trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.support.requests import new_key

from intaglio.core.errors import Unauthenticated
from intaglio.enrollment.trust import verify

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey


class Issuer:
    """A CA with a key of its own."""

    def __init__(
        self,
        name: str,
        above: Issuer | None = None,
        *,
        ca: bool = True,
        path_length: int | None = None,
        at: datetime = NOW,
    ) -> None:
        self.at = at
        self.key, self.name = new_key(), x509.Name.from_rfc4514_string(f"CN={name}")
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        self.certificate = (above or self).certify(self.name, self.key, constraints)

    def certify(
        self,
        subject: x509.Name,
        key: Key,
        constraints: x509.BasicConstraints | None = None,
        *,
        days: float = 30,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.at - timedelta(days=1))
            .not_valid_after(self.at + timedelta(days=days))
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def device(self, name: str = "device", *, days: float = 30) -> bytes:
        return self.certify(x509.Name.from_rfc4514_string(f"CN={name}"), new_key(), days=days)


def refused(chain: list[bytes], anchors: list[bytes]) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        verify(chain, anchors, NOW)
    assert refusal.value.code == "certificate-untrusted"
    return refusal.value.detail


def test_a_path_leads_over_the_certificates_that_came_along() -> None:
    root = Issuer("root")
    between = Issuer("between", root)
    device = between.device()
    assert verify([device, between.certificate], [root.certificate], NOW).subject.rfc4514 == "CN=device"
    assert verify([device], [between.certificate], NOW).subject.rfc4514 == "CN=device"  # an anchor need not be a root
    assert "issuer" in refused([device], [root.certificate])


def test_what_is_not_trusted_is_refused() -> None:
    root, other, twin = Issuer("root"), Issuer("other"), Issuer("root")
    refused([other.device(), other.certificate], [root.certificate])
    refused([twin.device(), twin.certificate], [root.certificate])  # the name alone proves nothing
    refused([root.device()], [])
    refused([], [root.certificate])
    refused([root.device()] + [root.certificate] * 20, [root.certificate])
    assert "expired" in refused([root.device(days=-0.5)], [root.certificate])


def test_only_a_ca_issues() -> None:
    root = Issuer("root", path_length=0)
    no_ca = Issuer("device", root, ca=False)
    refused([no_ca.device(), no_ca.certificate], [root.certificate])
    too_deep = Issuer("deep", Issuer("between", root))
    refused([too_deep.device(), too_deep.certificate], [root.certificate])


@given(st.binary(max_size=200))
def test_octets_that_are_no_certificate_are_refused(data: bytes) -> None:
    refused([data], [_ROOT.certificate])
    refused([_DEVICE, data], [_ROOT.certificate])


_ROOT = Issuer("root")
_DEVICE = _ROOT.device()
