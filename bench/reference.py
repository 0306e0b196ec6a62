"""References: what the bare library does on this machine, now."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from intaglio.core import clock

_DER = Encoding.DER


def rate(call: Callable[[], object], *, seconds: float = 3.0) -> float:
    """Calls per second of CPU-bound ``call``, after a short warm-up."""
    for _ in range(50):
        call()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for _ in range(50):
            call()
        count += 50
    return count / elapsed


def bare_certificate() -> Callable[[], bytes]:
    """Build and sign, with nothing but `cryptography`, the certificate that a TLS server profile issues."""
    issuer_key, subject_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Issuing"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bench")]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.test")])
    authority_key_id = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    crl, ocsp = "http://pki.example.test/crl/bench/issuing/crl.crl", "http://pki.example.test/ocsp/bench/issuing"
    public_key = subject_key.public_key()

    def build() -> bytes:
        now = clock.now().replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example.test")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key_id), critical=False
            )
            .add_extension(
                x509.CRLDistributionPoints(
                    [x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(
                            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp)
                        ),
                        x509.AccessDescription(
                            AuthorityInformationAccessOID.CA_ISSUERS,
                            x509.UniformResourceIdentifier("http://pki.example.test/aia/bench/issuing/ca.cer"),
                        ),
                    ]
                ),
                critical=False,
            )
        )
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(_DER)

    return build


def bare_signature() -> Callable[[], bytes]:
    """One ECDSA P-256 signature over an OCSP answer's worth of octets."""
    key, data = ec.generate_private_key(ec.SECP256R1()), b"x" * 300
    algorithm = ec.ECDSA(hashes.SHA256())
    return lambda: key.sign(data, algorithm)


def certificate_request(common_name: str = "www.example.test") -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A P-256 key and its PKCS#10 request in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, request.public_bytes(_DER)
