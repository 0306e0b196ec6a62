"""What SCEP needs done by itself, in the jobs process: registration authorities made and renewed, keys destroyed."""

from __future__ import annotations

import asyncio
from typing import Final

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep import registration, transactions
from intaglio.enrollment.scep.options import RaOptions
from intaglio.enrollment.values import Protocol

log = get_logger(__name__)

_PASS_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5.0
_CLEAN_SECONDS: Final = 300.0


async def run_scep_upkeep(enrollment: Enrollment) -> None:
    """Once a minute, and within a second of every change; until cancelled."""
    troubles, heard, looked, cleaned = Troubles(), (-1, -1), float("-inf"), float("-inf")
    while True:
        watch, now = enrollment.watch, monotonic()
        if heard != (watch.epoch, watch.event_seq) or now - looked >= _IDLE_SECONDS:
            heard, looked = (watch.epoch, watch.event_seq), now
            try:
                await renew_due(enrollment, troubles)
                if now - cleaned >= _CLEAN_SECONDS:
                    await clean(enrollment)
                    cleaned = now
                troubles.over("upkeep")
            except Exception as error:  # tried again in a moment; nothing else must end with it
                looked = now - _IDLE_SECONDS + _RETRY_SECONDS
                if troubles.worth_reporting("upkeep"):
                    expected = isinstance(error, IntaglioError)
                    log.error("SCEP upkeep has to wait", reason=str(error), exc_info=not expected)
        await asyncio.sleep(_PASS_SECONDS)


async def renew_due(enrollment: Enrollment, troubles: Troubles) -> int:
    """Make every registration authority that an endpoint lacks, and renew those that are due; returns how many. The
    trouble of one does not hold up the others."""
    wanted = {
        (endpoint.ca_id, endpoint.options.ra)
        for endpoint in await enrollment.endpoints.all(Protocol.SCEP)
        if endpoint.enabled
    }
    if not wanted:
        return 0
    snapshot, now = await enrollment.authority.current(), clock.now()
    async with enrollment.database.read() as view:
        found = await registration.load_all(view, now)
    current = {(ra.ca_id, ra.options): ra for ra in found if ra.state == "current"}
    renewed = 0
    for ca_id, options in sorted(wanted, key=_order):
        ca, ra = snapshot.cas.get(ca_id), current.get((ca_id, options))
        if ca is None or ca.state != "active" or (ra is not None and not ra.is_due(ca, now)):
            continue
        try:
            await registration.ensure(enrollment.authority, ca, options)
            renewed += 1
            troubles.over((ca_id, options))
        except Exception as error:
            if troubles.worth_reporting((ca_id, options)):
                expected = isinstance(error, IntaglioError)
                log.error(
                    "a registration authority could not be made", ca=ca.full_id, reason=str(error),
                    exc_info=not expected,
                )  # fmt: skip
    return renewed


async def clean(enrollment: Enrollment) -> None:
    """Destroy keys that are over, and forget old transactions."""
    await registration.destroy_old_keys(enrollment.authority)
    async with enrollment.database.transaction() as tx:
        await transactions.prune(tx)


def _order(wanted: tuple[object, RaOptions]) -> tuple[str, str]:
    return str(wanted[0]), wanted[1].model_dump_json()
