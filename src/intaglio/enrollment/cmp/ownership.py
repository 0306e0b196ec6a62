"""Whose certificate it is: who may have it renewed or revoked. Source: RFC 9483 section 4.1.3 and 4.2."""

from __future__ import annotations

from intaglio.asn1.cmp import Failure
from intaglio.authority import certificates
from intaglio.authority.certificates import StoredCertificate
from intaglio.core.errors import NotFound
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Exchange
from intaglio.enrollment.values import Protocol
from intaglio.x509.names import Name


async def owned_certificate(exchange: Exchange, issuer: bytes | None, serial: int) -> StoredCertificate:
    """The certificate of the endpoint's CA with a serial number, if the sender may have something done to it.

    That is whoever protects the message with it; a registration authority; who asked for it here under the same shared
    secret. Raises CmpRefusal: badCertId (another issuer, or never issued), notAuthorized.
    """
    if issuer is not None and Name.from_der(issuer).key != exchange.ca.certificate.subject.key:
        raise CmpRefusal(Failure.BAD_CERT_ID, "The certificate is not one of this CA.")
    if serial <= 0:
        raise CmpRefusal(Failure.BAD_CERT_ID, "A serial number is positive.")
    octets = serial.to_bytes((serial.bit_length() + 7) // 8, "big")
    try:
        async with exchange.cmp.enrollment.database.read() as view:
            found = await certificates.get(view, exchange.ca, octets)
    except NotFound:
        raise CmpRefusal(Failure.BAD_CERT_ID, "This CA has issued no certificate with that serial number.") from None
    if not _may_touch(exchange, found):
        raise CmpRefusal(
            Failure.NOT_AUTHORIZED,
            "The certificate belongs to somebody else.",
            remedy="Protect the message with the key of that certificate, or let a registration authority ask.",
        )
    return found


def _may_touch(exchange: Exchange, found: StoredCertificate) -> bool:
    sender = exchange.sender
    if exchange.acts_for_others:
        return True
    if sender.stored is not None:
        return sender.stored.id == found.id
    asked_here = found.channel == Protocol.CMP.value and found.properties.get("endpoint") == exchange.endpoint.address
    return sender.secret is not None and asked_here and found.requester == sender.applicant.name
