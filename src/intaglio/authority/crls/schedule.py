"""When a CRL is due. Decided from what is recorded alone, so that a killed process loses nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from intaglio.authority import models
from intaglio.authority.crls import stored
from intaglio.authority.crls.stored import CrlFacts
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core import clock
from intaglio.db.engine import Transaction

_CLOCK_DIFFERENCE = timedelta(minutes=1)  # by which the clocks of our own processes may differ


@dataclass(frozen=True)
class Due:
    """One CRL to issue, and why: first, scheduled, revocation, clock (set back) or final (a deleted CA's last)."""

    ca: CaView
    generation: int
    partition: int
    delta: bool
    reason: str


@dataclass(frozen=True)
class _Recorded:
    """What the schedule looks at: newest CRL per scope, newest status change and deletion time per CA."""

    latest: Mapping[tuple[UUID, int, int, bool], CrlFacts]
    changed: Mapping[UUID, int]
    deleted_at: Mapping[UUID, datetime]


async def due_crls(view: Transaction, snapshot: Snapshot) -> list[Due]:
    """Every CRL that should be issued now, over all CAs."""
    now = clock.now()
    latest = {facts.scope: facts for facts in await stored.all_latest(view)}
    former: dict[tuple[UUID, int], set[int]] = {}
    for ca_id, generation, partition, _ in latest:
        former.setdefault((ca_id, generation), set()).add(partition)
    recorded = await _recorded(view, snapshot.cas.values(), latest)
    found = []
    for ca in snapshot.cas.values():
        if ca.state not in ("active", "deleted") or ca.options.crl_interval is None:
            continue
        for generation, partition in _scopes(ca, former, now):
            found += _due(recorded, ca, generation, partition, now)
    return [due for due in found if await _is_needed(view, due, now)]


async def is_still_due(view: Transaction, due: Due) -> bool:
    """The same decision again for one scope, under its lock."""
    latest: dict[tuple[UUID, int, int, bool], CrlFacts] = {}
    for delta in (False, True):
        facts = await stored.latest_facts(view, due.ca, due.generation, due.partition, delta)
        if facts is not None:
            latest[facts.scope] = facts
    recorded = await _recorded(view, [due.ca], latest)
    found = _due(recorded, due.ca, due.generation, due.partition, clock.now())
    return any(each.delta == due.delta for each in found)


def _due(recorded: _Recorded, ca: CaView, generation: int, partition: int, now: datetime) -> list[Due]:
    options = ca.options
    complete = recorded.latest.get((ca.id, generation, partition, False))
    if reason := _complete_reason(recorded, ca, complete, now):
        return [Due(ca, generation, partition, False, reason)]
    if options.delta_interval is None or complete is None or ca.state == "deleted":
        return []
    delta = recorded.latest.get((ca.id, generation, partition, True))
    if delta is None:
        # A later second than the complete CRL: issued at the same time they would have to share their number.
        later = complete.this_update < now.replace(microsecond=0)
        return [Due(ca, generation, partition, True, "first")] if later else []
    if delta.this_update + options.delta_interval <= now or _is_from_the_future(delta, now):
        return [Due(ca, generation, partition, True, "scheduled")]
    return []


def _complete_reason(recorded: _Recorded, ca: CaView, complete: CrlFacts | None, now: datetime) -> str | None:
    if complete is None:
        return "first"
    changed = recorded.changed.get(ca.id, 0) > complete.event_seq
    if ca.state == "deleted":
        deleted_at = recorded.deleted_at.get(ca.id)
        return "final" if changed or (deleted_at is not None and complete.this_update <= deleted_at) else None
    if ca.options.crl_on_revoke and changed:
        return "revocation"
    if _is_from_the_future(complete, now):
        return "clock"
    assert ca.options.crl_interval is not None
    return "scheduled" if complete.this_update + ca.options.crl_interval <= now else None


def _is_from_the_future(facts: CrlFacts, now: datetime) -> bool:
    """Whether a CRL was issued while the clock was ahead: no relying party accepts it yet, so it has to be replaced."""
    return facts.this_update > now + _CLOCK_DIFFERENCE


def _scopes(
    ca: CaView, former: Mapping[tuple[UUID, int], Set[int]], now: datetime
) -> Iterator[tuple[int, int]]:
    """Key generations that can still prove a CRL, each with the whole and its partitions, former ones included."""
    for generation, key in ca.keys.items():
        if key.key_id is None or key.certificate is None or key.certificate.not_after <= now:
            continue
        for partition in sorted({0, *range(1, ca.options.crl_partitions + 1), *former.get((ca.id, generation), ())}):
            yield generation, partition


async def _is_needed(view: Transaction, due: Due, now: datetime) -> bool:
    """A partition that new certificates no longer use is published as long as one of its certificates is valid."""
    if due.partition <= due.ca.options.crl_partitions:
        return True
    c = models.certificate.c
    statement = select(c.id).where(
        c.ca_id == due.ca.id, c.generation == due.generation, c.partition == due.partition, c.not_after > now
    )
    return await view.scalar(statement.limit(1)) is not None


async def _recorded(
    view: Transaction, cas: Collection[CaView], latest: Mapping[tuple[UUID, int, int, bool], CrlFacts]
) -> _Recorded:
    deleted = [ca.id for ca in cas if ca.state == "deleted"]
    following = {*deleted, *(ca.id for ca in cas if ca.options.crl_on_revoke)}
    e, c = models.certificate_event.c, models.ca.c
    changed: dict[UUID, int] = {}
    seen = [facts.event_seq for facts in latest.values() if facts.ca_id in following and not facts.delta]
    if seen:
        statement = select(e.ca_id, func.max(e.seq).label("seq")).where(e.action != "issued", e.seq > min(seen))
        changed = {row["ca_id"]: row["seq"] for row in await view.all(statement.group_by(e.ca_id))}
    deleted_at: dict[UUID, datetime] = {}
    if deleted:
        rows = await view.all(select(c.id, c.deleted_at).where(c.id.in_(deleted)))
        deleted_at = {row["id"]: row["deleted_at"] for row in rows if row["deleted_at"] is not None}
    return _Recorded(latest, changed, deleted_at)
