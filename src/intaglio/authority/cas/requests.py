"""Certificate requests of issuing CAs whose issuer is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from intaglio.asn1 import der
from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import require_ca
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.core.errors import StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.service import Signer
from intaglio.x509 import extensions as ext
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_KEY_USAGE = ("digitalSignature", "keyCertSign", "cRLSign")


async def make_request(
    tx: Transaction, signer: Signer, ca_id: UUID, generation: int, subject: Name, path_length: int
) -> bytes:
    """Make and keep the request for a key of a CA, in place of an earlier one. Returns its DER."""
    request = await signed_request(signer, subject, path_length)
    values = {"generation": generation, "csr": request, "created_at": tx.now}
    statement = insert(models.ca_request).values(ca_id=ca_id, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["ca_id"], set_=values))
    return request


async def signed_request(signer: Signer, subject: Name, path_length: int) -> bytes:
    """A PKCS #10 request that asks for what the certificate of a CA needs. Source: RFC 2986 section 4, RFC 2985
    section 5.4.2."""
    wanted = der.sequence(
        ext.extension(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(True, path_length)),
        ext.extension(ext.KEY_USAGE, True, ext.key_usage(_KEY_USAGE)),
    )
    attributes = der.explicit(0, der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(wanted)))
    info = der.sequence(der.integer(0), subject.der, signer.spki, attributes)
    signature = await signer.sign(info)
    return der.sequence(info, signer.algorithm.signature_identifier, der.bit_string(signature))


@dataclass(frozen=True)
class PendingRequest:
    """A request that waits to be signed elsewhere: for which key generation, and its DER."""

    generation: int
    der: bytes
    created_at: datetime


async def get_request(authority: Authority, principal: Principal, full_id: str) -> PendingRequest:
    """The outstanding certificate request of a CA. Needs ``ca.view``. Raises NotFound, StateConflict without one."""
    snapshot = await authority.current()
    async with authority.database.read() as view:
        ca = await require_ca(view, snapshot, principal, full_id, Permission.CA_VIEW)
        return await pending_request(view, ca)


async def reissue_request(authority: Authority, principal: Principal, full_id: str) -> PendingRequest:
    """Make the outstanding request of a CA anew, over the same key. Needs ``ca.configure``.

    Raises NotFound, StateConflict when nothing is awaited.
    """
    snapshot = await authority.current()
    async with authority.database.transaction() as tx:
        ca = await require_ca(tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        current = await pending_request(tx, ca)
        key_id = ca.keys[current.generation].key_id
        assert key_id is not None, "only a key of ours has a request"
        signer = await authority.keystore.load(tx, key_id)
        path_length = requested_path_length(current.der)
        request = await make_request(tx, signer, ca.id, current.generation, ca.subject, path_length)
        audit.record(
            tx, principal, "ca.request", "ca", full_id, organization=ca.organization, generation=current.generation
        )
        return PendingRequest(current.generation, request, tx.now)


async def withdraw_request(authority: Authority, principal: Principal, full_id: str) -> None:
    """Give up an outstanding renewal or re-key of an active CA; the key of a re-key is destroyed.

    Needs ``ca.configure``. Raises NotFound, StateConflict (``ca-not-active``) for a CA that never had a certificate:
    that one is deleted instead.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx = change.tx
        ca = await require_ca(tx, await change.locked(), principal, full_id, Permission.CA_CONFIGURE)
        current = await pending_request(tx, ca)
        if not ca.generation:
            raise StateConflict(
                f'"{full_id}" waits for its first certificate.', code="ca-not-active", remedy="Delete the CA instead."
            )
        await tx.execute(delete(models.ca_request).where(models.ca_request.c.ca_id == ca.id))
        key = ca.keys[current.generation]
        if current.generation > ca.generation and key.key_id is not None:
            k = models.ca_key.c
            await tx.execute(delete(models.ca_key).where(k.ca_id == ca.id, k.generation == current.generation))
            await authority.keystore.destroy(tx, key.key_id, principal=principal)
        audit.record(
            tx, principal, "ca.withdraw-request", "ca", full_id, organization=ca.organization,
            generation=current.generation,
        )  # fmt: skip


async def pending_request(view: Transaction, ca: CaView) -> PendingRequest:
    """The outstanding request of a CA. Raises StateConflict (``no-request``) when there is none."""
    row = await view.one_or_none(select(models.ca_request).where(models.ca_request.c.ca_id == ca.id))
    if row is None:
        raise StateConflict(
            f'CA "{ca.full_id}" waits for no certificate.',
            code="no-request",
            remedy="Renew or re-key it for a new request.",
        )
    return PendingRequest(row["generation"], row["csr"], row["created_at"])


def requested_path_length(request: bytes) -> int:
    """How many further CA certificates a request of ours asks to have room for."""
    constraints = parse_request(request, prove_possession=False).extension(ext.BASIC_CONSTRAINTS)
    return (ext.read_basic_constraints(constraints.value)[1] if constraints else None) or 0
