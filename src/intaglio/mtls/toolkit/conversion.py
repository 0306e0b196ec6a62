"""The same content in another container: PEM, DER, PKCS #7, PKCS #12."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from intaglio.core.errors import InvalidInput
from intaglio.x509 import pem
from intaglio.x509.certificates import read_certificates

MAX_OCTETS = 4 * 1024 * 1024
_LABELS = (
    "CERTIFICATE", "X509 CERTIFICATE", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X509 CRL", "PUBLIC KEY",
    "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PKCS7",
)  # fmt: skip


class Format(StrEnum):
    """Containers."""

    PEM = "pem"
    DER = "der"
    P7B = "p7b"
    P12 = "p12"


def to_der(data: bytes) -> bytes:
    """The one object of a PEM file in DER; DER stays as it is.

    Raises InvalidInput (``conversion-impossible``) when there are several objects or the key is encrypted in the
    traditional way, which has no DER form.
    """
    _check_size(data)
    if b"-----BEGIN" not in data:
        return data
    if b"Proc-Type: 4,ENCRYPTED" in data:
        raise _impossible("a key in the traditional encryption has no DER form", "Write it as PKCS #8 first.")
    found = pem.blocks(data, _LABELS, limit=100)
    if len(found) != 1:
        raise _impossible(f"there are {len(found)} objects in it, and DER holds one", "Convert to p7b or p12 instead.")
    return found[0][1]


def to_pem(data: bytes, label: str) -> str:
    """DER under a PEM ``label``; PEM stays as it is."""
    _check_size(data)
    return data.decode("ascii", "replace") if b"-----BEGIN" in data else pem.encode(label, data)


def to_p7b(data: bytes, *, form: Format = Format.PEM) -> bytes:
    """The certificates in ``data`` as PKCS #7 (RFC 2315 degenerate SignedData) in PEM or DER."""
    certificates = [pyca.load_der_x509_certificate(each.der) for each in read_certificates(data)]
    return pkcs7.serialize_certificates(certificates, Encoding.DER if form is Format.DER else Encoding.PEM)


def certificates_pem(data: bytes) -> str:
    """All certificates of a PEM bundle, DER or PKCS #7 as PEM, in their order."""
    return bundle([each.der for each in read_certificates(data)])


def bundle(certificates: Sequence[bytes]) -> str:
    """DER certificates as one PEM text."""
    return "".join(pem.encode("CERTIFICATE", each) for each in certificates)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_OCTETS:
        raise InvalidInput(f"The file is longer than {MAX_OCTETS} octets.", code="file-too-large")


def _impossible(why: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"It cannot be converted: {why}.", code="conversion-impossible", remedy=remedy)
