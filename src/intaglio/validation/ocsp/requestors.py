"""Who may ask, where requests have to be signed. Source: RFC 6960 sections 4.1.1 and 4.1.2."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput
from intaglio.validation.ocsp.requests import RequestSignature
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates

_DEEPEST = 5  # certificates between that of the requestor and a trusted one, both counted
_DIRECTORY_NAME = 0xA4


def is_authorized(signature: RequestSignature, trusted_pem: str, now: datetime) -> bool:
    """Whether a request was signed by the holder of a certificate below one of the trusted CAs (PEM).

    The requestor's certificate must come with the request, first or not, be allowed to sign, be that of the
    requestorName when one is given, and lead to a trusted CA over valid CA certificates. Its revocation is not looked
    at: whoever may no longer ask is kept out by a CA of its own for requestors.
    """
    try:
        offered = [read_certificate(each) for each in signature.certificates]
        signer = next((each for each in offered if _signed(signature, each)), None)
        return (
            signer is not None
            and _is_named(signature.requestor, signer)
            and (signer.key_usage is None or "digitalSignature" in signer.key_usage)
            and _leads_to(signer, offered, trusted(trusted_pem), now, _DEEPEST)
        )
    except InvalidInput:
        return False


@lru_cache(maxsize=64)
def trusted(trusted_pem: str) -> tuple[CertificateInfo, ...]:
    """The certificates of a PEM text, read once."""
    return tuple(read_certificates(trusted_pem))


def _signed(signature: RequestSignature, certificate: CertificateInfo) -> bool:
    try:
        key = certificate.public_key
    except InvalidInput:
        return False
    return algorithms.verify(key, signature.algorithm, signature.value, signature.signed)


def _is_named(requestor: bytes, signer: CertificateInfo) -> bool:
    """Whether a GeneralName, if there is one, is the subject of the signer."""
    if not requestor:
        return True
    element = der.read_tlv(requestor)
    return element.tag == _DIRECTORY_NAME and element.content == signer.subject.der


def _leads_to(
    certificate: CertificateInfo,
    offered: Sequence[CertificateInfo],
    anchors: Sequence[CertificateInfo],
    now: datetime,
    depth: int,
) -> bool:
    if depth == 0 or not certificate.not_before <= now < certificate.not_after:
        return False
    for issuer in (*anchors, *offered):
        if not _issued(issuer, certificate):
            continue
        if any(issuer.der == anchor.der for anchor in anchors):
            if issuer.not_before <= now < issuer.not_after:
                return True
        elif issuer.der != certificate.der and _leads_to(issuer, offered, anchors, now, depth - 1):
            return True
    return False


def _issued(issuer: CertificateInfo, certificate: CertificateInfo) -> bool:
    may_sign = issuer.key_usage is None or "keyCertSign" in issuer.key_usage
    return (
        issuer.is_ca
        and may_sign
        and issuer.subject.key == certificate.issuer.key
        and certificate.verify_signed_by(issuer.spki)
    )
