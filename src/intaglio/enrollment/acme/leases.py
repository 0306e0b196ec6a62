"""Work that outlives the request that began it: validations and finalizations, each under a lease in the database.

A process that works renews its leases while it lives. When it dies they run out, and the upkeep of any other one takes
the work up again (``upkeep``). Who has lost a lease finds out when he writes the result, which is then not his.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import Table, update

from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database
from intaglio.enrollment.acme import models

log = get_logger(__name__)
T = TypeVar("T")

#: For how long a process is believed to be alive after it was last heard of.
LEASE: Final = timedelta(seconds=15)
_RENEWAL: Final = 4.0  # seconds
#: How many of each kind one process does at a time; others wait, under their leases. Validations wait for others, and
#: must not hold up who has proven everything.
_AT_A_TIME: Final = {models.authorization: 256, models.order: 32}
#: What one account gets of it: whose hosts answer slowly keeps nobody else from being served.
_SHARE: Final = {models.authorization: 32, models.order: 16}

Work = Callable[[], Awaitable[T]]


def held_until() -> datetime:
    """Until when a lease lasts that is taken or renewed now."""
    return clock.now() + LEASE


class Running:
    """What one process is doing, by the row that it holds."""

    def __init__(self, database: Database, holder: UUID) -> None:
        self._database = database
        self._holder = holder
        self._tasks: dict[tuple[Table, UUID], asyncio.Task[Any]] = {}
        self._room = {table: asyncio.Semaphore(most) for table, most in _AT_A_TIME.items()}
        #: By table and account, for as long as something of it is under way.
        self._shares: WeakValueDictionary[tuple[Table, UUID], asyncio.Semaphore] = WeakValueDictionary()
        self._keeper: asyncio.Task[None] | None = None

    def start(self, table: Table, row_id: UUID, account_id: UUID, work: Work[T]) -> asyncio.Task[T | None]:
        """Do ``work`` for a row whose lease was just taken, or leave it to the task that does it already.

        What an account wants beyond its share waits, even if nobody else has anything to do. The task gives what the
        work gives, None when that failed.
        """
        key = table, row_id
        known = self._tasks.get(key)
        if known is not None:
            return known
        task = asyncio.create_task(self._run(work, table, row_id, account_id), name=f"acme-{row_id}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="acme-leases")
        return task

    async def close(self) -> None:
        """Stop, and give back what is not finished."""
        tasks = list(self._tasks.items())
        for task in [*(task for _, task in tasks), *([self._keeper] if self._keeper else [])]:
            task.cancel()
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        try:
            for table in {table for (table, _), _ in tasks}:
                await self._extend(table, [row for (of, row), _ in tasks if of is table], clock.now())
        except IntaglioError as error:  # they run out by themselves
            log.warning("ACME leases were not given back", reason=error.detail)

    async def _run(self, work: Work[T], table: Table, row_id: UUID, account_id: UUID) -> T | None:
        share = self._shares.get((table, account_id))
        if share is None:
            share = self._shares[table, account_id] = asyncio.Semaphore(_SHARE[table])
        async with share, self._room[table]:
            try:
                return await work()
            except IntaglioError as error:  # taken up again when the lease has run out
                log.warning("an ACME task has to wait", id=str(row_id), code=error.code, reason=error.detail)
            except Exception:
                log.exception("an ACME task failed", id=str(row_id))
        return None

    async def _keep(self) -> None:
        while self._tasks:
            await asyncio.sleep(_RENEWAL)
            try:
                for table in (models.authorization, models.order):
                    await self._extend(table, [row for of, row in self._tasks if of is table], held_until())
            except IntaglioError as error:
                log.warning("ACME leases could not be renewed", reason=error.detail)

    async def _extend(self, table: Table, rows: list[UUID], until: datetime) -> None:
        if not rows:
            return
        c = table.c
        async with self._database.transaction() as tx:
            await tx.execute(update(table).where(c.id.in_(rows), c.holder == self._holder).values(held_until=until))
