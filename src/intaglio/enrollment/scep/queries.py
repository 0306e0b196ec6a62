"""CertPoll, GetCert and GetCRL: what is asked for by name. Source: RFC 8894 sections 3.3.3 to 3.3.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from intaglio.authority import certificates, crls
from intaglio.authority.directory import CaView
from intaglio.core.errors import Forbidden, InvalidInput, NotFound
from intaglio.enrollment import pipeline
from intaglio.enrollment.approvals import request_unknown
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep.errors import content_unreadable
from intaglio.enrollment.scep.issuing import Issuing, certified
from intaglio.enrollment.scep.messages import Envelope, read_issuer_and_serial, read_issuer_and_subject
from intaglio.enrollment.values import Endpoint, Waiting
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name

T = TypeVar("T")


async def poll(
    office: Issuing, endpoint: Endpoint, envelope: Envelope, certificate: CertificateInfo, content: bytes
) -> bytes | Waiting:
    """What has become of a request that waited; it is known by its transaction and by the key that signs.

    Raises NotFound (``request-unknown``), StateConflict (``scep-transaction-taken``), Refused (rejected, expired).
    """
    _readable(read_issuer_and_subject, content)
    found = await office.transactions.find(endpoint, envelope.transaction, certificate.spki)
    if found is None:
        raise request_unknown(envelope.name)
    key, certificate_id = found
    if certificate_id is not None:
        stored = await certified(office.enrollment, endpoint, certificate_id)
        if stored is not None:
            return stored.der
    outcome = await pipeline.collect(office.enrollment, endpoint, key)
    return outcome if isinstance(outcome, Waiting) else outcome.certificate


async def find_certificate(enrollment: Enrollment, endpoint: Endpoint, ca: CaView, content: bytes) -> bytes:
    """A certificate of the CA by issuer and serial number. Raises NotFound, Forbidden."""
    issuer, serial = _readable(read_issuer_and_serial, content)
    if not endpoint.options.get_certificates:
        raise Forbidden("Certificates are not handed out here.", code="scep-operation-off")
    _require_issuer(ca, issuer)
    async with enrollment.database.read() as view:
        return (await certificates.get(view, ca, serial)).der


async def find_crl(enrollment: Enrollment, endpoint: Endpoint, ca: CaView, content: bytes) -> bytes:
    """The CRL on which a certificate would stand; the newest of the CA's key of now for one that it did not issue, such
    as its own. Raises NotFound, Forbidden."""
    issuer, serial = _readable(read_issuer_and_serial, content)
    if not endpoint.options.get_crls:
        raise Forbidden("CRLs are not handed out here.", code="scep-operation-off")
    async with enrollment.database.read() as view:
        try:
            _require_issuer(ca, issuer)
            stored = await certificates.get(view, ca, serial)
            generation, partition = stored.generation, stored.partition
        except NotFound:
            if not _is_own(ca, issuer, serial):
                raise
            generation, partition = ca.generation, ca.partition_of(serial)
        crl = await crls.latest_crl(view, ca, generation, partition)
    if crl is None:
        raise NotFound(f'CA "{ca.full_id}" publishes no CRL.', code="scep-certificate-unknown")
    return crl.der


def _readable(read: Callable[[bytes], T], content: bytes) -> T:
    """What was decrypted, read before anything else is said about it. Raises InvalidInput
    (``scep-content-unreadable``)."""
    try:
        return read(content)
    except InvalidInput:
        raise content_unreadable() from None


def _require_issuer(ca: CaView, issuer: Name) -> None:
    if issuer.key != ca.certificate.subject.key:
        raise NotFound(
            f'CA "{ca.full_id}" is not "{issuer.rfc4514[:200]}".',
            code="scep-certificate-unknown",
            remedy="Ask the CA that issued the certificate.",
        )


def _is_own(ca: CaView, issuer: Name, serial: bytes) -> bool:
    """Whether this is the certificate of the CA itself: sscep and Cisco IOS ask by it."""
    return any(
        key.certificate is not None and key.certificate.serial == serial and key.certificate.issuer.key == issuer.key
        for key in ca.keys.values()
    )
