"""What automatic issuance has to do by itself: forget what ended long ago."""

from __future__ import annotations

import asyncio

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database
from intaglio.mtls.automation import logins

log = get_logger(__name__)

_INTERVAL = 3600.0


async def run_automation_upkeep(database: Database) -> None:
    """Prune hourly, until cancelled; any number of processes may."""
    while True:
        try:
            await logins.prune(database)
        except IntaglioError as error:
            log.warning("ended logins stay for now", reason=str(error))
        await asyncio.sleep(_INTERVAL)
