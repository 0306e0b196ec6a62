"""What is found in certificates that are to sign timestamps, or did."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intaglio.core import clock
from intaglio.timestamping.checks import certificate_findings, ordered_chain
from intaglio.x509.certificates import CertificateInfo, read_certificate


def _path(*limits: int | None) -> tuple[CertificateInfo, tuple[CertificateInfo, ...]]:
    """The certificate of a TSA below CAs with these path length constraints, the root's first; and those, issuer
    first."""
    now, chain = clock.now().replace(microsecond=0), []
    issuer, issuer_key = None, None
    for number, limit in enumerate((*limits, -1)):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"number {number}")])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject)
        builder = builder.public_key(key.public_key()).serial_number(number + 1)
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        if limit == -1:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            builder = builder.add_extension(purpose, True)
        else:
            builder = builder.add_extension(x509.BasicConstraints(True, limit), True)
        made = builder.sign(issuer_key or key, hashes.SHA256())
        chain.append(read_certificate(made.public_bytes(Encoding.DER)))
        issuer, issuer_key = subject, key
    certificate, *above = reversed(chain)
    return certificate, tuple(above)


@pytest.mark.parametrize(
    ("limits", "good"), [((None, None), True), ((1, 0), True), ((None, 0, None), False), ((0, 0), False), ((0,), True)]
)
def test_a_ca_that_may_have_no_ca_below_it_vouches_for_none(limits: tuple[int | None, ...], good: bool) -> None:
    certificate, given = _path(*limits)
    chain = ordered_chain(certificate, given)
    assert len(chain) == len(limits)
    found = certificate_findings(certificate, chain, certificate.spki, clock.now())
    assert [each.code for each in found] == ([] if good else ["tsa-chain-broken"])
