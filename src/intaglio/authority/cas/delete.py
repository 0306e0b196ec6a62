"""Deleting a CA.

It issues nothing any more and nobody works with it, but it leaves a tombstone: its certificates, their status and its
final CRL stay published under its URLs, and so its id is not given to anybody else for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update

from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import require_ca
from intaglio.authority.cas.tombstones import end_sessions_below, entomb
from intaglio.authority.cas.views import PUBLIC_KINDS
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.revocation import change_status_in, revocation
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Refused, StateConflict
from intaglio.core.principal import Permission, Principal

_CHUNK = 200


@dataclass(frozen=True)
class Deletion:
    """What a deletion did: until when the id is reserved, how many certificates were revoked, which CAs below it were
    left without their issuer."""

    reserved_until: datetime
    revoked: int
    orphans: tuple[str, ...]


async def delete_ca(
    authority: Authority, principal: Principal, full_id: str, *, force: bool = False, revoke_all: bool = False
) -> Deletion:
    """Delete a CA, and end the sessions that certificates of it, or of CAs below it, opened.

    ``force`` deletes a CA although there are CAs below it, which stay and can be deleted later; ``revoke_all`` first
    revokes every certificate it issued that is still valid, and the one it has from a CA of ours
    (cessationOfOperation); it offers no profiles from the beginning of that, so a deletion that is broken off is simply
    asked for again. Needs ``ca.configure``, and ``ca.operate`` to revoke. Raises NotFound, StateConflict
    (``ca-has-subordinates``, with their list), Refused for the platform's own CAs.
    """
    snapshot = await authority.current()
    async with authority.database.read() as view:
        ca = await require_ca(view, snapshot, principal, full_id, Permission.CA_CONFIGURE)
    _check_deletable(snapshot, ca, force)
    revoked = 0
    if revoke_all:
        principal.require(Permission.CA_OPERATE)
        await _close(authority, principal, full_id)
        revoked = await _revoke_issued(authority, principal, ca) + await _revoke_own(authority, principal, snapshot, ca)
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        snapshot = await change.locked()
        ca = await require_ca(change.tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        orphans = _check_deletable(snapshot, ca, force)
        until = await entomb(change.tx, ca.id)
        ended = await end_sessions_below(change.tx, ca.id)
        audit.record(
            change.tx, principal, "ca.delete", "ca", full_id, organization=ca.organization, kind=ca.kind,
            reserved_until=rfc3339(until), revoked=revoked, orphans=list(orphans), sessions_ended=ended,
        )  # fmt: skip
        return Deletion(until, revoked, orphans)


def _check_deletable(snapshot: Snapshot, ca: CaView, force: bool) -> tuple[str, ...]:
    """The CAs that would lose their issuer. Raises StateConflict unless that is wanted."""
    if ca.kind not in PUBLIC_KINDS:
        raise Refused(
            f'"{ca.full_id}" belongs to the platform and cannot be deleted.',
            code="ca-internal",
            remedy="A client CA goes with its organization.",
        )
    below = sorted(
        each.full_id for each in snapshot.cas.values() if each.issuer_id == ca.id and each.state != "deleted"
    )
    if below and not force:
        raise StateConflict(
            f'"{ca.full_id}" has {len(below)} CA(s) below it: {", ".join(below[:10])}.',
            code="ca-has-subordinates",
            remedy="Delete these first, or force the deletion and leave them without an issuer.",
            extra={"cas": below},
        )
    return tuple(below)


async def _close(authority: Authority, principal: Principal, full_id: str) -> None:
    """Take the CA's profiles away, so that nothing is issued while, or after, everything is being revoked."""
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        snapshot = await change.locked()
        ca = await require_ca(change.tx, snapshot, principal, full_id, Permission.CA_CONFIGURE)
        await change.tx.execute(update(models.ca).where(models.ca.c.id == ca.id).values(profiles=[]))
        audit.record(
            change.tx, principal, "ca.edit", "ca", full_id, organization=ca.organization, changed={"profiles": []}
        )


async def _revoke_issued(authority: Authority, principal: Principal, ca: CaView) -> int:
    """Revoke what is valid or held and not expired, in transactions of bounded size."""
    c = models.certificate.c
    change, revoked, after = (
        revocation(RevocationReason.CESSATION_OF_OPERATION, comment="The CA is deleted."),
        0,
        UUID(int=0),
    )
    while True:
        async with authority.database.transaction() as tx:
            query = select(c.id, c.serial).where(
                c.ca_id == ca.id, c.id > after, c.status != "revoked", c.not_after > tx.now
            )
            rows = await tx.all(query.order_by(c.id).limit(_CHUNK))
            for row in rows:
                await change_status_in(tx, principal, ca, row["serial"], change)
        if not rows:
            return revoked
        revoked, after = revoked + len(rows), rows[-1]["id"]


async def _revoke_own(authority: Authority, principal: Principal, snapshot: Snapshot, ca: CaView) -> int:
    """Revoke the certificates that CAs of ours gave this CA."""
    issuer = snapshot.cas.get(ca.issuer_id) if ca.issuer_id else None
    if issuer is None or issuer.kind == "external-root":
        return 0
    own, c = models.ca_certificate.c, models.certificate.c
    change, revoked = revocation(RevocationReason.CESSATION_OF_OPERATION, comment="The CA is deleted."), 0
    async with authority.database.transaction() as tx:
        mine = select(own.serial).where(own.ca_id == ca.id)
        query = select(c.serial).where(
            c.ca_id == issuer.id, c.serial.in_(mine), c.status != "revoked", c.not_after > tx.now
        )
        for row in await tx.all(query):
            await change_status_in(tx, principal, issuer, row["serial"], change)
            revoked += 1
    return revoked
