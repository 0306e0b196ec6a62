"""The ordered feed of certificate events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, and_, any_, func, literal, select

from intaglio.authority import models
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.db.base import Uuid
from intaglio.db.engine import Transaction

#: A total above this is only a lower bound: counting a million rows would cost more than the page.
COUNTED_AT_MOST = 10_000
_OUT_OF_STEP = timedelta(minutes=10)


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
    """``next_seq`` continues after this page, also when nothing follows yet; ``total`` counts the whole selection, and
    is only its lower bound when ``total_is_exact`` is False."""

    events: Sequence[CertificateEvent]
    more: bool
    next_seq: int
    total: int | None = None
    total_is_exact: bool = True


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
        conditions += [e.at >= since, e.seq >= await _first_seq(view, ca_id, since)]
    page = select(models.certificate_event).where(and_(*conditions)).order_by(e.seq).limit(limit + 1)
    rows = list(await view.all(page))
    more, rows = len(rows) > limit, rows[:limit]
    certificates: dict[UUID, StoredCertificate] = {}
    if with_certificates and rows:
        ids = [row["certificate_id"] for row in rows if row["certificate_id"] is not None]
        found = await view.all(select(models.certificate).where(c.id == any_(literal(ids, ARRAY(Uuid)))))
        certificates = {row["id"]: StoredCertificate.of(row) for row in found}
    total = None
    if with_total:
        counted = select(e.seq).where(and_(*conditions)).limit(COUNTED_AT_MOST).subquery()
        total = int(await view.scalar(select(func.count()).select_from(counted)) or 0)
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
        total is None or total < COUNTED_AT_MOST,
    )  # fmt: skip


async def _first_seq(view: Transaction, ca_id: UUID | None, since: datetime) -> int:
    """A sequence number that no event since ``since`` lies below, found without looking at all earlier events.

    Numbers follow the commits and instants the beginnings of transactions, so neighbours may be out of step by the
    length of a transaction and never by more than ``_OUT_OF_STEP``.
    """
    e = models.certificate_event.c
    conditions = [e.at >= since] if ca_id is None else [e.ca_id == ca_id, e.at >= since]
    first = await view.one_or_none(select(e.at, e.seq).where(*conditions).order_by(e.at, e.seq).limit(1))
    if first is None:
        return 0
    # OFFSET 0 keeps the planner from walking through all sequence numbers in search of the smallest one.
    near = select(e.seq).where(*conditions, e.at <= first["at"] + _OUT_OF_STEP).offset(0).subquery()
    return int(await view.scalar(select(func.min(near.c.seq))) or 0)
