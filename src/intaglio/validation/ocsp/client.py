"""Asking an OCSP responder, ours or anybody's, and judging its answer as a relying party has to.

Sources: RFC 6960 sections 3.2 and 4.2.2, RFC 5019, RFC 9654.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput, TimedOut, Unavailable
from intaglio.core.identifiers import serial_octets
from intaglio.core.outgoing import joined
from intaglio.validation.ocsp.issuers import public_key_bits
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo, read_certificate

HashName = Literal["sha1", "sha256", "sha384", "sha512"]

_OIDS: dict[str, str] = {
    "sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}  # fmt: skip
_NONCE = "1.3.6.1.5.5.7.48.1.2"
_NONCE_OCTETS = 32  # RFC 9654 section 2.1
_LARGEST_ANSWER = 1 << 20
_LEEWAY = timedelta(minutes=5)  # by which clocks may differ
_TIMEOUT = httpx.Timeout(20.0)
_PLAIN = {"Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Question:
    """A request about one certificate; ``nonce`` is empty where none is sent."""

    issuer: CertificateInfo
    serial: bytes
    nonce: bytes = field(repr=False)
    request: bytes = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """What a responder said. ``problems`` are the reasons not to believe it; without any it was verified.

    ``response_status`` is that of RFC 6960 (``successful``, ``tryLater`` ...); without success the rest is None.
    """

    response_status: str
    problems: tuple[str, ...] = ()
    status: Literal["good", "revoked", "unknown"] | None = None
    reason: str | None = None
    revoked_at: datetime | None = None
    this_update: datetime | None = None
    next_update: datetime | None = None
    produced_at: datetime | None = None
    signer: str | None = None

    @property
    def verified(self) -> bool:
        return self.response_status == "successful" and not self.problems


def ask_about(
    issuer: CertificateInfo, serial: bytes, *, hash_name: HashName = "sha1", with_nonce: bool = True
) -> Question:
    """A request about the certificate of ``issuer`` with a serial number (big-endian octets)."""
    digest = hashlib.new(hash_name, usedforsecurity=False)
    key_digest = digest.copy()
    digest.update(issuer.subject.der)
    key_digest.update(public_key_bits(issuer.spki))
    cert_id = der.sequence(
        der.sequence(der.oid(_OIDS[hash_name]), der.null()),
        der.octet_string(digest.digest()),
        der.octet_string(key_digest.digest()),
        der.integer(int.from_bytes(serial, "big")),
    )
    nonce = secrets.token_bytes(_NONCE_OCTETS) if with_nonce else b""
    extensions = b""
    if nonce:
        extension = der.sequence(der.oid(_NONCE), der.octet_string(der.octet_string(nonce)))
        extensions = der.explicit(2, der.sequence(extension))
    request = der.sequence(der.sequence(der.sequence(der.sequence(cert_id)), extensions))
    return Question(issuer, serial_octets(int.from_bytes(serial, "big")), nonce, request)


def send(url: str, request: bytes, *, by_get: bool = False) -> bytes:
    """The response of a responder. Raises Unavailable, TimedOut, InvalidInput (``ocsp-answer-unusable``)."""
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=3, headers=_PLAIN) as client:
            if by_get:
                asked = client.build_request("GET", f"{url.rstrip('/')}/{quote(base64.b64encode(request), safe='')}")
            else:
                kind = {"Content-Type": "application/ocsp-request"}
                asked = client.build_request("POST", url, content=request, headers=kind)
            with contextlib.closing(client.send(asked, stream=True)) as answered:
                is_answer = answered.headers.get("content-type", "").startswith("application/ocsp-response")
                content = joined(answered.iter_raw(), _LARGEST_ANSWER) if is_answer else None
    except httpx.TimeoutException:
        raise TimedOut(f"{url} does not answer.", code="ocsp-no-answer") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unavailable(f"{url} cannot be reached: {error}.", code="ocsp-no-answer") from None
    if content is None:
        raise InvalidInput(
            f"{url} answered with HTTP status {answered.status_code} and no OCSP response.", code="ocsp-answer-unusable"
        )
    return content


def judge(question: Question, answer: bytes, trusted: Sequence[CertificateInfo], now: datetime) -> Verdict:
    """What an answer to ``question`` says, and whether to believe it; ``trusted`` are signers trusted by themselves.

    Raises InvalidInput (``ocsp-answer-unusable``) when it is not an OCSP response.
    """
    try:
        read = ocsp.load_der_ocsp_response(answer)
        if read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return Verdict(_camel(read.response_status.name))
        problems, signer = _signature_problems(question, read, trusted, now)
        single = _single(question, read)
        if single is None:
            return Verdict("successful", (*problems, "It is about another certificate."), signer=signer)
        return Verdict(
            "successful",
            (*problems, *_content_problems(question, read, single, now)),
            _STATUS[single.certificate_status],
            None if single.revocation_reason is None else single.revocation_reason.value,
            single.revocation_time_utc,
            single.this_update_utc,
            single.next_update_utc,
            read.produced_at_utc,
            signer,
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"This is not an OCSP response: {error}.", code="ocsp-answer-unusable") from None


_STATUS: dict[ocsp.OCSPCertStatus, Literal["good", "revoked", "unknown"]] = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}


def _single(question: Question, read: ocsp.OCSPResponse) -> ocsp.OCSPSingleResponse | None:
    """What is said about the certificate that was asked about."""
    name, bits = question.issuer.subject.der, public_key_bits(question.issuer.spki)
    for single in read.responses:
        chosen = single.hash_algorithm.name
        if chosen not in _OIDS or single.serial_number != int.from_bytes(question.serial, "big"):
            continue
        if (
            single.issuer_name_hash == hashlib.new(chosen, name, usedforsecurity=False).digest()
            and single.issuer_key_hash == hashlib.new(chosen, bits, usedforsecurity=False).digest()
        ):
            return single
    return None


def _content_problems(
    question: Question, read: ocsp.OCSPResponse, single: ocsp.OCSPSingleResponse, now: datetime
) -> list[str]:
    found = []
    if single.this_update_utc > now + _LEEWAY:
        found.append("Its thisUpdate lies in the future.")
    if single.next_update_utc is not None and single.next_update_utc < now - _LEEWAY:
        found.append("Its nextUpdate is over.")
    nonce = _nonce(read) if question.nonce else None
    if nonce not in (None, question.nonce):  # responders may leave it out: RFC 9654 section 2.1
        found.append("Its nonce is not the one that was sent: the answer may be an old one.")
    elif nonce is None and single.next_update_utc is None and read.produced_at_utc < now - _LEEWAY:
        # Newer information is always to be had then (RFC 6960 section 4.2.2.1), so nobody gives out an older answer.
        found.append("It has neither nextUpdate nor our nonce and was made a while ago: the answer may be an old one.")
    return found


def _nonce(read: ocsp.OCSPResponse) -> bytes | None:
    try:
        return read.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None


def _signature_problems(
    question: Question, read: ocsp.OCSPResponse, trusted: Sequence[CertificateInfo], now: datetime
) -> tuple[list[str], str | None]:
    """Why the signature is not to be believed, and who signed."""
    enclosed = [read_certificate(each.public_bytes(Encoding.DER)) for each in read.certificates]
    signer = next((each for each in (*trusted, question.issuer, *enclosed) if _named(read, each)), None)
    if signer is None:
        return ["Its signer's certificate is not known."], None
    found = [] if _is_signed_by(read, signer) else ["Its signature is wrong."]
    found += _right_problems(question.issuer, signer, trusted, now)
    return found, signer.subject.rfc4514


def _right_problems(
    issuer: CertificateInfo, signer: CertificateInfo, trusted: Sequence[CertificateInfo], now: datetime
) -> list[str]:
    """Why a signer may not speak for the issuer. Source: RFC 6960 section 4.2.2.2."""
    if any(signer.der == each.der for each in trusted) or signer.spki == issuer.spki:
        return []
    if signer.issuer.key != issuer.subject.key or not signer.verify_signed_by(issuer.spki):
        return ["Its signer was not authorized by the CA; name the signer's certificate as trusted if it is."]
    found = []
    if ext.OCSP_SIGNING not in (signer.eku or ()):
        found.append("Its signer's certificate is not for OCSP signing.")
    if not signer.not_before <= now <= signer.not_after:
        found.append("Its signer's certificate is not valid now.")
    return found


def _named(read: ocsp.OCSPResponse, certificate: CertificateInfo) -> bool:
    if read.responder_key_hash is not None:
        key_hash = hashlib.sha1(public_key_bits(certificate.spki), usedforsecurity=False).digest()
        return read.responder_key_hash == key_hash
    return read.responder_name is not None and read.responder_name.public_bytes() == certificate.subject.der


def _is_signed_by(read: ocsp.OCSPResponse, signer: CertificateInfo) -> bool:
    try:
        key = signer.public_key
    except InvalidInput:
        return False
    oid = read.signature_algorithm_oid.dotted_string
    if oid != algorithms.RSASSA_PSS or not isinstance(key, rsa.RSAPublicKey):
        return algorithms.verify(key, oid, read.signature, read.tbs_response_bytes)
    for chosen in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        salted = padding.PSS(padding.MGF1(chosen), padding.PSS.AUTO)
        try:
            key.verify(read.signature, read.tbs_response_bytes, salted, chosen)
        except InvalidSignature:
            continue
        return True
    return False


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.title() for word in rest)
