"""The format a certificate is handed out in."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from intaglio.asn1.algorithms import PrivateKey
from intaglio.core.errors import InvalidInput
from intaglio.gateway.schemas import EnrollmentRequest, Format, RequiredFormat
from intaglio.profiles.model import Mode
from intaglio.x509.certificates import pem, read_certificate
from intaglio.x509.pkcs12 import encode_pkcs12


def check_format(request: EnrollmentRequest) -> Mode:
    """``p12`` when the key is to be made here, else ``csr``.

    Raises InvalidInput: ``format-unsupported`` (PKCS12 although the caller holds the key), ``protection-required``.
    """
    if request.requiredFormat.format is not Format.PKCS12:
        return "csr"
    if request.csr is not None or request.optionalCertificateRequestDetails.encodedPublicKey is not None:
        raise InvalidInput(
            "A PKCS12 answer holds a private key made here; this request brings a key of its own.",
            code="format-unsupported",
            remedy="Leave the csr out, or ask for X509, PEM or PKCS7.",
            target="/requiredFormat/format",
            extra={"step": "format"},
        )
    protection = request.requiredFormat.protection
    if protection is None or not protection.password.get_secret_value():
        raise InvalidInput(
            "A PKCS12 answer needs a password.",
            code="protection-required",
            remedy='Send "protection":{"type":"PasswordProtection","password":"..."} in requiredFormat.',
            target="/requiredFormat/protection",
            extra={"step": "format"},
        )
    return "p12"


async def encode(
    certificate: bytes,
    chain: Sequence[bytes],
    wanted: RequiredFormat,
    include_chain: bool | None,
    private_key: PrivateKey | None = None,
) -> str:
    """``certificate`` (DER) as the text of an answer.

    X509 and PEM hold the certificate alone, PKCS7 and PKCS12 also the chain: PKCS7 when asked for, PKCS12 unless asked
    to leave it out.
    """
    if wanted.format is Format.X509:
        return base64.b64encode(certificate).decode("ascii")
    if wanted.format is Format.PEM:
        return pem(certificate)
    if wanted.format is Format.PKCS7:
        parts = [certificate, *(chain if include_chain else ())]
        bundle = pkcs7.serialize_certificates([pyca.load_der_x509_certificate(part) for part in parts], Encoding.DER)
        return base64.b64encode(bundle).decode("ascii")
    enclosed = () if include_chain is False else chain
    return await asyncio.to_thread(_pkcs12, certificate, enclosed, wanted, private_key)


def _pkcs12(certificate: bytes, chain: Sequence[bytes], wanted: RequiredFormat, key: PrivateKey | None) -> str:
    if key is None or wanted.protection is None:
        raise InvalidInput("There is no private key to hand out.", code="format-unsupported", target="/requiredFormat")
    names = read_certificate(certificate).subject.common_names
    encoded = encode_pkcs12(
        key,
        certificate,
        chain,
        wanted.protection.password.get_secret_value(),
        friendly_name=names[-1] if names else "certificate",
        compatibility=wanted.protection.encryption,
    )
    return base64.b64encode(encoded).decode("ascii")
