"""Certificates: handed out as PEM chains, and revoked (RFC 8555 sections 7.4.2, 7.6)."""

from __future__ import annotations

import hmac
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from intaglio.asn1 import algorithms
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.enrollment import pipeline
from intaglio.enrollment.acme import models
from intaglio.enrollment.acme.authorizations import Authorization
from intaglio.enrollment.acme.call import Answer, Call
from intaglio.enrollment.acme.errors import (
    AlreadyRevoked,
    BadRevocationReason,
    Malformed,
    OrderNotReady,
    ResourceUnknown,
    Unauthorized,
)
from intaglio.enrollment.acme.jwk import jwk_of
from intaglio.enrollment.acme.replacement import is_of, names_of
from intaglio.enrollment.acme.statements import CERTIFICATE
from intaglio.enrollment.acme.strict_json import decode_base64url
from intaglio.enrollment.values import Applicant
from intaglio.x509.certificates import pem, read_certificate

PEM_CHAIN: Final = "application/pem-certificate-chain"
#: Reasons that a subscriber may give (RFC 5280 section 5.3.1); the others are those of a CA.
_REASONS: Final = frozenset(
    {
        RevocationReason.UNSPECIFIED,
        RevocationReason.KEY_COMPROMISE,
        RevocationReason.AFFILIATION_CHANGED,
        RevocationReason.SUPERSEDED,
        RevocationReason.CESSATION_OF_OPERATION,
        RevocationReason.PRIVILEGE_WITHDRAWN,
    }
)
_Z: Final = models.authorization


async def download(call: Call, order_id: UUID, alternate: int) -> Answer:
    """The certificate of an order and its issuers, end entity first. ``alternate`` 0 is the default chain.

    Raises ResourceUnknown, OrderNotReady.
    """
    snapshot = await call.acme.enrollment.gateway.snapshot()
    ca = snapshot.ca(call.endpoint.ca)
    row = await call.acme.statements.one(CERTIFICATE, order_id, call.who.id)
    if row is None:
        raise ResourceUnknown("This account has no order with this URL.")
    if row["der"] is None or row["ca_id"] != ca.id:
        raise OrderNotReady("The order has no certificate yet.")
    chains = _chains(bytes(row["der"]), ca.chains.get(row["generation"], ()), call.options.chain_with_root)
    if alternate >= len(chains):
        raise ResourceUnknown("There is no such chain.")
    others = tuple(
        (call.links.certificate(order_id, number), "alternate") for number in range(len(chains)) if number != alternate
    )
    text = "".join(map(pem, chains[alternate]))
    return Answer(octets=text.encode(), media_type=PEM_CHAIN, links=others)


async def revoke(call: Call) -> Answer:
    """Revoke a certificate: asked by its account, by an account that has proven all its names, or with its own key.

    Raises Malformed, ResourceUnknown, Unauthorized, AlreadyRevoked, BadRevocationReason.
    """
    wish = call.wish
    if not isinstance(wish.get("certificate"), str):
        raise Malformed('A revocation has a string "certificate".')
    der = decode_base64url(wish["certificate"], "The certificate")
    try:
        known = await pipeline.presented(call.acme.enrollment, call.endpoint, der)
    except InvalidInput as error:
        raise Malformed(f"The certificate cannot be read: {error.detail}") from None
    if known is None:
        raise ResourceUnknown("The certificate was not issued at this endpoint.")
    applicant = await _authorized(call, known)
    reason = _reason(wish.get("reason"))
    if known.status == "revoked":
        raise AlreadyRevoked("The certificate was revoked before.")
    try:
        await pipeline.revoke(call.acme.enrollment, call.endpoint, applicant, known.serial, reason)
    except StateConflict as error:
        if error.code == "already-in-state":
            raise AlreadyRevoked(error.detail) from None
        raise
    return Answer()


async def _authorized(call: Call, certificate: StoredCertificate) -> Applicant:
    if call.account is None:
        key, _ = algorithms.load_public_key(read_certificate(certificate.der).spki)
        jwk = jwk_of(key)
        if jwk is None or not hmac.compare_digest(jwk.thumbprint, call.signer.thumbprint):
            raise Unauthorized("The request is signed neither by an account nor with the key of the certificate.")
        return Applicant(f"key of certificate {certificate.serial_hex}", "certificate", call.source)
    if is_of(certificate, call.account.id) or await _has_proven_all(call, certificate):
        return call.applicant
    raise Unauthorized(
        "The certificate is of another account.",
        remedy="Sign with the key of the certificate, or have all its names authorized.",
    )


async def _has_proven_all(call: Call, certificate: StoredCertificate) -> bool:
    names = names_of(certificate)
    if not names or len(names) != len(certificate.sans):
        return False
    async with call.acme.enrollment.database.read() as view:
        query = select(_Z).where(
            _Z.c.account_id == call.who.id,
            _Z.c.value.in_({each.base for each in names}),
            _Z.c.status == "valid",
            _Z.c.expires_at > view.now,
        )
        proven = {Authorization.of(row).covers for row in await view.all(query)}
    return names <= proven


def _reason(value: Any) -> RevocationReason:
    if value is None:
        return RevocationReason.UNSPECIFIED
    if isinstance(value, bool) or not isinstance(value, int) or value not in {int(each) for each in _REASONS}:
        allowed = ", ".join(f"{int(each)} ({each.text})" for each in sorted(_REASONS))
        raise BadRevocationReason("The reason is not one that may be given.", remedy=f"Use one of: {allowed}.")
    return RevocationReason(value)


def _chains(certificate: bytes, issuers: tuple[bytes, ...], with_root: bool) -> list[list[bytes]]:
    """The chains that are offered, the default first: without the root, which a client has or cannot trust, and with
    it. A CA that is itself the root is in both."""
    if len(issuers) < 2:
        return [[certificate, *issuers]]
    without, whole = [certificate, *issuers[:-1]], [certificate, *issuers]
    return [whole, without] if with_root else [without, whole]
