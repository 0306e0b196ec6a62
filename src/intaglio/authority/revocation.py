"""Hold, unhold and revoke: by serial number and by subject."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.authority import certificates, internal_profiles, models
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.db.journal import EVENT_CHANNEL
from intaglio.identity import sessions
from intaglio.x509.crls import revoked_entry
from intaglio.x509.names import Name

_SUBJECT_CHUNK = 500


@dataclass(frozen=True)
class StatusChange:
    """What is wanted: ``status`` valid, held or revoked; ``reason`` and ``compromise_date`` for revocation;
    ``idempotent`` makes a change to the state already there succeed unchanged; ``comment`` goes to the audit record."""

    status: str
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    compromise_date: datetime | None = None
    comment: str = ""
    idempotent: bool = True

    def __post_init__(self) -> None:
        if self.status == "revoked" and self.reason in (
            RevocationReason.CERTIFICATE_HOLD,
            RevocationReason.REMOVE_FROM_CRL,
        ):
            raise InvalidInput(
                f"{self.reason.text} is not a reason to revoke for good.",
                code="reason-not-allowed",
                remedy="Use the hold or unhold action.",
                target="reason",
            )


def revocation(
    reason: RevocationReason, *, compromise_date: datetime | None = None, comment: str = "", idempotent: bool = True
) -> StatusChange:
    """The change to revoked; with certificateHold as reason it is the change to held."""
    if reason is RevocationReason.CERTIFICATE_HOLD:
        return hold(comment=comment, idempotent=idempotent)
    return StatusChange("revoked", reason, compromise_date, comment, idempotent)


def hold(*, comment: str = "", idempotent: bool = True) -> StatusChange:
    return StatusChange("held", RevocationReason.CERTIFICATE_HOLD, None, comment, idempotent)


def unhold(*, comment: str = "", idempotent: bool = True) -> StatusChange:
    return StatusChange("valid", RevocationReason.REMOVE_FROM_CRL, None, comment, idempotent)


async def change_status(
    authority: Authority,
    principal: Principal,
    ca: CaView,
    serial: bytes,
    change: StatusChange,
    *,
    epoch: int | None = None,
) -> StoredCertificate:
    """Hold, unhold or revoke one certificate and publish the change.

    Idempotent as ``change`` says. With ``epoch`` nothing is written when the configuration the caller was authorized
    under has changed (EpochMoved). Raises NotFound, StateConflict (revoked is final; only a held certificate can be
    taken off hold; an expired one never changes). Source: RFC 5280 section 5.3.1.
    """
    async with authority.database.transaction() as tx:
        if epoch is not None:
            tx.expect_epoch(epoch)
        return await change_status_in(tx, principal, ca, serial, change)


async def change_status_in(
    tx: Transaction, principal: Principal, ca: CaView, serial: bytes, change: StatusChange
) -> StoredCertificate:
    """:func:`change_status` as part of a larger transaction."""
    current = await certificates.lock(tx, ca, serial)
    if not _needs_change(current, change, tx.now):
        return current
    return await _apply(tx, principal, ca, current, change)


async def change_subject(
    authority: Authority,
    principal: Principal,
    ca: CaView,
    subject: Name,
    change: StatusChange,
    *,
    epoch: int | None = None,
) -> list[StoredCertificate]:
    """Apply a change to every certificate of a subject that it can apply to, in transactions of bounded size.

    Certificates already there, expired, or (for unhold) not held are left alone. ``epoch`` as in
    :func:`change_status`. Returns the changed ones; raises NotFound when the subject has no certificate at all.
    """
    changed: list[StoredCertificate] = []
    after = None
    while True:
        async with authority.database.transaction() as tx:
            if epoch is not None:
                tx.expect_epoch(epoch)
            page = await certificates.by_subject(tx, ca, subject, after=after, limit=_SUBJECT_CHUNK)
            for entry in page:
                current = await certificates.lock(tx, ca, entry.serial)
                if _applicable(current, change, tx.now):
                    changed.append(await _apply(tx, principal, ca, current, change))
        if not page and after is None:
            raise NotFound(
                f'CA "{ca.full_id}" knows no subject "{subject.rfc4514}".', code="subject-unknown", target="dn"
            )
        if len(page) < _SUBJECT_CHUNK:
            return changed
        after = page[-1].id


def _applicable(current: StoredCertificate, change: StatusChange, now: datetime) -> bool:
    if current.not_after < now or current.status == "revoked":
        return False
    return current.status == "held" if change.status == "valid" else current.status != change.status


def _needs_change(current: StoredCertificate, change: StatusChange, now: datetime) -> bool:
    """False when the wanted state is there already; raises StateConflict when it cannot be reached."""
    name = f"Certificate {current.serial_hex}"
    if current.status == change.status:
        same = current.status != "revoked" or current.reason == change.reason
        if change.idempotent and same:
            return False
        detail = (
            "is already " + current.status + ("" if same or current.reason is None else f" ({current.reason.text})")
        )
        raise StateConflict(f"{name} {detail}.", code="already-in-state", remedy="Nothing needs to be done.")
    if current.status == "revoked":
        raise StateConflict(f"{name} is revoked; that is final.", code="certificate-revoked")
    if current.not_after < now:
        raise StateConflict(
            f"{name} has expired.", code="certificate-expired", remedy="Expired certificates do not change."
        )
    if change.status == "valid" and current.status != "held":
        raise StateConflict(f"{name} is not on hold.", code="certificate-not-held")
    return True


async def _apply(
    tx: Transaction, principal: Principal, ca: CaView, current: StoredCertificate, change: StatusChange
) -> StoredCertificate:
    listed = change.status != "valid"
    changed = replace(
        current,
        status=change.status,
        revoked_at=tx.now if listed else None,
        reason=change.reason if listed else None,
        invalidity_date=change.compromise_date if listed else None,
    )
    c = models.certificate.c
    await tx.execute(
        update(models.certificate)
        .where(c.id == current.id)
        .values(
            status=changed.status,
            revoked_at=changed.revoked_at,
            reason=changed.reason,
            invalidity_date=changed.invalidity_date,
        )
    )
    await _list_on_crl(tx, ca, changed)
    action = {"revoked": "revoked", "held": "held", "valid": "unheld"}[change.status]
    verb = {"revoked": "revoke", "held": "hold", "valid": "unhold"}[change.status]
    tx.append(
        models.EVENTS,
        {"at": tx.now, "ca_id": ca.id, "action": action, "certificate_id": current.id, "serial": current.serial,
         "reason": changed.reason, "detail": {}},
    )  # fmt: skip
    facts: dict[str, Any] = {"subject": current.subject}
    if listed:
        facts["reason"] = change.reason.text
        # Of those whom a CA vouched for, nobody knows any more who they are.
        every = internal_profiles.is_ca_profile(current.profile)
        if ended := await sessions.end_sessions_of(tx, None if every else [current.id]):
            facts["sessions_ended"] = ended
    if change.compromise_date:
        facts["compromise_date"] = rfc3339(change.compromise_date)
    if change.comment:
        facts["comment"] = change.comment[:1000]
    name = f"{ca.full_id}/{current.serial_hex}"
    audit.record(tx, principal, f"certificate.{verb}", "certificate", name, organization=ca.organization, **facts)
    tx.notify(EVENT_CHANNEL)
    if ca.kind == "client" or internal_profiles.is_ca_profile(current.profile):
        tx.changed_configuration()  # every process must refuse this credential, or this CA, from now on
    return changed


async def _list_on_crl(tx: Transaction, ca: CaView, changed: StoredCertificate) -> None:
    table = models.revocation
    if changed.revoked_at is None:
        row = (table.c.ca_id == ca.id) & (table.c.serial == changed.serial)
        if ca.options.delta_interval is None:
            await tx.execute(delete(table).where(row))
        else:
            entry = revoked_entry(changed.serial, tx.now, RevocationReason.REMOVE_FROM_CRL)
            await tx.execute(update(table).where(row).values(removed_at=tx.now, revoked_at=tx.now, entry=entry))
        return
    values = {
        "generation": changed.generation,
        "partition": changed.partition,
        "revoked_at": changed.revoked_at,
        "not_after": changed.not_after,
        "entry": revoked_entry(changed.serial, changed.revoked_at, changed.reason, changed.invalidity_date),
        "removed_at": None,
    }
    await tx.execute(
        insert(table)
        .values(ca_id=ca.id, serial=changed.serial, **values)
        .on_conflict_do_update(index_elements=["ca_id", "serial"], set_=values)
    )
