"""Certificate requests (PKCS #10) as clients make them."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from intaglio.asn1 import der

Key = ec.EllipticCurvePrivateKey
_SID = "1.3.6.1.4.1.311.25.2"


def new_key() -> Key:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def request(
    subject: str = "CN=device-1",
    *,
    key: Key | None = None,
    dns: Sequence[str] = (),
    challenge: str | None = None,
    sid: str | None = None,
) -> bytes:
    """A request in DER for a subject (RFC 4514), signed with its own key."""
    key = key or new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string(subject))
    if dns:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])
        builder = builder.add_extension(names, critical=False)
    if sid is not None:  # MS-WCCE section 2.2.2.7.7.4
        known_as = der.oid(f"{_SID}.1") + der.explicit(0, der.octet_string(sid.encode()))
        value = der.sequence(der.explicit(0, known_as))
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(_SID), value), critical=False)
    if challenge is not None:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
