"""Access events: one for every handshake and request that was accepted or refused.

They are gathered in memory and written by COPY beside the decisions, so that watching costs a decision next to nothing.
What does not fit into memory while the database is slow or away is counted per ingress, and the count becomes an event
of its own (``loss``): a gap in the log is never silent. Of strangers who come in crowds not everyone is kept singly
(:mod:`intaglio.mtls.observation.crowd`).
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import psycopg
from prometheus_client import Counter as Metric

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, StateConflict, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, is_usable, translated_errors
from intaglio.mtls.observation.crowd import Crowd

log = get_logger(__name__)

#: Handshakes and requests by decision (allow, deny) and reason (empty: nothing was wrong).
decisions_total = Metric("intaglio_access_decisions", "Access decisions recorded.", ["decision", "reason"])
#: Access events that could not be kept, by ingress.
lost_total = Metric("intaglio_access_events_lost", "Access events that could not be kept.", ["ingress"])

INTERVAL = 0.25
CAPACITY = 20_000
_BATCH = 5_000
_RETRY = 1.0
_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """One observation, in the order of its columns, ``at`` first.

    ``identity`` is the URI of an identity whose certificate passed every check of its own, ``claimed`` whom a
    certificate was made out to, good or not. ``reason`` is empty when nothing was wrong; with a permissive ingress it
    is set although ``decision`` is allow. ``kind`` loss: ``count`` events of the ingress could not be kept; otherwise
    ``count`` is how many were like this one.
    """

    at: datetime
    kind: Literal["request", "handshake", "loss"] = "request"
    count: int = 1
    recorder: Literal["decision", "gateway", "import", "test"] = "decision"
    organization_id: UUID | None = None
    ingress_id: UUID | None = None
    ingress: str = ""
    source_ip: str = ""
    identity: str = ""
    claimed: str = ""
    identity_kind: str = ""
    serial: bytes = b""
    fingerprint: bytes = b""
    issuer: str = ""
    san: str = ""
    not_after: datetime | None = None
    tls_version: str = ""
    cipher: str = ""
    decision: Literal["allow", "deny", ""] = ""
    mode: str = ""
    reason: str = ""
    certificate_reason: str = ""
    ip_allowed: bool | None = None
    method: str = ""
    host: str = ""
    path: str = ""
    policy: str = ""
    detail: str = ""


_NAMES = tuple(each.name for each in fields(AccessEvent))
_COPY = f"COPY mtls_access_event (id, {', '.join(_NAMES)}) FROM STDIN"


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events and their rows."""

    events: list[AccessEvent]
    rows: bytes = field(repr=False)


#: Organization, ingress and its name: what losses are counted by.
_Source = tuple[UUID | None, UUID | None, str]


