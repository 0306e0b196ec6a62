"""The journal: gapless, strictly ordered numbers for events and audit records, and the configuration epoch.

One row is updated at the end of every state-changing transaction. Its lock is held until commit, so numbers become
visible in their order and without gaps; a feed reader can never miss a record that commits late. The same row carries
the configuration epoch (see ``docs/architecture.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, SmallInteger, Table, text
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
    channels = set(pending.notify)
    if pending.configuration_changed:
        channels.add(CONFIG_CHANNEL)
    for channel in sorted(channels):
        await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})
    return given
