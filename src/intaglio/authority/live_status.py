"""Certificate status: looked up in batches, remembered while every change is heard of (:mod:`intaglio.db.live`).

This is what every relying part of the platform asks about our own certificates: the OCSP responder and the access
decisions of mutual TLS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import select

from intaglio.authority import models
from intaglio.db.engine import Database, Transaction
from intaglio.db.journal import journal_head
from intaglio.db.listen import Watch
from intaglio.db.live import MAX_CHANGES, Change, Key, LiveValues

__all__ = ["Change", "Key", "Status", "StatusSource"]


@dataclass(frozen=True, slots=True)
class Status:
    """``state`` is valid, held or revoked; ``generation`` the CA key that issued the certificate, None when nobody did;
    ``reason`` the CRLReason code of a revoked or held one, since ``revoked_at``; ``event_seq`` the last certificate
    event that is taken into account."""

    generation: int | None
    event_seq: int
    state: str = "valid"
    revoked_at: datetime | None = None
    reason: int | None = None

    def known_to(self, generation: int) -> bool:
        """Whether the issuer with this key issued it: of what another key issued it knows nothing."""
        return self.generation == generation


_LOOKUP = """
SELECT head.event_seq, found.generation, found.status, found.revoked_at, found.reason
FROM journal_head AS head
CROSS JOIN unnest(%b::uuid[], %b::bytea[]) WITH ORDINALITY AS asked(ca_id, serial, position)
LEFT JOIN LATERAL (
    SELECT generation, status, revoked_at, reason FROM certificate
    WHERE certificate.ca_id = asked.ca_id AND certificate.serial = asked.serial LIMIT 1
) AS found ON true
ORDER BY asked.position
"""


class StatusSource(LiveValues[Status]):
    """Status of our own certificates in one process, by CA and serial number."""

    def __init__(
        self, database: Database, watch: Watch, on_change: Callable[[Sequence[Change] | None], None]
    ) -> None:
        super().__init__(database, watch, "certificate status", on_change)

    @property
    def heard(self) -> int:
        return self._watch.event_seq

    async def look_up(self, connection: psycopg.AsyncConnection[Any], keys: Sequence[Key]) -> list[Status]:
        async with connection.cursor(binary=True) as cursor:
            await cursor.execute(_LOOKUP, [[ca for ca, _ in keys], [serial for _, serial in keys]], prepare=True)
            return [_status(row) for row in await cursor.fetchall()]

    async def changes(self, view: Transaction, after: int) -> tuple[int, Sequence[tuple[int, Change]] | None]:
        e = models.certificate_event.c
        head = int(await view.scalar(select(journal_head.c.event_seq)))
        if after < 0:
            return head, None
        statement = select(e.seq, e.ca_id, e.serial).where(e.action != "issued", e.seq > after, e.seq <= head)
        rows = await view.all(statement.order_by(e.seq).limit(MAX_CHANGES + 1))
        return head, None if len(rows) > MAX_CHANGES else [(row["seq"], (row["ca_id"], row["serial"])) for row in rows]

    def number(self, value: Status) -> int:
        return value.event_seq

    def renumbered(self, value: Status, number: int) -> Status:
        return replace(value, event_seq=number)

    def exists(self, value: Status) -> bool:
        return value.generation is not None


def _status(row: tuple[Any, ...]) -> Status:
    event_seq, generation, state, revoked_at, reason = row
    if generation is None:
        return Status(None, event_seq)
    return Status(generation, event_seq, state, revoked_at, reason)
