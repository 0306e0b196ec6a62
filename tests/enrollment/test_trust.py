"""Certificates of manufacturers and other CAs: which path leads to somebody who is trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.support.requests import new_key

from intaglio.asn1 import der
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


@pytest.mark.parametrize("digest", [hashes.MD5(), hashes.SHA1()], ids=lambda each: each.name)
def test_a_signature_that_can_be_forged_vouches_for_nobody(digest: Any) -> None:
    key = rsa.generate_private_key(65_537, 2048)
    name = x509.Name.from_rfc4514_string("CN=vendor")
    device = signed(x509.Name.from_rfc4514_string("CN=device"), new_key(), key)
    oid = {"md5": "1.2.840.113549.1.1.4", "sha1": "1.2.840.113549.1.1.5"}[digest.name]
    algorithm = der.sequence(der.oid(oid), der.null())
    fields = der.children(der.read_tlv(device.tbs_certificate_bytes).content)
    tbs = der.sequence(*(each.der if number != 2 else algorithm for number, each in enumerate(fields)))
    forged = der.sequence(tbs, algorithm, der.bit_string(key.sign(tbs, padding.PKCS1v15(), digest)))
    anchor = signed(name, key, key, ca=True).public_bytes(Encoding.DER)
    assert f"signed with {digest.name.upper()}" in refused([forged], [anchor])
    verify([device.public_bytes(Encoding.DER)], [anchor], NOW)


def test_a_key_that_can_be_broken_vouches_for_nobody() -> None:
    vendor, weak = (x509.Name.from_rfc4514_string(f"CN={name}") for name in ("vendor", "weak"))
    strong, broken = rsa.generate_private_key(65_537, 2048), rsa.generate_private_key(65_537, 1024)
    anchor = signed(vendor, strong, strong, ca=True, issuer=vendor)
    between = signed(weak, broken, strong, ca=True, issuer=vendor)
    device = signed(x509.Name.from_rfc4514_string("CN=device"), new_key(), broken, issuer=weak)
    chain = [each.public_bytes(Encoding.DER) for each in (device, between)]
    assert "has 1024 bits" in refused(chain, [anchor.public_bytes(Encoding.DER)])


def signed(
    subject: x509.Name, key: Any, by: Any, *, ca: bool = False, issuer: x509.Name | None = None
) -> x509.Certificate:
    """A certificate of ``CN=vendor``, unless it is somebody else's."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or x509.Name.from_rfc4514_string("CN=vendor"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )


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
