"""Status of the certificates of other CAs: what status authorities have read from their sources, looked up live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import select

from intaglio.db.engine import Database, Transaction
from intaglio.db.listen import Watch
from intaglio.db.live import MAX_CHANGES, Change, Key, LiveValues
from intaglio.validation.models import status_change, status_head

_GOOD, _HELD = 0, 2  # of status_entry.state; 1 is revoked
_HOLD_REASON = 6  # certificateHold


@dataclass(frozen=True, slots=True)
class Entry:
    """What a set knows of one serial number as of ``version``: nothing (``known`` is False), that it is good, or that
    it is revoked or held: since when, if that is known, and with which CRLReason code."""

    version: int
    known: bool = False
    revoked: bool = False
    revoked_at: datetime | None = None
    reason: int | None = None


# However many rows the planner expects, each is found by the index.
_LOOKUP = """
SELECT (SELECT version FROM status_head), found.state, found.revoked_at, found.reason
FROM unnest(%b::uuid[], %b::bytea[]) WITH ORDINALITY AS asked(set_id, serial, position)
LEFT JOIN LATERAL (
    SELECT state, revoked_at, reason FROM status_entry
    WHERE status_entry.set_id = asked.set_id AND status_entry.serial = asked.serial LIMIT 1
) AS found ON true
ORDER BY asked.position
"""


class EntrySource(LiveValues[Entry]):
    """Status of other CAs' certificates in one process, by set and serial number."""

    def __init__(
        self, database: Database, watch: Watch, on_change: Callable[[Sequence[Change] | None], None]
    ) -> None:
        super().__init__(database, watch, "status of other CAs", on_change)

    @property
    def heard(self) -> int:
        return self._watch.status_version

    async def look_up(self, connection: psycopg.AsyncConnection[Any], keys: Sequence[Key]) -> list[Entry]:
        async with connection.cursor(binary=True) as cursor:
            await cursor.execute(_LOOKUP, [[owner for owner, _ in keys], [serial for _, serial in keys]], prepare=True)
            return [_entry(row) for row in await cursor.fetchall()]

    async def changes(self, view: Transaction, after: int) -> tuple[int, Sequence[tuple[int, Change]] | None]:
        c = status_change.c
        head = int(await view.scalar(select(status_head.c.version)) or 0)
        if after < 0:
            return head, None
        statement = select(c.version, c.set_id, c.serial).where(c.version > after, c.version <= head)
        rows = await view.all(statement.order_by(c.version, c.id).limit(MAX_CHANGES + 1))
        # Changes are kept for an hour; who has not listened for longer finds that the next one is missing.
        missing = head > after and (not rows or rows[0]["version"] > after + 1)
        if missing or len(rows) > MAX_CHANGES:
            return head, None
        return head, [(row["version"], (row["set_id"], row["serial"])) for row in rows]

    def number(self, value: Entry) -> int:
        return value.version

    def renumbered(self, value: Entry, number: int) -> Entry:
        return replace(value, version=number)

    def exists(self, value: Entry) -> bool:
        return value.known


def _entry(row: tuple[Any, ...]) -> Entry:
    version, state, revoked_at, reason = row
    if state is None:
        return Entry(version)
    if state == _GOOD:
        return Entry(version, True)
    return Entry(version, True, True, revoked_at, _HOLD_REASON if state == _HELD else reason)
