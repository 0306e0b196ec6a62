"""CRLs as recorded: the newest of a scope, all newest ones, and forgetting old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Subquery, delete, func, select

from intaglio.authority import models
from intaglio.authority.directory import CaView
from intaglio.db.engine import Transaction

#: Newest CRLs kept of each scope; the complete ones among them are what deltas can be relative to.
KEPT = 6

#: Columns of :class:`CrlFacts`.
FACTS = [column for column in models.crl.c if column.name not in ("id", "der")]


@dataclass(frozen=True)
class CrlFacts:
    """A CRL without its bytes.

    ``partition`` 0 is the whole; ``base_number`` is the complete CRL a delta is relative to; ``event_seq`` the last
    certificate event whose effect it shows; ``fingerprint`` SHA-256 of its DER.
    """

    ca_id: UUID
    generation: int
    partition: int
    delta: bool
    number: int
    base_number: int | None
    this_update: datetime
    next_update: datetime
    entries: int
    event_seq: int
    fingerprint: bytes = field(repr=False)

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> CrlFacts:
        return cls(**{column.name: row[column.name] for column in FACTS})

    @property
    def scope(self) -> tuple[UUID, int, int, bool]:
        """CA, key generation, partition, delta: what there is always one newest CRL of."""
        return self.ca_id, self.generation, self.partition, self.delta


@dataclass(frozen=True)
class StoredCrl:
    """A CRL as recorded."""

    facts: CrlFacts
    der: bytes = field(repr=False)


async def latest_crl(
    view: Transaction, ca: CaView, generation: int, partition: int = 0, delta: bool = False
) -> StoredCrl | None:
    """The newest CRL of one scope, or None."""
    row = await view.one_or_none(_newest(select(models.crl), ca, generation, partition, delta))
    return None if row is None else StoredCrl(CrlFacts.of(row), row["der"])


async def latest_facts(
    view: Transaction, ca: CaView, generation: int, partition: int = 0, delta: bool = False
) -> CrlFacts | None:
    """Like :func:`latest_crl` without reading the bytes."""
    row = await view.one_or_none(_newest(select(*FACTS), ca, generation, partition, delta))
    return None if row is None else CrlFacts.of(row)


async def all_latest(view: Transaction) -> Sequence[CrlFacts]:
    """The newest CRL of every scope of every CA, without bytes."""
    ranked = _ranked(*FACTS)
    return [CrlFacts.of(row) for row in await view.all(select(ranked).where(ranked.c.rank == 1))]


async def complete_crls(view: Transaction, ca: CaView, generation: int, partition: int) -> Sequence[CrlFacts]:
    """The complete CRLs of a scope that are still recorded, newest first, without bytes."""
    c = models.crl.c
    statement = select(*FACTS).where(*_scope(ca, generation, partition, False)).order_by(c.number.desc())
    return [CrlFacts.of(row) for row in await view.all(statement)]


async def prune_crls(tx: Transaction) -> int:
    """Forget all but the newest CRLs of each scope, and expired deltas; returns how many were forgotten.

    An expired delta means that deltas were switched off: nothing may be based on what was not recorded since.
    """
    c = models.crl.c
    ranked = _ranked(c.id)
    old = select(ranked.c.id).where(ranked.c.rank > KEPT)
    expired = c.delta & (c.next_update < tx.now)
    return (await tx.execute(delete(models.crl).where(c.id.in_(old) | expired))).rowcount


async def prune_entries(tx: Transaction, ca: CaView) -> int:
    """Forget the entries of a CA that no further CRL will show; returns how many.

    These are certificates that expired more than an interval before every newest complete CRL, and those taken off
    hold longer ago than any complete CRL is valid.
    """
    r, c = models.revocation.c, models.crl.c
    if ca.options.crl_interval is None:
        return 0
    gone = r.removed_at < tx.now - ca.options.crl_validity
    newest = select(func.max(c.this_update).label("at")).where(c.ca_id == ca.id, c.delta.is_(False))
    scopes = newest.group_by(c.generation, c.partition).subquery()
    shown = await tx.scalar(select(func.min(scopes.c.at)))
    if shown is not None and not ca.options.keep_expired_on_crl:
        gone = gone | (r.not_after < shown - ca.options.crl_interval)
    return (await tx.execute(delete(models.revocation).where(r.ca_id == ca.id, gone))).rowcount


def _ranked(*columns: Any) -> Subquery:
    """CRLs with their rank within their scope, 1 being the newest."""
    c = models.crl.c
    rank = func.row_number().over(partition_by=(c.ca_id, c.generation, c.partition, c.delta), order_by=c.number.desc())
    return select(*columns, rank.label("rank")).subquery()


def _newest(statement: Any, ca: CaView, generation: int, partition: int, delta: bool) -> Any:
    conditions = _scope(ca, generation, partition, delta)
    return statement.where(*conditions).order_by(models.crl.c.number.desc()).limit(1)


def _scope(ca: CaView, generation: int, partition: int, delta: bool) -> tuple[Any, ...]:
    c = models.crl.c
    return c.ca_id == ca.id, c.generation == generation, c.partition == partition, c.delta.is_(delta)