class EventRecorder:
    """Writes the access events of one process. ``capacity`` is how many may wait; ``lost`` counts those that did not
    fit since the process started."""

    def __init__(self, database: Database, *, capacity: int = CAPACITY) -> None:
        self._database = database
        self._capacity = capacity
        self._waiting: deque[AccessEvent] = deque()
        #: A batch of which nobody knows whether it was stored: it is tried again exactly as it was, with its ids.
        self._doubtful: _Batch | None = None
        self._unreported: Counter[_Source] = Counter()
        self._crowd = Crowd()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._writing = asyncio.Lock()
        self.lost = 0

    @property
    def waiting(self) -> int:
        """How many events are not written yet."""
        return len(self._waiting) + len(self._crowd) + (len(self._doubtful.events) if self._doubtful else 0)

    def record(self, event: AccessEvent) -> None:
        """Note an event. Never waits, never raises; memory is bounded."""
        if not self._crowd.takes(event):
            if len(self._waiting) >= self._capacity:
                self._lose([event])
                return
            self._waiting.append(event)
        if self._task is None and not self._stopping.is_set():
            with contextlib.suppress(RuntimeError):  # outside of an event loop: whoever flushes writes it
                self._task = asyncio.get_running_loop().create_task(self._run(), name="access-events")

    async def close(self, *, timeout: float = 5.0) -> None:
        """Write what is waiting, for at most ``timeout`` seconds; what remains is logged as lost."""
        self._stopping.set()
        try:
            async with asyncio.timeout(timeout):
                if self._task is not None:
                    await self._task
                while await self.flush():
                    pass
        except (IntaglioError, TimeoutError) as error:
            log.error("access events were not recorded", count=self.waiting, reason=str(error))
        await self._disconnect()

    async def flush(self, *, crowd: bool = True) -> int:
        """Write one batch, with what was only counted so far unless ``crowd`` says not yet. Returns how many rows it
        had.

        Raises Unavailable and TimedOut when the database does not answer; the batch keeps waiting then. A batch that
        cannot be stored for another reason is lost, and counted, rather than hold up all that follow.
        """
        async with self._writing:
            again = self._doubtful is not None
            batch = self._doubtful = self._doubtful or self._next(crowd)
            if batch is None:
                return 0
            try:
                async with asyncio.timeout(self._database.timeout):
                    await self._write(batch.rows)
            except TimeoutError:
                await self._disconnect()
                raise TimedOut("The database did not answer in time.", code="database-timeout") from None
            except (Unavailable, TimedOut, asyncio.CancelledError):
                await self._disconnect()
                raise
            except Exception as error:
                await self._disconnect()
                # The ids are there already: the attempt before has succeeded, only its answer got lost.
                if not (again and isinstance(error, StateConflict)):
                    log.exception("access events could not be stored", count=len(batch.events))
                    self._lose(batch.events)
                    self._doubtful = None
                    return len(batch.events)
            self._doubtful = None
            _measure(batch.events)
            return len(batch.events)

    def _next(self, crowd: bool) -> _Batch | None:
        """The next batch with what was lost before it, None when there is nothing to write."""
        events = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if crowd:
            events += self._crowd.take()
        events += map(_loss, self._unreported.items())
        self._unreported.clear()
        return _Batch(events, rows(events)) if events else None

    async def _write(self, data: bytes) -> None:
        if self._connection is None or not is_usable(self._connection):
            await self._disconnect()
            self._connection = await self._database.raw_connection()
        with translated_errors():
            await copy_rows(self._connection, data)

    def _lose(self, events: Iterable[AccessEvent]) -> None:
        for event in events:
            self._unreported[event.organization_id, event.ingress_id, event.ingress] += event.count
            self.lost += event.count

    async def _run(self) -> None:
        while not self._stopping.is_set():
            pause = INTERVAL
            try:
                while await self.flush(crowd=self._crowd.due):
                    pass
            except IntaglioError as error:
                log.warning("access events wait for the database", count=self.waiting, reason=str(error))
                pause = _RETRY
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()


def _measure(events: Sequence[AccessEvent]) -> None:
    """Count a batch at once; a counter shared between processes costs more than a dictionary."""
    counted: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.kind != "loss":
            counted[event.decision, event.reason] += event.count
    for (decision, reason), number in counted.items():
        decisions_total.labels(decision, reason).inc(number)
    for event in events:
        if event.kind == "loss":
            lost_total.labels(event.ingress).inc(event.count)


async def record_many(database: Database, events: Sequence[AccessEvent]) -> None:
    """Store events that were gathered elsewhere (an imported log), all or none. Raises Unavailable, TimedOut."""
    connection = await database.raw_connection()
    try:
        with translated_errors():
            await copy_rows(connection, rows(events))
    finally:
        await connection.close()


async def copy_rows(connection: psycopg.AsyncConnection[Any], data: bytes) -> None:
    """One COPY of finished rows; part of the connection's transaction if there is one."""
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(data)


def rows(events: Sequence[AccessEvent]) -> bytes:
    """The events in PostgreSQL's COPY text format, each with a new id (UUIDv7, RFC 9562 section 5.7)."""
    now, randomness = f"{time.time_ns() // 1_000_000:012x}", secrets.token_hex(10 * len(events))
    ids = (
        f"{now}7{randomness[at : at + 3]}8{randomness[at + 4 : at + 19]}" for at in range(0, len(randomness), 20)
    )
    return "".join(map(_line, ids, events)).encode("utf-8", "replace")


def _loss(entry: tuple[_Source, int]) -> AccessEvent:
    (organization, ingress_id, ingress), count = entry
    detail = f"{count} access events could not be kept."
    return AccessEvent(
        clock.now(), "loss", count, organization_id=organization, ingress_id=ingress_id, ingress=ingress, detail=detail
    )


_read = operator.attrgetter(*_NAMES[1:])  # all but ``at``, which is always another


def _line(event_id: str, event: AccessEvent) -> str:
    return "\t".join([event_id, str(event.at), *map(_field, _read(event))]) + "\n"


def _field(value: object) -> str:
    # Most values come again with the next event; long ones, and times, are not worth remembering.
    if isinstance(value, str) and len(value) > _SHORT:
        return _formatted(value)
    return _kept(value)


# The backslash of the format, what separates fields and rows, and NUL, which no text column takes.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\ufffd"})


def _formatted(value: object) -> str:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT].translate(_ESCAPES)
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


_SHORT = 160
_kept = lru_cache(maxsize=8192, typed=True)(_formatted)
