"""Hearing of changes made by other processes.

A :class:`Watch` keeps one connection in LISTEN and reads the journal head every half second as a heartbeat. ``current``
is true only while both work: a cache may be served only then, so a lost connection never turns into stale answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Database
from intaglio.db.journal import CONFIG_CHANNEL, CRL_CHANNEL, EVENT_CHANNEL, STATUS_CHANNEL

log = get_logger(__name__)

HEARTBEAT = 0.5
FRESHNESS = 1.0
_RETRY = 0.25
_JUMP = 2.0  # seconds; clocks that are kept right by NTP are slewed, not set

_NUMBERS = ("epoch", "event_seq", "audit_seq", "status_version")
_HEAD = (
    "SELECT epoch, event_seq, audit_seq, coalesce((SELECT version FROM status_head), 0), clock_timestamp() "
    "FROM journal_head"
)

Callback = Callable[[], Awaitable[None]]


class Watch:
    """Calls back when a channel was notified or the journal head moved.

    ``on_config`` is awaited when the configuration epoch moved, ``on_event`` when the event sequence moved or a status
    change was notified, ``on_audit`` when audit records were written; all three also after every (re)connection. What
    they take in is there before :attr:`epoch` and the other numbers say so; ``after_config`` is awaited then, for what
    may take longer.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_config: Callback | None = None,
        on_event: Callback | None = None,
        on_audit: Callback | None = None,
        after_config: Callback | None = None,
    ) -> None:
        self._database = database
        self._after_config = after_config
        self._taken_in = asyncio.Event()
        self._taken_in.set()
        self._callbacks = {"epoch": on_config, "event_seq": on_event, "audit_seq": on_audit}
        self._seen: dict[str, int] = {}
        self._last_heard = float("-inf")
        self._ahead: float | None = None  # of our wall clock before the monotonic one, when we last looked
        self._database_ahead: float | None = None  # the same of the database's clock
        self.clock_jumps = 0
        #: Rises with every CRL that was issued anywhere, and whenever one may have been missed.
        self.crl_notices = 0
        self._troubles = Troubles()
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> bool:
        """Whether everything committed up to a second ago has been heard of."""
        return monotonic() - self._last_heard < FRESHNESS

    @property
    def is_taking_in(self) -> bool:
        """Whether a change of configuration has been heard of that :attr:`epoch` does not tell yet."""
        return not self._taken_in.is_set()

    async def taken_in(self) -> None:
        """Wait until it does, or could not be taken in."""
        await self._taken_in.wait()

    @property
    def heard(self) -> object:
        """Another object whenever something new may have been heard: who has judged one need not judge it again."""
        return self._seen

    @property
    def epoch(self) -> int:
        """The last configuration epoch heard of; -1 before the first contact."""
        return self._seen.get("epoch", -1)

    @property
    def event_seq(self) -> int:
        """The last certificate event number heard of; -1 before the first contact."""
        return self._seen.get("event_seq", -1)

    @property
    def status_version(self) -> int:
        """The last version heard of what is known of other CAs' certificates; -1 before the first contact."""
        return self._seen.get("status_version", -1)

    @property
    def clock_offset(self) -> float:
        """Seconds by which our clock is ahead of the database's at this moment; 0 before the first contact."""
        return 0.0 if self._database_ahead is None else _ahead(clock.now()) - self._database_ahead

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="database-watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                connection = await self._database.raw_connection()
                try:
                    await self._follow(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, IntaglioError, OSError, TimeoutError) as error:
                if self._troubles.worth_reporting("database"):
                    log.warning("not hearing of changes; caches are off until the database answers", reason=str(error))
            except Exception:  # a callback's own fault: stay stale, which is safe, and try again
                if self._troubles.worth_reporting("callback"):
                    log.exception("a change could not be taken in; caches are off until it can")
            await asyncio.sleep(_RETRY)

    async def _follow(self, connection: psycopg.AsyncConnection[object]) -> None:
        for channel in (CONFIG_CHANNEL, EVENT_CHANNEL, CRL_CHANNEL, STATUS_CHANNEL):
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._seen = {}
        self.crl_notices += 1
        while True:
            await self._take_in_head(connection)
            async for notice in connection.notifies(timeout=HEARTBEAT, stop_after=1):
                self.crl_notices += notice.channel == CRL_CHANNEL

    async def _take_in_head(self, connection: psycopg.AsyncConnection[object]) -> None:
        """Read the journal head and call back for what moved. The callbacks may take longer than a heartbeat: until
        they are done, ``current`` goes false, but nothing is torn down."""
        asked = monotonic()
        async with asyncio.timeout(FRESHNESS):
            cursor = await connection.execute(_HEAD)
            row: Any = await cursor.fetchone()
        if row is None:
            return
        *numbers, database_now = row
        self._compare_clocks(database_now)
        head, told = dict(zip(_NUMBERS, numbers, strict=True)), self._seen
        if head["epoch"] != told.get("epoch"):
            self._taken_in.clear()
        try:
            for name, callback in self._callbacks.items():
                if head[name] != told.get(name) and callback is not None:
                    await callback()
            self._seen = head
        finally:
            self._taken_in.set()
        if head["epoch"] != told.get("epoch") and self._after_config is not None:
            await self._after_config()
        self._last_heard = asked
        if self._troubles.over("database", "callback"):
            log.info("hearing of changes again")

    def _compare_clocks(self, database_now: datetime) -> None:
        """Note how far the database's clock is away, and whether ours was set since the last time."""
        ahead = _ahead(clock.now())
        if self._ahead is not None and abs(ahead - self._ahead) > _JUMP:
            self.clock_jumps += 1
            log.warning("the clock was set", seconds=round(ahead - self._ahead, 1))
        self._ahead, self._database_ahead = ahead, _ahead(database_now)


def _ahead(moment: datetime) -> float:
    """Seconds between a wall clock that shows ``moment`` and the monotonic clock, which nobody can set."""
    return moment.timestamp() - monotonic()
