"""Refusals: a request that was refused leaves no change, yet must leave a record.

They are gathered in memory and written in batches beside the requests: an attacker who makes us refuse a thousand
times a second must neither slow down others nor fill the trail, so equal refusals of one batch become one record with
a count. What does not fit into memory is counted, and the count is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from intaglio.audit.models import AUDIT
from intaglio.audit.record import Outcome, row
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Principal
from intaglio.db.engine import Database

log = get_logger(__name__)

INTERVAL = 0.25
CAPACITY = 5_000
_BATCH = 500
_LONGEST_TEXT = 500
_RETRY = 1.0

_Key = tuple[str, str, str, str, str, str, str]


class RefusalRecorder:
    """Writes refusals to the audit trail, outside the transaction that was refused.

    ``capacity`` is how many different refusals may wait. ``lost`` counts those that did not fit since the process
    started; they are recorded as one ``audit.overflow`` when there is room again.
    """

    def __init__(self, database: Database, *, capacity: int = CAPACITY) -> None:
        self._database = database
        self._capacity = capacity
        self._waiting: dict[_Key, dict[str, Any]] = {}
        self._lost_unrecorded = 0
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    @property
    def waiting(self) -> int:
        """How many different refusals are not written yet."""
        return len(self._waiting)

    def record(
        self,
        principal: Principal,
        action: str,
        object_kind: str,
        object_name: str,
        error: IntaglioError,
        *,
        organization: str | None = None,
    ) -> None:
        """Note a refusal. Never waits, never raises; memory is bounded."""
        who, what = _clean(principal.name), _clean(object_name)
        key = (principal.kind, who, _clean(principal.source), action, object_kind, what, error.code)
        if (known := self._waiting.get(key)) is not None:
            known["detail"]["count"] += 1
            return
        if len(self._waiting) >= self._capacity:
            self._lose(1)
            return
        # Whether tried and failed or not allowed: a fault of ours is not a refusal.
        outcome: Outcome = "refused" if error.status < 500 else "failed"
        detail = {"code": error.code, "status": error.status, "reason": _clean(error.detail), "count": 1}
        within = None if organization is None else _clean(organization)
        values = row(clock.now(), principal, action, object_kind, what, outcome=outcome, organization=within)
        values |= {"actor": who, "source": key[2], "correlation_id": _clean(values["correlation_id"]), "detail": detail}
        self._waiting[key] = values

    async def start(self) -> None:
        """Begin writing."""
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def stop(self, *, timeout: float = 5.0) -> None:
        """Write what is waiting, for at most ``timeout`` seconds; what remains is logged as lost."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        try:
            async with asyncio.timeout(timeout):
                while await self.flush():
                    pass
        except (IntaglioError, TimeoutError) as error:
            log.error("refusals were not recorded", count=len(self._waiting), reason=str(error))

    async def flush(self) -> int:
        """Write one batch. Returns how many records.

        Raises Unavailable and TimedOut when the database does not answer; the batch keeps waiting then. A batch that
        cannot be written for another reason is lost, and counted, rather than hold up all that follow.
        """
        batch = dict(list(self._waiting.items())[:_BATCH])
        lost, self._lost_unrecorded = self._lost_unrecorded, 0
        if not batch and not lost:
            return 0
        for key in batch:
            del self._waiting[key]
        try:
            async with self._database.transaction() as tx:
                for values in batch.values():
                    tx.append(AUDIT, values)
                if lost:
                    overflow = row(tx.now, SYSTEM, "audit.overflow", "audit", "refusals", outcome="failed", lost=lost)
                    tx.append(AUDIT, overflow)
        except (Unavailable, TimedOut, asyncio.CancelledError):
            self._give_back(batch, lost)
            raise
        except Exception:
            log.exception("refusals could not be recorded", count=len(batch))
            self._lose(len(batch))
            self._lost_unrecorded += lost
            return 0
        return len(batch) + bool(lost)

    def _lose(self, count: int) -> None:
        self.lost += count
        self._lost_unrecorded += count

    def _give_back(self, batch: dict[_Key, dict[str, Any]], lost: int) -> None:
        self._lost_unrecorded += lost
        for key, values in self._waiting.items():
            if key in batch:
                batch[key]["detail"]["count"] += values["detail"]["count"]
            else:
                batch[key] = values
        self._waiting = batch

    async def _run(self) -> None:
        while True:
            try:
                while await self.flush():
                    pass
                await asyncio.sleep(INTERVAL)
            except IntaglioError as error:
                log.warning("refusals wait for the database", count=len(self._waiting), reason=str(error))
                await asyncio.sleep(_RETRY)


def _clean(text: str) -> str:
    """What PostgreSQL can store: no NUL, no lone surrogates, and not too long."""
    return text[:_LONGEST_TEXT].replace("\0", "�").encode("utf-8", "replace").decode()
