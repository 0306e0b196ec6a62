"""The ordered feed of certificate events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, select

from intaglio.authority import models
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.db.engine import Transaction


@dataclass(frozen=True)
class CertificateEvent:
    """``seq`` is gapless over all CAs and strictly increasing; ``action`` is issued, revoked, held or unheld."""

    seq: int
    at: datetime
    ca_id: UUID
    action: str
    serial: bytes
    reason: RevocationReason | None
    certificate: StoredCertificate | None = field(repr=False)


@dataclass(frozen=True)
class EventPage:
    """``next_seq`` continues after this page, also when nothing follows yet; ``total`` counts the whole selection."""

    events: Sequence[CertificateEvent]
    more: bool
    next_seq: int
    total: int | None = None


async def read_events(
    view: Transaction,
    *,
    ca_id: UUID | None = None,
    after: int = 0,
    since: datetime | None = None,
    limit: int = 100,
    with_certificates: bool = True,
    with_total: bool = False,
) -> EventPage:
    """Events after a sequence number, oldest first.

    ``since`` leaves out earlier instants; ``limit`` is the page size. Numbers are given out at commit in order, so a
    reader that continues at ``next_seq`` misses nothing and sees nothing twice.
    """
    e, c = models.certificate_event.c, models.certificate.c
    conditions = [e.seq > after]
    if ca_id is not None:
        conditions.append(e.ca_id == ca_id)
    if since is not None:
        conditions.append(e.at >= since)
    page = select(models.certificate_event).where(and_(*conditions)).order_by(e.seq).limit(limit + 1)
    rows = list(await view.all(page))
    more, rows = len(rows) > limit, rows[:limit]
    certificates: dict[UUID, StoredCertificate] = {}
    if with_certificates and rows:
        ids = {row["certificate_id"] for row in rows if row["certificate_id"] is not None}
        found = await view.all(select(models.certificate).where(c.id.in_(ids)))
        certificates = {row["id"]: StoredCertificate.of(row) for row in found}
    total = None
    if with_total:
        total = int(await view.scalar(select(func.count()).where(and_(*conditions))) or 0)
    return EventPage(
        [
            CertificateEvent(
                row["seq"], row["at"], row["ca_id"], row["action"], row["serial"],
                None if row["reason"] is None else RevocationReason(row["reason"]),
                certificates.get(row["certificate_id"]),
            )
            for row in rows
        ],
        more,
        rows[-1]["seq"] if rows else after,
        total,
    )  # fmt: skip
