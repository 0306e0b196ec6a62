"""Certificate status: looked up in batches, remembered while every change is heard of.

This is what every relying part of the platform asks: the OCSP responder and the access decisions of mutual TLS. A
remembered status is used only as long as the :class:`~intaglio.db.listen.Watch` is current and the event feed was
followed up to what it heard. When the database is silent there is no status at all, and never a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from intaglio.authority import models
from intaglio.core.errors import TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, OwnConnection, translated_errors
from intaglio.db.journal import journal_head
from intaglio.db.listen import Watch

log = get_logger(__name__)

MAX_REMEMBERED = 50_000
_MAX_BATCH = 512
_MAX_WAITING = 20_000
_MAX_EVENTS = 5_000  # more than this at once: forgetting everything is cheaper than dropping one by one

#: CA and serial number.
Key = tuple[UUID, bytes]


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


class StatusSource:
    """Status of certificates of one process. ``on_change`` is called with the keys whose status changed, or with None
    when any may have changed."""

    def __init__(self, database: Database, watch: Watch, on_change: Callable[[Sequence[Key] | None], None]) -> None:
        self._database = database
        self._watch = watch
        self._on_change = on_change
        self._lookup = _BatchedLookup(database)
        self._remembered: OrderedDict[Key, Status] = OrderedDict()
        self._heard = -2  # what the watch said when changes were last taken note of
        self._followed = -1  # event number up to which they were
        self._changed = -1  # number of the last status change taken note of
        self._following = asyncio.Lock()

    async def close(self) -> None:
        await self._lookup.close()

    @property
    def current(self) -> bool:
        """Whether what is remembered (here and by ``on_change``'s owner) may be used now."""
        watch = self._watch
        return watch.event_seq == self._heard and watch.current

    @property
    def behind(self) -> bool:
        """Whether changes were heard of that are not taken note of yet; :meth:`catch_up` does."""
        return self._watch.event_seq != self._heard

    def covers(self, status: Status) -> bool:
        """Whether a looked-up status may be remembered: no change heard of since could have been missed by it."""
        return status.event_seq >= self._changed and self.current

    async def catch_up(self) -> None:
        """Follow the event feed up to what the watch heard. Raises Unavailable, TimedOut."""
        async with self._following:
            heard = self._watch.event_seq
            if heard < 0 or not self._watch.current:
                return
            if heard < self._heard:
                self._followed = -1  # the database was set back to an earlier state
            if heard > self._followed:
                await self._follow()
            self._heard = heard

    async def get(self, key: Key) -> Status:
        """Status of one certificate, at most a second old. Raises Unavailable, TimedOut."""
        if self.current and (known := self._remembered.get(key)) is not None:
            if known.event_seq < self._changed:
                # Nothing that changed since concerned this certificate, or it would not be remembered any more.
                known = self._remembered[key] = replace(known, event_seq=self._followed)
            self._remembered.move_to_end(key)
            return known
        status = await self._lookup.get(key)
        # What does not exist may exist in a moment, so only certificates are remembered.
        if status.generation is not None and self.covers(status):
            self._remembered[key] = status
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return status

    async def _follow(self) -> None:
        e = models.certificate_event.c
        async with self._database.read() as view:
            head = int(await view.scalar(select(journal_head.c.event_seq)))
            statement = select(e.seq, e.ca_id, e.serial).where(
                e.action != "issued", e.seq > self._followed, e.seq <= head
            )
            events = await view.all(statement.order_by(e.seq).limit(_MAX_EVENTS + 1)) if self._followed >= 0 else []
        # The first time, when the database was set back, and after a flood.
        if self._followed < 0 or len(events) > _MAX_EVENTS:
            self._remembered.clear()
            self._on_change(None)
            self._changed = head
        elif events:
            keys = [(row["ca_id"], row["serial"]) for row in events]
            for key in keys:
                self._remembered.pop(key, None)
            self._on_change(keys)
            self._changed = events[-1]["seq"]
        self._followed = head


class _BatchedLookup:
    """Looks statuses up on a connection of its own: one query for all that were asked for while the last one ran."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Key, asyncio.Future[Status]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection = OwnConnection(database)
        self._failing = False

    async def get(self, key: Key) -> Status:
        if len(self._waiting) >= _MAX_WAITING:
            raise Unavailable("Too many status requests are waiting for the database.", code="database-busy")
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="certificate-status")
        answer: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        self._wake.set()
        return await answer

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()
        for _, answer in self._waiting:
            answer.cancel()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            if not self._waiting:
                self._wake.clear()
            try:
                async with asyncio.timeout(self._database.timeout):
                    statuses = await self._execute([key for key, _ in batch])
            except asyncio.CancelledError:
                for _, answer in batch:
                    answer.cancel()
                raise
            except Exception as error:
                # Whatever it was, everybody who waits gets it: this task must outlive it.
                await self._connection.close()
                self._fail(batch, error)
            else:
                self._failing = False
                for (_, answer), status in zip(batch, statuses, strict=True):
                    if not answer.done():
                        answer.set_result(status)

    async def _execute(self, keys: Sequence[Key]) -> list[Status]:
        connection = await self._connection.get()
        with translated_errors():
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(_LOOKUP, [[ca for ca, _ in keys], [serial for _, serial in keys]], prepare=True)
                return [_status(row) for row in await cursor.fetchall()]

    def _fail(self, batch: Sequence[tuple[Key, asyncio.Future[Status]]], error: BaseException) -> None:
        if not self._failing:
            log.warning("certificate status cannot be read; no certificate counts as good", reason=str(error))
        self._failing = True
        if isinstance(error, TimeoutError):
            error = TimedOut("The database did not answer in time.", code="database-timeout")
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)


def _status(row: tuple[Any, ...]) -> Status:
    event_seq, generation, state, revoked_at, reason = row
    if generation is None:
        return Status(None, event_seq)
    return Status(generation, event_seq, state, revoked_at, reason)
