"""What all enrolment protocols need done by itself, in the jobs process: requests that nobody decided expire, counters
and challenges that are over are dropped."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from sqlalchemy import delete

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Database, Transaction
from intaglio.enrollment import approvals, limits, models

log = get_logger(__name__)

PASS_SECONDS: Final = 60.0
#: How long a one-time challenge is kept behind its end, so that whoever asks why it failed can still be told.
KEPT: Final = timedelta(days=7)


async def run_common_upkeep(database: Database) -> None:
    """Once a minute, until cancelled."""
    troubles = Troubles()
    while True:
        try:
            await tidy(database)
            troubles.over("upkeep")
        except Exception as error:  # tried again in a minute; nothing else must end with it
            if troubles.worth_reporting("upkeep"):
                expected = isinstance(error, IntaglioError)
                log.error("enrolment upkeep has to wait", reason=str(error), exc_info=not expected)
        await asyncio.sleep(PASS_SECONDS)


async def tidy(database: Database) -> None:
    """Do all of it once. Raises Unavailable, TimedOut."""
    async with database.transaction() as tx:
        ended = await approvals.expire(tx)
    async with database.transaction() as tx:
        await limits.prune(tx)
        await _prune_credentials(tx)
    if ended:
        log.info("requests expired that nobody had decided", count=ended)


async def _prune_credentials(tx: Transaction) -> None:
    c = models.credential.c
    over = c.kind.in_(("one-time", "spent")), c.not_after < tx.now - KEPT
    await tx.execute(delete(models.credential).where(*over))
