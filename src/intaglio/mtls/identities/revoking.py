"""Ending what certificates say: of one certificate, of an identity, or of an identity for good.

A user does it for himself (a lost device), whoever keeps the registry for everybody.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, select, update

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.directory import Snapshot
from intaglio.authority.revocation import change_status_in, revocation
from intaglio.core.errors import NotFound, StateConflict
from intaglio.core.identifiers import serial_from_hex
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models, registry
from intaglio.mtls.identities.bindings import (
    Binding,
    binding_of,
    binding_unknown,
    bindings_of,
    bindings_query,
    live_bindings,
)
from intaglio.mtls.identities.values import Identity


async def revoke_binding(
    mtls: Mtls,
    principal: Principal,
    binding_id: UUID,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    *,
    comment: str = "",
) -> Binding:
    """Revoke the certificate of a binding, and with it what was renewed with it, and publish that.

    Whoever stole a certificate could have renewed it, so only ``superseded`` leaves the newer ones as they are.
    Idempotent for the same reason.

    ``principal`` is the identity itself, its owner, or has ``mtls.identities``. Raises NotFound, Forbidden,
    StateConflict (revoked for another reason; expired: see :func:`revoke_descendants`).
    """
    return await _revoke_one(mtls, principal, binding_id, str(binding_id), reason, comment)


async def revoke_serial(
    mtls: Mtls,
    principal: Principal,
    serial: str,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    *,
    ca: str | None = None,
    comment: str = "",
) -> Binding:
    """Revoke the certificate of an identity by serial number (hexadecimal), and by CA where two have the same.

    Raises like :func:`revoke_binding`, and InvalidInput.
    """
    found = await _of_serial(mtls, serial, ca)
    return await _revoke_one(mtls, principal, found.id, serial, reason, comment)


async def revoke_descendants(
    mtls: Mtls,
    principal: Principal,
    serial: str,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    *,
    ca: str | None = None,
    comment: str = "",
) -> list[Binding]:
    """Revoke every live certificate that was renewed with this one, directly or not, and this one if it is live.

    An expired certificate does not change any more (RFC 5280 section 3.3), but whoever stole it may have renewed it
    before: this ends what came of that. Returns those revoked. Raises like :func:`revoke_serial`, but not for what has
    expired or was revoked.
    """
    snapshot = await mtls.authority.current()
    found = await _of_serial(mtls, serial, ca)
    async with mtls.database.transaction() as tx:
        identity = await _used_by(tx, principal, found, serial)
        before = {each.id for each in await live_bindings(tx, identity.id)}
        if found.id in before:
            await _revoke(tx, snapshot, principal, found, reason, comment)
        await _revoke_renewals(tx, snapshot, principal, found, reason, comment)
        ended = before - {each.id for each in await live_bindings(tx, identity.id)}
        facts = {"serial": found.serial_hex, "certificates": len(ended), "reason": reason.text}
        registry.note(tx, principal, "revoke-descendants", identity, **facts)
        return await bindings_of(tx, list(ended))


async def revoke_identity(
    mtls: Mtls,
    principal: Principal,
    reference: UUID | str,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    *,
    comment: str = "",
) -> list[Binding]:
    """Revoke every live certificate of an identity, which stays able to get new ones. Returns those revoked.

    ``principal`` is its owner or has ``mtls.identities``; the identity itself names itself by its id. Raises NotFound,
    Forbidden.
    """
    snapshot = await mtls.authority.current()
    async with mtls.database.transaction() as tx:
        identity = await _mine_or_visible(tx, principal, reference)
        await registry.require_may_use(tx, principal, identity)
        revoked = await _revoke_all(tx, snapshot, principal, identity, reason, comment)
        registry.note(tx, principal, "revoke", identity, certificates=len(revoked), reason=reason.text)
        return revoked


async def suspend_identity(mtls: Mtls, principal: Principal, reference: UUID | str, *, comment: str = "") -> Identity:
    """Stop an identity for the time being: its certificates are revoked, and it gets no new ones until resumed.

    Needs ``mtls.identities``. Raises NotFound, StateConflict when it is retired.
    """
    return await _stop(mtls, principal, reference, "suspended", RevocationReason.PRIVILEGE_WITHDRAWN, comment)


async def retire_identity(mtls: Mtls, principal: Principal, reference: UUID | str, *, comment: str = "") -> Identity:
    """End an identity for good: its certificates are revoked, and its name is not given out again.

    Needs ``mtls.identities``. Raises NotFound, StateConflict when it is retired already.
    """
    return await _stop(mtls, principal, reference, "retired", RevocationReason.CESSATION_OF_OPERATION, comment)


async def resume_identity(mtls: Mtls, principal: Principal, reference: UUID | str) -> Identity:
    """Let a suspended identity get certificates again. Needs ``mtls.identities``.

    Raises NotFound, StateConflict (``identity-retired``, ``identity-not-suspended``).
    """
    principal.require(Permission.MTLS_IDENTITIES)
    async with mtls.database.transaction() as tx:
        identity = await registry.locked_identity(tx, principal, reference)
        if identity.state != "suspended":
            raise StateConflict(f'The identity "{identity.name}" is not suspended.', code="identity-not-suspended")
        await _set_state(tx, identity, "active")
        registry.note(tx, principal, "resume", identity)
        return await registry.load_identity(tx, identity.id)


async def _stop(
    mtls: Mtls, principal: Principal, reference: UUID | str, state: str, reason: RevocationReason, comment: str
) -> Identity:
    principal.require(Permission.MTLS_IDENTITIES)
    snapshot = await mtls.authority.current()
    async with mtls.database.transaction() as tx:
        identity = await registry.locked_identity(tx, principal, reference)
        await _set_state(tx, identity, state)
        revoked = await _revoke_all(tx, snapshot, principal, identity, reason, comment)
        verb = {"suspended": "suspend", "retired": "retire"}[state]
        registry.note(tx, principal, verb, identity, certificates=len(revoked), comment=comment[:1000])
        return await registry.load_identity(tx, identity.id)


async def _set_state(tx: Transaction, identity: Identity, state: str) -> None:
    i = models.identity
    await tx.execute(update(i).where(i.c.id == identity.id).values(state=state, changed_at=tx.now))


async def _mine_or_visible(tx: Transaction, principal: Principal, reference: UUID | str) -> Identity:
    if principal.kind == "identity" and isinstance(reference, UUID):
        return await registry.load_identity(tx, reference, keep=True)
    found = await registry.visible_identity(tx, principal, reference)
    return await registry.load_identity(tx, found.id, keep=True)


async def _revoke_all(
    tx: Transaction,
    snapshot: Snapshot,
    principal: Principal,
    identity: Identity,
    reason: RevocationReason,
    comment: str,
) -> list[Binding]:
    live = await live_bindings(tx, identity.id)
    for binding in live:
        await _revoke(tx, snapshot, principal, binding, reason, comment)
    return await bindings_of(tx, [binding.id for binding in live])


async def _revoke_renewals(
    tx: Transaction, snapshot: Snapshot, principal: Principal, first: Binding, reason: RevocationReason, comment: str
) -> None:
    """Revoke every live certificate that descends from a revoked one.

    A renewal under way holds on to the certificate that it renews until it is recorded, so another look finds it.
    """
    b = models.binding.c
    found = select(b.id).where(b.renews == first.id).cte("renewals", recursive=True)
    descends = select(found.union(select(b.id).where(b.renews == found.c.id)).c.id)
    done: set[UUID] = set()  # what is on hold only is still live
    while True:
        renewals = {row["id"] for row in await tx.all(descends)} - done
        live = [each for each in await live_bindings(tx, first.identity_id) if each.id in renewals]
        if not live:
            return
        for binding in live:
            await _revoke(tx, snapshot, principal, binding, reason, comment)
            done.add(binding.id)


async def _revoke(
    tx: Transaction, snapshot: Snapshot, principal: Principal, binding: Binding, reason: RevocationReason, comment: str
) -> None:
    change = revocation(reason, comment=comment)
    await change_status_in(tx, principal, snapshot.cas[binding.ca_id], binding.serial, change)


async def _revoke_one(
    mtls: Mtls, principal: Principal, binding_id: UUID, reference: str, reason: RevocationReason, comment: str
) -> Binding:
    snapshot = await mtls.authority.current()
    async with mtls.database.transaction() as tx:
        wanted = models.binding.c.id == binding_id
        binding = await _binding(tx, wanted, reference)
        await _used_by(tx, principal, binding, reference)
        await _revoke(tx, snapshot, principal, binding, reason, comment)
        if reason is not RevocationReason.SUPERSEDED:
            await _revoke_renewals(tx, snapshot, principal, binding, reason, comment)
        return await _binding(tx, wanted, reference)


async def _used_by(tx: Transaction, principal: Principal, binding: Binding, reference: str) -> Identity:
    """The identity of a binding, which stays as it is until the end, for whoever may use it.

    Raises NotFound in the same words as for a binding that does not exist.
    """
    identity = await registry.load_identity(tx, binding.identity_id, keep=True)
    try:
        await registry.require_may_use(tx, principal, identity)
    except NotFound:
        raise binding_unknown(reference) from None
    return identity


async def _of_serial(mtls: Mtls, serial: str, ca: str | None) -> Binding:
    b = models.binding.c
    wanted = b.serial == serial_from_hex(serial)
    if ca is not None:
        wanted &= b.ca == ca
    async with mtls.database.read() as view:
        return await _binding(view, wanted, serial)


async def _binding(view: Transaction, wanted: ColumnElement[bool], reference: str) -> Binding:
    row = await view.one_or_none(bindings_query().where(wanted).limit(1))
    if row is None:
        raise binding_unknown(reference)
    return binding_of(row)
