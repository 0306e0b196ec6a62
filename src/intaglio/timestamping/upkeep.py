"""What timestamping needs done by itself, in the jobs process: signers renewed in time, old keys destroyed."""

from __future__ import annotations

import asyncio
from typing import Final

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.timestamping import signers
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.storage import issuers_sharing

log = get_logger(__name__)

_PASS_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 60.0
_CLEAN_SECONDS: Final = 300.0


async def run_timestamping_upkeep(timestamps: Timestamps) -> None:
    """Once a minute, and within a second of every change; until cancelled."""
    troubles, heard, looked, cleaned = Troubles(), (-1, -1), float("-inf"), float("-inf")
    while True:
        watch, now = timestamps.watch, monotonic()
        if heard != (watch.epoch, watch.event_seq) or now - looked >= _IDLE_SECONDS:
            heard, looked = (watch.epoch, watch.event_seq), now
            try:
                await renew_due_signers(timestamps, troubles)
                if now - cleaned >= _CLEAN_SECONDS:
                    await signers.destroy_old_keys(timestamps)
                    cleaned = now
                troubles.over("upkeep")
            except Exception as error:  # tried again in a minute; nothing else must end with it
                looked = now - _IDLE_SECONDS + 5 * _PASS_SECONDS
                if troubles.worth_reporting("upkeep"):
                    expected = isinstance(error, IntaglioError)
                    log.error("timestamping upkeep has to wait", reason=str(error), exc_info=not expected)
        await asyncio.sleep(_PASS_SECONDS)


async def renew_due_signers(timestamps: Timestamps, troubles: Troubles) -> int:
    """Renew every signer that is due; returns how many. The trouble of one does not hold up the others."""
    authority = timestamps.authority
    snapshot = await authority.current()
    async with authority.database.read() as view:
        due = [(signer, await issuers_sharing(view, signer)) for signer in await signers.due(view, clock.now())]
    renewed = 0
    for signer, names in due:
        name = names[0] if names else str(signer)
        try:
            renewed += await signers.renew_if_due(timestamps, signer, snapshot, name)
            troubles.over(signer)
        except Exception as error:
            if troubles.worth_reporting(signer):
                expected = isinstance(error, IntaglioError)
                log.error(
                    "a timestamp signer could not be renewed", issuer=name, reason=str(error), exc_info=not expected
                )
    return renewed
