"""Which process reads the source of which authority: a lease in the database, renewed while the process lives.

When a process dies its leases run out, and another one takes over within seconds. A process that only believes that it
still has its lease is found out before it commits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update

from intaglio.core.errors import StateConflict
from intaglio.db.engine import Database, Transaction
from intaglio.validation import models

_P = models.status_pull
#: For how long a process is believed to be alive after it was last heard of.
LEASE = timedelta(seconds=8)
#: Seconds between two renewals.
RENEWAL = 2.0

_TAKE = text(
    "INSERT INTO status_pull (authority_id, holder, held_until) "
    "SELECT id, :holder, clock_timestamp() + cast(:lease AS interval) FROM status_authority "
    "WHERE id = ANY(:wanted) ORDER BY id "
    "ON CONFLICT (authority_id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until "
    "WHERE status_pull.holder IS NULL OR status_pull.holder = excluded.holder "
    "OR status_pull.held_until < clock_timestamp() "
    "RETURNING authority_id, wanted_at, started_at"
)


@dataclass(frozen=True)
class Held:
    """A lease. ``is_wanted``: somebody asked for a look that has not begun."""

    authority_id: UUID
    is_wanted: bool


async def take(database: Database, holder: UUID, wanted: Collection[UUID], *, lease: timedelta = LEASE) -> list[Held]:
    """Take or renew the leases of these authorities, as far as nobody else has them. Raises Unavailable, TimedOut."""
    async with database.transaction() as tx:
        rows = await tx.all(_TAKE, {"holder": holder, "lease": lease, "wanted": list(wanted)})
    return [Held(row["authority_id"], _is_wanted(row)) for row in rows]


async def give_back(database: Database, holder: UUID) -> None:
    """Let others take over at once."""
    async with database.transaction() as tx:
        await tx.execute(update(_P).where(_P.c.holder == holder).values(holder=None, held_until=None))


async def confirm(tx: Transaction, holder: UUID, authority_id: UUID) -> None:
    """Make sure that the lease is held to the end of the transaction. Raises StateConflict (``source-taken``)."""
    query = select(_P.c.holder).where(_P.c.authority_id == authority_id).with_for_update()
    if await tx.scalar(query) != holder:
        raise StateConflict("Another process reads this source by now.", code="source-taken")


async def note_start(database: Database, authority_id: UUID) -> None:
    """Note that a look begins."""
    async with database.transaction() as tx:
        values = {"started_at": text("clock_timestamp()"), "ended_at": None, "done": 0}
        await tx.execute(update(_P).where(_P.c.authority_id == authority_id).values(values))


async def note_progress(database: Database, authority_id: UUID, done: int) -> None:
    """Note how many entries have been read."""
    async with database.transaction() as tx:
        await tx.execute(update(_P).where(_P.c.authority_id == authority_id).values(done=done))


async def note_end(database: Database, authority_id: UUID, outcome: str, detail: str) -> None:
    """Note what came of a look."""
    async with database.transaction() as tx:
        values = {"ended_at": text("clock_timestamp()"), "outcome": outcome, "detail": detail[:500]}
        await tx.execute(update(_P).where(_P.c.authority_id == authority_id).values(values))


async def ask(tx: Transaction, authority_id: UUID) -> None:
    """Ask whoever reads this source to look at once."""
    await tx.execute(
        text(
            "INSERT INTO status_pull (authority_id, wanted_at) VALUES (:id, clock_timestamp()) "
            "ON CONFLICT (authority_id) DO UPDATE SET wanted_at = excluded.wanted_at"
        ),
        {"id": authority_id},
    )


@dataclass(frozen=True)
class Pull:
    """The last look at a source, or the one that is going on. ``waiting``: one was asked for and has not begun."""

    waiting: bool
    running: bool
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    detail: str | None
    done: int
    held: bool


async def pull_of(view: Transaction, authority_id: UUID) -> Pull:
    """How reading the source is going."""
    query = select(_P, text("clock_timestamp() AS now")).where(_P.c.authority_id == authority_id)
    row = await view.one_or_none(query)
    if row is None:
        return Pull(False, False, None, None, None, None, 0, False)
    running = row["started_at"] is not None and row["ended_at"] is None
    held = row["holder"] is not None and row["held_until"] > row["now"]
    return Pull(
        waiting=_is_wanted(row),
        running=running and held,
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
        detail=row["detail"],
        done=row["done"],
        held=held,
    )


def _is_wanted(row: Mapping[Any, Any]) -> bool:
    wanted, started = row["wanted_at"], row["started_at"]
    return wanted is not None and (started is None or started < wanted)
