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

    That is whoever protects the message with it; who asked for it here under the same shared secret; a registration
    authority, for certificates of the profile of its endpoint that no other tenant asked for.
    Raises CmpRefusal: badCertId (another issuer, or never issued), notAuthorized.
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
    if not (await _may_act_on(exchange, found) if exchange.acts_for_others else _is_his(exchange, found)):
        raise CmpRefusal(
            Failure.NOT_AUTHORIZED,
            "The certificate belongs to somebody else.",
            remedy="Protect the message with the key of that certificate, or let a registration authority ask.",
        )
    return found


async def _may_act_on(exchange: Exchange, found: StoredCertificate) -> bool:
    """Whether a registration authority of the endpoint may have something done to a certificate."""
    endpoint, address = exchange.endpoint, found.properties.get("endpoint")
    if found.profile != endpoint.profile:
        return False
    known = await exchange.cmp.enrollment.endpoints.all()
    return all(each.tenant == endpoint.tenant for each in known if each.address == address)


def _is_his(exchange: Exchange, found: StoredCertificate) -> bool:
    sender = exchange.sender
    if sender.stored is not None:
        return sender.stored.id == found.id
    asked_here = found.channel == Protocol.CMP.value and found.properties.get("endpoint") == exchange.endpoint.address
    return sender.secret is not None and asked_here and found.requester == sender.applicant.name
