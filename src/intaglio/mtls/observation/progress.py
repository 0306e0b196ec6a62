"""Which access events were not looked at yet: those that an earlier snapshot of the database did not show.

Ids and times do not tell. A batch that is tried again keeps its ids, and what another process writes may be committed
after what was begun later. A snapshot tells exactly (PostgreSQL, "Transaction ID and Snapshot Information Functions"):
every event is looked at once, as soon as it is there, however late that is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, literal, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import UserDefinedType

from intaglio.db.base import String
from intaglio.db.engine import Transaction
from intaglio.mtls.observation.alert_models import alert_progress
from intaglio.mtls.observation.models import access_event

_FIRST_LOOK = timedelta(hours=1)
_e, _p = access_event.c, alert_progress.c


async def events_since_last_look(tx: Transaction) -> tuple[ColumnElement[bool], ...]:
    """Conditions of the events that are new since this was last called, which counts once the transaction is over.

    The first look is at the last hour, and so is the first one in a database that was restored elsewhere: its
    transactions are counted anew. Callers have the lock of the look.
    """
    progress = await tx.one_or_none(select(alert_progress).where(_p.name == "events").with_for_update())
    now = str(await tx.scalar(select(cast(func.pg_current_snapshot(), String))))
    values = {"event_id": first_id(tx.now), "snapshot": now}
    made = insert(alert_progress).values(name="events", **values)
    await tx.execute(made.on_conflict_do_update(index_elements=["name"], set_=values))
    before = None if progress is None else progress["snapshot"]
    if before is None or _xmin(before) > _xmin(now):
        since = first_id(tx.now - _FIRST_LOOK) if progress is None or before else progress["event_id"]
        return _e.id >= since, or_(_e.recorded_by.is_(None), _shown(now))
    return _e.recorded_by >= literal(_xmin(before), BigInteger), _shown(now), ~_shown(before)


def first_id(at: datetime) -> UUID:
    """The smallest UUIDv7 of a moment (RFC 9562 section 5.7)."""
    milliseconds = int(at.timestamp() * 1000)
    return UUID(f"{milliseconds:012x}70008000000000000000")


class _Snapshot(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_snapshot"


def _shown(snapshot: str) -> ColumnElement[bool]:
    """Whether the snapshot shows what recorded an event."""
    by: ColumnElement[str] = literal_column("mtls_access_event.recorded_by::text::xid8")
    return func.pg_visible_in_snapshot(by, cast(literal(snapshot, String), _Snapshot()))


def _xmin(snapshot: str) -> int:
    """The oldest transaction that was still running: all before it are shown."""
    return int(snapshot.partition(":")[0])
