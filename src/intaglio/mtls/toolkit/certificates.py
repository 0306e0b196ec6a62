"""Self-signed certificates, for partners that pin one certificate and have no CA. Source: RFC 5280."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import PrivateKey
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import new_serial_number
from intaglio.mtls.toolkit.signatures import Digest, identifier, signed
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import assemble_certificate, assemble_tbs
from intaglio.x509.requests import CertificateRequest

CLIENT_AUTH, SERVER_AUTH = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"
DEFAULT_DAYS, MOST_DAYS = 365, 3_650
_SKEW = timedelta(minutes=5)  # the partner's clock may be behind ours


def self_signed(
    request: CertificateRequest,
    key: PrivateKey,
    *,
    now: datetime,
    days: int = DEFAULT_DAYS,
    digest: Digest = Digest.SHA256,
    eku: Sequence[str] = (CLIENT_AUTH,),
) -> bytes:
    """DER of a version 3 certificate over the subject and names of ``request``, signed by its own ``key``.

    It is no CA; key usage is digitalSignature, ``eku`` are dotted extended key usages, ``days`` (1 to 3650) count from
    ``now``. Raises InvalidInput (``key-mismatch``, ``validity-out-of-range``, ``request-without-name``).
    """
    if algorithms.spki(key.public_key()) != request.spki:
        raise InvalidInput(
            "The private key does not belong to the certificate request.",
            code="key-mismatch",
            remedy="Give the key the request was made with.",
        )
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"{days} days are not within 1 to {MOST_DAYS}.", code="validity-out-of-range", target="days")
    start = now.replace(microsecond=0)
    signature_identifier = identifier(key, digest)
    tbs = assemble_tbs(
        serial=new_serial_number(),
        signature_identifier=signature_identifier,
        issuer_der=request.subject.der,
        not_before=start - _SKEW,
        not_after=start + timedelta(days=days),
        subject_der=request.subject.der,
        spki=request.spki,
        extensions=_extensions(request, eku),
    )
    return assemble_certificate(tbs, signature_identifier, signed(key, digest, tbs)[1])


def _extensions(request: CertificateRequest, eku: Sequence[str]) -> bytes:
    if request.subject.is_empty:
        raise InvalidInput(
            "A self-signed certificate needs a subject, which is also its issuer.", code="request-without-name"
        )
    key_id = algorithms.key_identifier(request.spki)
    parts = [
        ext.extension(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(False)),
        ext.extension(ext.KEY_USAGE, True, ext.key_usage(["digitalSignature"])),
        ext.extension(ext.EXTENDED_KEY_USAGE, False, ext.extended_key_usage(eku)),
        ext.extension(ext.SUBJECT_KEY_IDENTIFIER, False, ext.subject_key_identifier(key_id)),
        ext.extension(ext.AUTHORITY_KEY_IDENTIFIER, False, ext.authority_key_identifier(key_id)),
    ]
    if request.san is not None:
        parts.append(ext.extension(ext.SUBJECT_ALT_NAME, False, request.san.der))
    return b"".join(parts)
