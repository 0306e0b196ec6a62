"""Stored certificates: one by serial, by subject, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select

from intaglio.authority import models
from intaglio.authority.directory import CaView
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import serial_hex
from intaglio.db.engine import Transaction
from intaglio.x509.names import Name


class RevocationReason(IntEnum):
    """CRLReason. Source: RFC 5280 section 5.3.1 (7 is not used)."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    REMOVE_FROM_CRL = 8
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10

    @property
    def text(self) -> str:
        return _REASON_TEXT[self]

    @classmethod
    def parse(cls, value: str) -> RevocationReason:
        """A reason by its RFC 5280 name in any case (``caCompromise`` too). Raises InvalidInput."""
        folded = value.strip().lower().replace("_", "").replace("-", "")
        for reason, name in _REASON_TEXT.items():
            if name.lower() == folded:
                return reason
        raise InvalidInput(
            f'"{value[:40]}" is not a revocation reason.',
            code="reason-unknown",
            remedy=f"Use one of: {', '.join(_REASON_TEXT.values())}.",
            target="reason",
        )


_REASON_TEXT = {
    RevocationReason.UNSPECIFIED: "unspecified",
    RevocationReason.KEY_COMPROMISE: "keyCompromise",
    RevocationReason.CA_COMPROMISE: "cACompromise",
    RevocationReason.AFFILIATION_CHANGED: "affiliationChanged",
    RevocationReason.SUPERSEDED: "superseded",
    RevocationReason.CESSATION_OF_OPERATION: "cessationOfOperation",
    RevocationReason.CERTIFICATE_HOLD: "certificateHold",
    RevocationReason.REMOVE_FROM_CRL: "removeFromCRL",
    RevocationReason.PRIVILEGE_WITHDRAWN: "privilegeWithdrawn",
    RevocationReason.AA_COMPROMISE: "aACompromise",
}


@dataclass(frozen=True)
class CertificateRecord:
    """What is recorded about a certificate when it is issued, and never changes; the columns of the same names."""

    id: UUID
    ca_id: UUID
    generation: int
    partition: int
    serial: bytes
    subject: str
    subject_key: bytes = field(repr=False)
    sans: tuple[str, ...]
    profile: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    der: bytes = field(repr=False)
    previous_id: UUID | None
    requester: str
    channel: str
    properties: Mapping[str, Any]

    @property
    def serial_hex(self) -> str:
        return serial_hex(self.serial)


@dataclass(frozen=True)
class StoredCertificate(CertificateRecord):
    """A certificate as recorded. ``status`` is valid, held or revoked; ``state(now)`` adds expired."""

    status: str
    revoked_at: datetime | None
    reason: RevocationReason | None
    invalidity_date: datetime | None

    @classmethod
    def of(cls, row: RowMapping | Mapping[str, Any]) -> StoredCertificate:
        return cls(
            row["id"], row["ca_id"], row["generation"], row["partition"], row["serial"], row["subject"],
            row["subject_key"], tuple(row["sans"]), row["profile"], row["not_before"], row["not_after"],
            row["issued_at"], row["der"], row["previous_id"], row["requester"], row["channel"], row["properties"],
            row["status"], row["revoked_at"], None if row["reason"] is None else RevocationReason(row["reason"]),
            row["invalidity_date"],
        )  # fmt: skip

    def state(self, now: datetime) -> str:
        """valid, held, revoked, or expired (a revoked certificate stays revoked)."""
        return "expired" if self.status != "revoked" and self.not_after < now else self.status

    def require_renewable(self) -> None:
        """Raise StateConflict when it is revoked or on hold; an expired certificate may be renewed."""
        if self.status == "valid":
            return
        raise StateConflict(
            f"Certificate {self.serial_hex} is {self.status}.",
            code="certificate-revoked" if self.status == "revoked" else "certificate-held",
            remedy="Enrol anew with a new key." if self.status == "revoked" else "Take it off hold first.",
        )


async def get(view: Transaction, ca: CaView, serial: bytes) -> StoredCertificate:
    """One certificate of a CA by serial number (minimal big-endian octets). Raises NotFound."""
    return await _one(view, ca, serial, lock=False)


async def lock(tx: Transaction, ca: CaView, serial: bytes) -> StoredCertificate:
    """Like :func:`get`, holding the row until the end of the transaction."""
    return await _one(tx, ca, serial, lock=True)


async def get_by_id(view: Transaction, ca: CaView, certificate_id: UUID, *, keep: bool = False) -> StoredCertificate:
    """One certificate of a CA by row id; ``keep`` keeps its status as it is until the end of the transaction.

    Raises NotFound.
    """
    c = models.certificate.c
    statement = select(models.certificate).where(c.id == certificate_id, c.ca_id == ca.id)
    row = await view.one_or_none(statement.with_for_update(read=True) if keep else statement)
    if row is None:
        raise NotFound(f'CA "{ca.full_id}" has no enrolment {certificate_id}.', code="enrollment-unknown", target="id")
    return StoredCertificate.of(row)


async def _one(view: Transaction, ca: CaView, serial: bytes, *, lock: bool) -> StoredCertificate:
    c = models.certificate.c
    statement = select(models.certificate).where(c.ca_id == ca.id, c.serial == serial)
    row = await view.one_or_none(statement.with_for_update() if lock else statement)
    if row is None:
        raise NotFound(
            f'CA "{ca.full_id}" has issued no certificate with serial number {serial_hex(serial)}.',
            code="certificate-unknown",
            target="serialNumber",
        )
    return StoredCertificate.of(row)


async def by_subject(
    view: Transaction, ca: CaView, subject: Name, *, after: UUID | None = None, limit: int = 100
) -> Sequence[StoredCertificate]:
    """Certificates of a CA with exactly this subject (compared as names, not as text), oldest first, after a row id."""
    c = models.certificate.c
    statement = select(models.certificate).where(c.ca_id == ca.id, c.subject_key == subject.key)
    if after is not None:
        statement = statement.where(c.id > after)
    return [StoredCertificate.of(row) for row in await view.all(statement.order_by(c.id).limit(limit))]


async def newest_of_subject(view: Transaction, ca: CaView, subject: Name) -> StoredCertificate:
    """The newest certificate of a CA with exactly this subject. Raises NotFound."""
    c = models.certificate.c
    statement = select(models.certificate).where(c.ca_id == ca.id, c.subject_key == subject.key)
    row = await view.one_or_none(statement.order_by(c.id.desc()).limit(1))
    if row is None:
        raise subject_unknown(ca, subject)
    return StoredCertificate.of(row)


def subject_unknown(ca: CaView, subject: Name) -> NotFound:
    """The refusal of a subject that has no certificate of the CA."""
    return NotFound(f'CA "{ca.full_id}" knows no subject "{subject.rfc4514}".', code="subject-unknown", target="dn")
