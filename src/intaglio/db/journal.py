"""The journal: gapless, strictly ordered numbers for events and audit records, and the configuration epoch.

One row is updated at the end of every state-changing transaction. Its lock is held until commit, so numbers become
visible in their order and without gaps; a feed reader can never miss a record that commits late. The same row carries
the configuration epoch (see ``docs/architecture.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    SmallInteger,
    Table,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from intaglio.core.errors import StateConflict
from intaglio.db.base import metadata, required

journal_head = Table(
    "journal_head",
    metadata,
    required("id", SmallInteger, primary_key=True, autoincrement=False),
    required("event_seq", BigInteger, server_default="0"),
    required("audit_seq", BigInteger, server_default="0"),
    required("epoch", BigInteger, server_default="0"),
    CheckConstraint("id = 1", name="single"),
)

CONFIG_CHANNEL = "intaglio_config"
EVENT_CHANNEL = "intaglio_event"
AUDIT_CHANNEL = "intaglio_audit"
CRL_CHANNEL = "intaglio_crl"
#: What is known of certificates of others changed (``status_head``).
STATUS_CHANNEL = "intaglio_status"


class EpochMoved(StateConflict):
    """Configuration changed between deciding and committing; nothing was written. Reload and decide again."""

    default_code = "configuration-changed"

    def __init__(self) -> None:
        super().__init__("The configuration changed while the request was being decided.", retry_after=0)


@dataclass(frozen=True)
class Stream:
    """An append-only table whose ``seq`` comes from a counter of the journal head."""

    counter: str
    table: Table


@dataclass
class Pending:
    """What a transaction has buffered for its end."""

    rows: dict[str, tuple[Stream, list[dict[str, Any]]]] = field(default_factory=dict)
    configuration_changed: bool = False
    expected_epoch: int | None = None
    notify: set[str] = field(default_factory=set)

    def append(self, stream: Stream, row: Mapping[str, Any]) -> None:
        self.rows.setdefault(stream.counter, (stream, []))[1].append(dict(row))

    def __bool__(self) -> bool:
        return bool(self.rows or self.configuration_changed or self.notify)


async def flush(connection: AsyncConnection, pending: Pending) -> dict[str, Sequence[int]]:
    """Take numbers, insert the buffered rows, notify. Must be the last thing before commit.

    Returns the numbers given, by counter name.
    """
    # Everybody waits for the head while this process is on its way to the database and back: notify first, and write
    # the usual single row of a stream with the statement that takes its number.
    channels = pending.notify | ({CONFIG_CHANNEL} if pending.configuration_changed else set())
    for channel in sorted(channels):
        await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})
    if pending.rows and all(len(rows) == 1 for _, rows in pending.rows.values()):
        return await _flush_single_rows(connection, pending)
    given: dict[str, Sequence[int]] = {}
    counts = {name: len(rows) for name, (_, rows) in pending.rows.items()}
    if counts or pending.configuration_changed:
        head = (
            await connection.execute(
                text(
                    "UPDATE journal_head SET event_seq = event_seq + :events, audit_seq = audit_seq + :audits, "
                    "epoch = epoch + :step WHERE id = 1 AND epoch = coalesce(cast(:expected AS bigint), epoch) "
                    "RETURNING event_seq, audit_seq"
                ),
                {
                    "events": counts.get("event_seq", 0),
                    "audits": counts.get("audit_seq", 0),
                    "step": int(pending.configuration_changed),
                    "expected": pending.expected_epoch,
                },
            )
        ).one_or_none()
        if head is None:
            raise EpochMoved
        for counter, (stream, rows) in pending.rows.items():
            last = int(getattr(head, counter))
            numbers = range(last - len(rows) + 1, last + 1)
            await connection.execute(
                stream.table.insert(), [{"seq": n, **r} for n, r in zip(numbers, rows, strict=True)]
            )
            given[counter] = numbers
    return given


async def _flush_single_rows(connection: AsyncConnection, pending: Pending) -> dict[str, Sequence[int]]:
    """Take the numbers and insert one row of each stream by one statement."""
    h = journal_head.c
    counts = {f"{name}_step": int(name in pending.rows) for name in ("event_seq", "audit_seq")}
    steps = {name: h[name] + bindparam(f"{name}_step", type_=BigInteger) for name in ("event_seq", "audit_seq")}
    expected = func.coalesce(cast(bindparam("expected"), BigInteger), h.epoch)
    head = (
        update(journal_head)
        .where(h.id == 1, h.epoch == expected)
        .values(**steps, epoch=h.epoch + bindparam("epoch_step", type_=BigInteger))
        .returning(h.event_seq, h.audit_seq)
        .cte("head")
    )
    statement = select(head.c.event_seq, head.c.audit_seq)
    for stream, (row,) in pending.rows.values():
        columns = stream.table.c
        values = [cast(literal(value, columns[name].type), columns[name].type) for name, value in row.items()]
        numbered = select(head.c[stream.counter], *values)
        written = insert(stream.table).from_select(["seq", *row], numbered)
        statement = statement.add_cte(written.cte(f"written_{stream.counter}"))
    parameters = {**counts, "expected": pending.expected_epoch, "epoch_step": int(pending.configuration_changed)}
    taken = (await connection.execute(statement, parameters)).one_or_none()
    if taken is None:
        raise EpochMoved
    return {name: [int(getattr(taken, name))] for name in pending.rows}
