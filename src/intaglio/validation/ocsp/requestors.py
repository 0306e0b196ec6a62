"""Who may ask, where requests have to be signed. Source: RFC 6960 sections 4.1.1 and 4.1.2."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput
from intaglio.validation.ocsp.requests import RequestSignature
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates

_DEEPEST = 5  # certificates below a trusted one, that of the requestor counted
#: Signatures of certificates that are looked at for one request: whoever asks chooses what has to be compared.
_MOST_SIGNATURES = 16
_DIRECTORY_NAME = 0xA4
#: Extensions that may be critical, for what they say is heeded or has no say here.
_UNDERSTOOD = frozenset(
    {
        ext.BASIC_CONSTRAINTS, ext.KEY_USAGE, ext.EXTENDED_KEY_USAGE, ext.SUBJECT_ALT_NAME, ext.NAME_CONSTRAINTS,
        ext.CERTIFICATE_POLICIES, ext.CRL_DISTRIBUTION_POINTS,
    }
)  # fmt: skip


def authorized_by(signature: RequestSignature, trusted_pem: str, now: datetime) -> tuple[CertificateInfo, ...]:
    """The path by which a request was signed: the requestor's certificate first, one of the trusted CAs (PEM) last.

    Empty when there is none. The requestor's certificate must come with the request, first or not, be allowed to sign,
    be that of the requestorName when one is given, and lead to a trusted CA over valid CA certificates. Whether one of
    them was revoked is for the caller to ask.
    """
    try:
        offered = [read_certificate(each) for each in signature.certificates]
        signer = next((each for each in offered if _signed(signature, each)), None)
        if signer is None or not _is_named(signature.requestor, signer):
            return ()
        if signer.key_usage is not None and "digitalSignature" not in signer.key_usage:
            return ()
        return _path(signer, offered, trusted(trusted_pem), now)
    except InvalidInput:
        return ()


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


def _path(
    signer: CertificateInfo, offered: Sequence[CertificateInfo], anchors: Sequence[CertificateInfo], now: datetime
) -> tuple[CertificateInfo, ...]:
    """The shortest path from a certificate to one of the anchors, each certificate used once. Source: RFC 5280
    section 6.1."""
    trusted_ders = {anchor.der for anchor in anchors}
    paths: list[tuple[CertificateInfo, ...]] = [(signer,)]
    seen, signatures = {signer.der}, 0
    for path in paths:  # grows meanwhile
        below = path[-1]
        if len(path) > _DEEPEST or not _is_sound(below, now):
            continue
        for issuer in (*anchors, *offered):
            is_anchor = issuer.der in trusted_ders
            if (issuer.der in seen and not is_anchor) or not _may_have_issued(issuer, path):
                continue
            signatures += 1
            if signatures > _MOST_SIGNATURES:
                return ()
            if not below.verify_signed_by(issuer.spki):
                continue
            if is_anchor and issuer.not_before <= now < issuer.not_after:
                return (*path, issuer)
            if not is_anchor:
                seen.add(issuer.der)
                paths.append((*path, issuer))
    return ()


def _is_sound(certificate: CertificateInfo, now: datetime) -> bool:
    understood = all(each.oid in _UNDERSTOOD for each in certificate.extensions if each.critical)
    return understood and certificate.not_before <= now < certificate.not_after


def _may_have_issued(issuer: CertificateInfo, path: Sequence[CertificateInfo]) -> bool:
    """Whether a CA may stand above a path, as far as can be told without its key."""
    below = path[-1]
    between = sum(not each.is_self_issued for each in path[1:])
    return (
        issuer.is_ca
        and (issuer.key_usage is None or "keyCertSign" in issuer.key_usage)
        and (issuer.path_len is None or between <= issuer.path_len)
        and issuer.subject.key == below.issuer.key
        and (not below.aki or not issuer.ski or below.aki == issuer.ski)
    )
