"""What has to be done now and then for access decisions: letting old events go."""

from __future__ import annotations

import asyncio

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database
from intaglio.mtls.access.settings import AccessSettings
from intaglio.mtls.observation.event_log import expire_events
from intaglio.platform import live_settings

log = get_logger(__name__)

_INTERVAL = 3600.0


async def run_access_upkeep(database: Database) -> None:
    """Delete events that are older than the setting, hourly. Runs until cancelled; any number of processes may."""
    while True:
        try:
            async with database.read() as view:
                days = (await live_settings.current(view, AccessSettings)).event_days
            if deleted := await expire_events(database, days):
                log.info("old access events were deleted", count=deleted, days=days)
        except IntaglioError as error:
            log.warning("old access events stay for now", reason=str(error))
        await asyncio.sleep(_INTERVAL)
