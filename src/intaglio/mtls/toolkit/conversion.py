"""The same content in another container: PEM, DER, PKCS #7, PKCS #12."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key, pkcs7

from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import keys
from intaglio.x509 import pem
from intaglio.x509.certificates import read_certificate, read_certificates
from intaglio.x509.requests import parse_request

MAX_OCTETS = 4 * 1024 * 1024
_LABELS = (
    "CERTIFICATE", "X509 CERTIFICATE", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X509 CRL", "PUBLIC KEY",
    "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PKCS7",
)  # fmt: skip


def _key_in(label: str) -> Callable[[bytes], object]:
    def recognize(data: bytes) -> None:
        if keys.look_at_key(data).label != label:
            raise InvalidInput("It is another kind of key.")

    return recognize


#: What DER can be, in the order of trying, with its PEM label.
_BY_SHAPE: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("CERTIFICATE", read_certificate),
    *((label, _key_in(label)) for label in keys.LABELS),
    ("CERTIFICATE REQUEST", lambda data: parse_request(data, prove_possession=False)),
    ("X509 CRL", pyca.load_der_x509_crl),
    ("PUBLIC KEY", load_der_public_key),
)


class Format(StrEnum):
    """Containers."""

    PEM = "pem"
    DER = "der"
    P7B = "p7b"
    P12 = "p12"


def convert(data: bytes, wanted: Format) -> bytes:
    """``data`` in the container ``wanted`` (PEM, DER or PKCS #7).

    Raises InvalidInput (``conversion-impossible``, ``file-not-understood``).
    """
    if wanted is Format.DER:
        return to_der(data)
    if wanted is Format.P7B:
        return to_p7b(data)
    if wanted is Format.PEM:
        return _to_pem(data)
    raise _impossible("a PKCS #12 needs a key and a password", "Make it from a key and a certificate.")


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


def _to_pem(data: bytes) -> bytes:
    """PEM of DER, under the label of what it is; certificates out of a PKCS #7."""
    _check_size(data)
    if b"-----BEGIN PKCS7-----" not in data and b"-----BEGIN" in data:
        return data
    for label, recognize in _BY_SHAPE:
        try:
            recognize(data)
        except (InvalidInput, ValueError, TypeError):
            continue
        return pem.encode(label, data).encode()
    return certificates_pem(data).encode()


def to_p7b(data: bytes) -> bytes:
    """The certificates in ``data`` as PKCS #7 (RFC 2315, SignedData without signers) in PEM."""
    certificates = [pyca.load_der_x509_certificate(each.der) for each in read_certificates(data)]
    return pkcs7.serialize_certificates(certificates, Encoding.PEM)


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
