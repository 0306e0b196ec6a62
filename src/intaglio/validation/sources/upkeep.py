"""Reading the sources of all status authorities, in the jobs process: each in its own rhythm, each by one process.

One task per authority looks, waits and looks again; a slow or broken source holds up none of the others. What takes
memory is done for a few at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Transaction
from intaglio.validation.authorities import reading
from intaglio.validation.authorities.values import Authority, CrlOptions, GatewayOptions
from intaglio.validation.context import Validation
from intaglio.validation.sources import freshness, importing, leases, metrics

log = get_logger(__name__)

_AT_A_TIME = 2  # CRLs in the memory of one process
_PROGRESS_SECONDS = 1.0
_PRUNE_SECONDS = 60.0
_PRUNE_BATCH = 20_000  # entries
_SPREAD = 0.1  # of a wait, so that sources that started together do not stay together


async def run_source_upkeep(validation: Validation) -> None:
    """Read the sources, until cancelled. Any number of processes may: each source is read by one of them."""
    reader = SourceReader(validation)
    try:
        while True:
            await reader.turn()
            await asyncio.sleep(leases.RENEWAL)
    finally:
        await reader.stop()


class SourceReader:
    """What one process reads. ``turn`` takes leases, starts what is missing and ends what is not its own any more."""

    def __init__(self, validation: Validation, *, lease: timedelta = leases.LEASE) -> None:
        self._validation = validation
        self._lease = lease
        self.holder = new_id()
        self._tasks: dict[UUID, _Reading] = {}
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._troubles = Troubles()
        self._published: set[str] = set()
        self._pruned = float("-inf")

    async def turn(self) -> None:
        """Once around; trouble with the database is reported and waits for the next turn."""
        try:
            await self._turn()
        except IntaglioError as error:
            if self._troubles.worth_reporting("turn"):
                log.warning("the sources of status authorities have to wait", reason=str(error))
        else:
            self._troubles.over("turn")

    async def stop(self) -> None:
        """End everything, and let others take over at once."""
        await self._end(list(self._tasks))
        with contextlib.suppress(IntaglioError):
            await leases.give_back(self._validation.database, self.holder)

    async def _turn(self) -> None:
        database = self._validation.database
        async with database.read() as view:
            wanted = {a.id: a for a in await reading.load_all(view, enabled_only=True) if a.source != "native"}
            states = await freshness.states(view, view.now)
        held = {each.authority_id: each for each in await leases.take(
            database, self.holder, wanted, lease=self._lease
        )} if wanted else {}  # fmt: skip
        outdated = [i for i, r in self._tasks.items() if i not in held or r.version != wanted[i].version or r.done]
        await self._end(outdated)
        for authority_id, lease in held.items():
            if authority_id not in self._tasks:
                self._tasks[authority_id] = _Reading(self._validation, wanted[authority_id], self.holder, self._room)
            if lease.is_wanted:
                self._tasks[authority_id].wake.set()
        self._publish(wanted, states, set(held))
        if monotonic() - self._pruned > _PRUNE_SECONDS:
            async with database.transaction() as tx:
                await importing.prune_changes(tx)
            if not await _forget_entries(self._validation):  # else the next turn goes on
                self._pruned = monotonic()

    async def _end(self, which: list[UUID]) -> None:
        ended = [self._tasks.pop(authority_id) for authority_id in which]
        for each in ended:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in ended), return_exceptions=True)

    def _publish(
        self, wanted: Mapping[UUID, Authority], states: Mapping[UUID, freshness.State], held: set[UUID]
    ) -> None:
        now = clock.now()
        mine = {wanted[i].name: states[i] for i in held if i in states}
        soon = [wanted[i].name for i in held if i in states and ends_soon(wanted[i], states[i])]
        metrics.publish(mine, soon, now, self._published - mine.keys())
        self._published = set(mine)
        for name in soon:
            if self._troubles.worth_reporting(("soon", name)):
                log.warning("a CRL ends soon, and there is no newer one", authority=name)


def ends_soon(authority: Authority, state: freshness.State) -> bool:
    """Whether the CRL of an authority ends within its warning time."""
    options = authority.options
    if not isinstance(options, CrlOptions) or state.next_update is None:
        return False
    return state.next_update - clock.now() < options.warning_time


class _Reading:
    """The task that reads one source."""

    def __init__(
        self, validation: Validation, authority: Authority, holder: UUID, room: asyncio.Semaphore
    ) -> None:
        self._validation, self._authority, self._holder, self._room = validation, authority, holder, room
        self.version = authority.version
        self.wake = asyncio.Event()
        self._troubles = Troubles()
        self.task = asyncio.create_task(self._run(), name=f"status-source-{authority.name}")

    @property
    def done(self) -> bool:
        return self.task.done()

    async def _run(self) -> None:
        while True:
            self.wake.clear()
            ok = await self._look()
            options = self._authority.options
            assert isinstance(options, GatewayOptions | CrlOptions)
            wait = (options.wait_to_pull if ok else options.wait_on_error).total_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * random.uniform(1 - _SPREAD, 1)):  # noqa: S311 - spreads load
                    await self.wake.wait()

    async def _look(self) -> bool:
        """One look, and what is reported of it. Whether it was successful."""
        database, authority = self._validation.database, self._authority
        try:
            await leases.note_start(database, authority.id)
            outcome, detail = await self._read()
            await leases.note_end(database, authority.id, outcome, detail)
        except StateConflict as error:  # somebody else reads it, or it has another source: the next turn will tell
            log.info("a source is left to others", authority=authority.name, reason=error.code)
            return False
        except Exception as error:
            outcome, detail = "failed", str(error)
            if self._troubles.worth_reporting("look"):
                expected = isinstance(error, IntaglioError)
                log.error(
                    "a source cannot be read",
                    authority=authority.name,
                    reason=detail,
                    exc_info=None if expected else error,
                )
            with contextlib.suppress(IntaglioError):
                await leases.note_end(database, authority.id, outcome, detail)
        else:
            self._report(outcome, detail)
        metrics.source_looks.labels(authority.name, outcome).inc()
        return outcome != "failed"

    async def _read(self) -> tuple[str, str]:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done = count

        async def confirm(tx: Transaction) -> None:
            await leases.confirm(tx, self._holder, self._authority.id)

        async def tell() -> None:
            told = 0
            while True:
                await asyncio.sleep(_PROGRESS_SECONDS)
                if done != told:
                    told = done
                    with contextlib.suppress(IntaglioError):
                        await leases.note_progress(self._validation.database, self._authority.id, told)

        telling = asyncio.create_task(tell(), name="status-source-progress")
        try:
            if self._authority.source == "crl":
                from intaglio.validation.sources import crl_source

                looked = await crl_source.look(self._validation, self._authority, confirm, progress, self._room)
                return looked.outcome, looked.detail
            from intaglio.validation.sources import gateway_source

            read = await gateway_source.look(self._validation, self._authority, confirm, progress)
            return read.outcome, read.detail
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    def _report(self, outcome: str, detail: str) -> None:
        name = self._authority.name
        if outcome == "failed":
            if self._troubles.worth_reporting("look"):
                log.error("a source cannot be used", authority=name, reason=detail)
        elif self._troubles.over("look"):
            log.info("a source can be used again", authority=name)
        elif outcome == "changed":
            log.info("a source was read", authority=name, detail=detail)


# The sets that have entries, found by jumping from one to the next in the index.
_FORGET = text("""
WITH RECURSIVE found AS (
    (SELECT set_id FROM status_entry ORDER BY set_id LIMIT 1)
    UNION ALL
    SELECT (SELECT set_id FROM status_entry WHERE set_id > found.set_id ORDER BY set_id LIMIT 1)
    FROM found WHERE found.set_id IS NOT NULL
), orphan AS (
    SELECT set_id FROM found
    WHERE set_id IS NOT NULL AND NOT EXISTS (SELECT FROM status_authority WHERE status_authority.set_id = found.set_id)
    AND NOT EXISTS (SELECT FROM status_source WHERE status_source.set_id = found.set_id) LIMIT 1
)
DELETE FROM status_entry WHERE ctid IN (
    SELECT entry.ctid FROM status_entry AS entry JOIN orphan ON orphan.set_id = entry.set_id LIMIT :batch
)
""")


async def _forget_entries(validation: Validation) -> bool:
    """Delete some entries of a set that nobody serves or fills; whether there may be more."""
    async with validation.database.transaction() as tx:
        result = await tx.execute(_FORGET, {"batch": _PRUNE_BATCH})
        return int(result.rowcount) == _PRUNE_BATCH
