"""Drills start by themselves when they are due, in whichever process looks first, and in no other.

What is due follows from what is recorded. That a drill began is recorded under the lock of its trust domain, where this
is looked at once more; so no drill takes place twice, and one whose process died is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import func, select

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.models import drill
from intaglio.mtls.drills.rotation import rotation_drill
from intaglio.mtls.drills.runbook import make_runbook
from intaglio.mtls.drills.service import revocation_drill
from intaglio.mtls.drills.settings import DrillSettings
from intaglio.mtls.drills.values import Drill
from intaglio.mtls.identities import models as identities
from intaglio.mtls.observation.alerts import Sighting, open_alert
from intaglio.platform import live_settings

log = get_logger(__name__)

_INTERVAL = 60.0


class _Start(Protocol):
    def __call__(
        self, mtls: Mtls, principal: Principal, domain: str, *, unless_since: timedelta | None
    ) -> Awaitable[Any]: ...


_STARTS: Final[Mapping[str, _Start]] = {
    "revoke": revocation_drill,
    "rotate": rotation_drill,
    "runbook": make_runbook,
}


@dataclass(frozen=True)
class Planned:
    """A drill whose time has come."""

    kind: str
    domain: str
    organization_id: UUID


async def run_drill_upkeep(mtls: Mtls) -> None:
    """Start what is due, once a minute, until cancelled; any number of processes may."""
    while True:
        try:
            await start_due(mtls)
        except IntaglioError as error:
            log.warning("drills have to wait", reason=error.detail)
        except Exception:
            log.exception("drills could not be started")
        await asyncio.sleep(_INTERVAL)


async def start_due(mtls: Mtls) -> list[Planned]:
    """Carry out the drills that are due, one after the other; returns those that took place here."""
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, DrillSettings)
        planned = await due(view, settings)
    return [each for each in planned if await _carry_out(mtls, each, timedelta(hours=settings.retry_hours))]


async def due(view: Transaction, settings: DrillSettings) -> list[Planned]:
    """Kinds that are to start by themselves in a trust domain in use, were passed there more than ``interval_days`` ago
    and not since, and were not tried within ``retry_hours``."""
    t, d = identities.trust_domain.c, drill.c
    passed = func.max(d.finished_at).filter(d.state == "passed").label("passed")
    rows = await view.all(
        select(t.name, t.organization_id, d.kind, passed, func.max(d.started_at).label("tried"))
        .join_from(identities.trust_domain, drill, d.domain_id == t.id)
        .where(t.state.in_(("active", "rotating")), d.kind.in_(settings.automatic))
        .group_by(t.name, t.organization_id, d.kind)
        .order_by(t.name, d.kind)
    )
    overdue = view.now - timedelta(days=settings.interval_days)
    untried = view.now - timedelta(hours=settings.retry_hours)
    return [
        Planned(row["kind"], row["name"], row["organization_id"])
        for row in rows
        if row["passed"] is not None and row["passed"] <= overdue and row["tried"] <= untried
    ]


async def _carry_out(mtls: Mtls, planned: Planned, unless_since: timedelta) -> bool:
    why = ""
    try:
        done = await _STARTS[planned.kind](mtls, SYSTEM, planned.domain, unless_since=unless_since)
    except IntaglioError as error:
        if error.code in ("drill-running", "drill-not-due"):
            return False  # another process was faster, or somebody is at it
        why = error.detail
    else:
        if isinstance(done, Drill) and done.state != "passed":
            why = next((f"{row.step}: {row.observed}" for row in done.rows if not row.passed), "nothing was seen")
    log.info("a drill took place", kind=planned.kind, domain=planned.domain, passed=not why)
    if why:
        await _tell(mtls, planned, why)
    return True


async def _tell(mtls: Mtls, planned: Planned, why: str) -> None:
    async with mtls.database.transaction() as tx:
        now: datetime = tx.now
        detail = f"The drill {planned.kind} of {planned.domain} failed. {why}"[:500]
        await open_alert(
            tx, Sighting(planned.organization_id, "drill-failed", planned.domain, "", "critical", detail, 1, now, now)
        )
