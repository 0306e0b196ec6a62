"""Certificates by the identifiers of ACME Renewal Information, and orders that replace them.

Source: RFC 9773 sections 4.1 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from intaglio.asn1 import der
from intaglio.authority import certificates
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.identifiers import serial_octets
from intaglio.db.engine import Transaction
from intaglio.enrollment.acme.call import Call
from intaglio.enrollment.acme.errors import Malformed, ResourceUnknown, Unauthorized
from intaglio.enrollment.acme.identifiers import Identifier
from intaglio.enrollment.acme.strict_json import decode_base64url, encode_base64url

_LONGEST: Final = 200  # characters


def certificate_identifier(key_identifier: bytes, serial: bytes) -> str:
    """The identifier of a certificate: its authority key identifier and its serial number, DER-encoded."""
    number = der.read_tlv(der.integer(int.from_bytes(serial, "big"))).content
    return f"{encode_base64url(key_identifier)}.{encode_base64url(number)}"


async def by_identifier(view: Transaction, ca: CaView, text: str) -> StoredCertificate:
    """The certificate of a CA with this identifier. Raises Malformed, ResourceUnknown."""
    key, dot, number = text.partition(".")
    if not dot or len(text) > _LONGEST:
        raise Malformed("A certificate is named by two base64url strings with a dot between them.")
    key_identifier = decode_base64url(key, "The authority key identifier")
    content = decode_base64url(number, "The serial number")
    try:
        serial = serial_octets(der.decode_integer(content))
    except (InvalidInput, OverflowError, ValueError):
        raise Malformed("The serial number is not that of a certificate.") from None
    if not any(each.key_identifier == key_identifier for each in ca.keys.values()):
        raise ResourceUnknown("The certificate was not issued by the CA of this endpoint.")
    try:
        found = await certificates.get(view, ca, serial)
    except NotFound:
        raise ResourceUnknown("There is no certificate with this identifier.") from None
    signer = ca.keys.get(found.generation)
    if signer is None or signer.key_identifier != key_identifier:
        raise ResourceUnknown("There is no certificate with this identifier.")
    return found


async def replaced_certificate(
    call: Call, ca: CaView, value: Any, identifiers: Sequence[Identifier]
) -> StoredCertificate:
    """The certificate that an order says to replace. Raises Malformed, ResourceUnknown, Unauthorized (it is another
    account's)."""
    if not isinstance(value, str):
        raise Malformed('"replaces" is a string.')
    async with call.acme.enrollment.database.read() as view:
        found = await by_identifier(view, ca, value)
    if not is_of(found, call.who.id):
        raise Unauthorized("The certificate to be replaced is not one of this account.")
    if not names_of(found) & set(identifiers):
        raise Malformed("The order shares no name with the certificate it replaces.")
    return found


def is_of(certificate: StoredCertificate, account_id: UUID) -> bool:
    """Whether a certificate was issued to the account; known also after its order was deleted."""
    return certificate.channel == "acme" and certificate.requester == f"acme:{account_id}"


def names_of(certificate: StoredCertificate) -> set[Identifier]:
    """The identifiers that a certificate is for."""
    found = set()
    for text in certificate.sans:
        kind, _, value = text.partition("=")
        if kind == "dNSName":
            found.add(Identifier("dns", value.lower()))
        elif kind == "iPAddress":
            found.add(Identifier("ip", value))
    return found
