"""Revocation status out of CRLs and OCSP answers that somebody fetched. Sources: RFC 5280 section 6.3, RFC 6960."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509 as pyca
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from intaglio.asn1 import algorithms, der
from intaglio.core.errors import InvalidInput
from intaglio.x509 import pem
from intaglio.x509.certificates import CertificateInfo, read_certificate

MAX_OCTETS = 64 * 1024 * 1024
_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Found:
    """What is known of one certificate, in words that follow its name."""

    known: bool
    revoked: bool
    why: str


_UNKNOWN = Found(False, False, "no CRL or OCSP answer of its issuer was given")


@dataclass(frozen=True)
class Answers:
    """CRLs and OCSP answers, read but not yet believed: signatures are checked when they are asked."""

    crls: tuple[pyca.CertificateRevocationList, ...]
    ocsp: tuple[ocsp.OCSPResponse, ...]

    def __bool__(self) -> bool:
        return bool(self.crls or self.ocsp)

    def of(self, certificate: CertificateInfo, issuer: CertificateInfo, at: datetime) -> Found:
        """The status at a moment: revoked if anything says so, known if something current says no."""
        found = [*self._by_crl(certificate, issuer, at), *self._by_ocsp(certificate, issuer, at)]
        for wanted in ((True, True), (True, False), (False, False)):
            for each in found:
                if (each.known, each.revoked) == wanted:
                    return each
        return _UNKNOWN

    def _by_crl(self, certificate: CertificateInfo, issuer: CertificateInfo, at: datetime) -> Iterator[Found]:
        for crl in self.crls:
            if not _crl_is_of(crl, issuer):
                continue
            entry = crl.get_revoked_certificate_by_serial_number(int.from_bytes(certificate.serial, "big"))
            if entry is not None and entry.revocation_date_utc <= at:
                yield Found(True, True, f"was revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC")
            elif crl.next_update_utc is None or crl.next_update_utc < at:
                yield Found(False, False, "the CRL is out of date")
            elif not _covers(crl, certificate):
                yield Found(False, False, "the CRL covers only a part of the certificates")
            else:
                yield Found(True, False, "is not on the CRL")

    def _by_ocsp(self, certificate: CertificateInfo, issuer: CertificateInfo, at: datetime) -> Iterator[Found]:
        for response in self.ocsp:
            for single in response.responses:
                if not _is_about(single, certificate, issuer) or not _is_signed_for(response, issuer, at):
                    continue
                if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
                    yield Found(True, True, f"was revoked on {single.revocation_time_utc:%Y-%m-%d %H:%M} UTC")
                elif single.next_update_utc is not None and single.next_update_utc + _SKEW < at:
                    yield Found(False, False, "the OCSP answer is out of date")
                elif single.certificate_status is ocsp.OCSPCertStatus.GOOD:
                    yield Found(True, False, "is good by OCSP")
                else:
                    yield Found(False, False, "the OCSP responder does not know it")


def read(crls: Sequence[bytes], responses: Sequence[bytes]) -> Answers:
    """CRLs (PEM or DER) and OCSP answers (DER). Raises InvalidInput (``status-unreadable``)."""
    if sum(map(len, (*crls, *responses))) > MAX_OCTETS:
        raise _unreadable(f"CRLs and OCSP answers are longer than {MAX_OCTETS} octets")
    return Answers(tuple(map(_read_crl, crls)), tuple(map(_read_ocsp, responses)))


def _read_crl(data: bytes) -> pyca.CertificateRevocationList:
    if b"-----BEGIN" in data:
        found = pem.blocks(data, ("X509 CRL",), limit=1)
        if not found:
            raise _unreadable("the PEM text has no X509 CRL block")
        data = found[0][1]
    try:
        return pyca.load_der_x509_crl(data)
    except (ValueError, TypeError):
        raise _unreadable("it is not a CRL") from None


def _read_ocsp(data: bytes) -> ocsp.OCSPResponse:
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError:
        raise _unreadable("it is not an OCSP response") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise _unreadable(f"the OCSP responder answered {response.response_status.name.lower()}")
    return response


def _crl_is_of(crl: pyca.CertificateRevocationList, issuer: CertificateInfo) -> bool:
    if crl.issuer.public_bytes() != issuer.subject.der:
        return False
    if issuer.key_usage is not None and "cRLSign" not in issuer.key_usage:
        return False
    try:
        return bool(crl.is_signature_valid(issuer.public_key))
    except (InvalidInput, TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _covers(crl: pyca.CertificateRevocationList, certificate: CertificateInfo) -> bool:
    """Whether the absence of ``certificate`` proves something: no delta, and its part of a divided CRL."""
    for extension in crl.extensions:
        value: Any = extension.value
        if isinstance(value, pyca.IssuingDistributionPoint):
            urls = {each.value for each in value.full_name or ()}
            elsewhere = bool(value.full_name) and not urls & set(certificate.crl_urls)
            wrong_kind = value.only_contains_ca_certs if not certificate.is_ca else value.only_contains_user_certs
            special = value.indirect_crl or value.only_contains_attribute_certs or value.only_some_reasons
            if elsewhere or wrong_kind or special or value.relative_name:
                return False
        elif extension.critical:
            return False
    return True


def _is_about(single: Any, certificate: CertificateInfo, issuer: CertificateInfo) -> bool:
    if single.serial_number != int.from_bytes(certificate.serial, "big"):
        return False
    name = single.hash_algorithm.name
    key = der.decode_bit_string(der.children(der.read_tlv(issuer.spki).content)[1].content)[0]
    return bool(
        single.issuer_name_hash == hashlib.new(name, issuer.subject.der).digest()
        and single.issuer_key_hash == hashlib.new(name, key).digest()
    )


def _is_signed_for(response: ocsp.OCSPResponse, issuer: CertificateInfo, at: datetime) -> bool:
    """Signed by the issuer, or by a responder that the issuer certified for OCSP (RFC 6960 section 4.2.2.2)."""
    signers = [issuer]
    for each in response.certificates[:10]:
        try:
            info = read_certificate(each.public_bytes(Encoding.DER))
        except InvalidInput:
            continue
        delegated = _OCSP_SIGNING in (info.eku or ()) and info.not_before <= at <= info.not_after
        if delegated and info.issuer.key == issuer.subject.key and info.verify_signed_by(issuer.spki):
            signers.append(info)
    oid = response.signature_algorithm_oid.dotted_string
    try:
        return any(
            algorithms.verify(each.public_key, oid, response.signature, response.tbs_response_bytes) for each in signers
        )
    except (InvalidInput, InvalidSignature):
        return False


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(f"A status cannot be read: {why}.", code="status-unreadable")
