"""Running scenarios and keeping what they showed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict

from sqlalchemy import insert, select

from intaglio.audit import record as audit
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row as Stored
from intaglio.mtls.context import Mtls
from intaglio.mtls.scenarios.models import scenario_run
from intaglio.mtls.scenarios.plays import PLAYS
from intaglio.mtls.scenarios.stage import Stage
from intaglio.mtls.scenarios.values import CATALOGUE, Row, Run, Scenario

MOST_SERVICES = 10_000
_one_at_a_time = asyncio.Lock()


async def run_scenario(
    mtls: Mtls, principal: Principal, number: int, *, count: int = 2000
) -> AsyncIterator[Row | str | Run]:
    """Play a scenario on loopback: words and rows as it goes, the finished run at the end, which is kept.

    ``count`` is how many services the largest one has. Needs ``mtls.policy``, ``mtls.identities`` and, the first time,
    ``ca.configure``. Raises NotFound, InvalidInput, StateConflict (``scenario-running``), and what its steps raise.
    """
    scenario = scenario_of(number)
    principal.require(Permission.MTLS_POLICY)
    principal.require(Permission.MTLS_IDENTITIES)
    if not 1 <= count <= MOST_SERVICES:
        raise InvalidInput(f"A scenario has 1 to {MOST_SERVICES} services.", target="count")
    if _one_at_a_time.locked():
        raise StateConflict("A scenario is running already.", code="scenario-running", remedy="Wait until it is over.")
    async with _one_at_a_time:
        told: asyncio.Queue[Row | str | None] = asyncio.Queue()
        stage = Stage(mtls, principal, scenario.name, told.put_nowait, count=count)
        started = clock.now()
        task = asyncio.create_task(_play(stage, number, told))
        try:
            while (each := await told.get()) is not None:
                yield each
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        passed = all(row.passed for row in stage.rows) and not any(
            value for name, value in stage.figures.items() if name.endswith("_failures")
        )
        run = Run(
            new_id(), number, tuple(stage.rows), stage.figures, principal.name, started, clock.now(), passed
        )
        await _keep(mtls, principal, scenario, run)
        yield run


async def last_runs(mtls: Mtls, principal: Principal) -> dict[int, Run]:
    """The newest run of each scenario that was ever run. Needs ``mtls.view``."""
    principal.require(Permission.MTLS_VIEW)
    r, newer = scenario_run.c, scenario_run.alias()
    outdated = select(newer.c.id).where(newer.c.number == r.number, newer.c.id > r.id).exists()
    async with mtls.database.read() as view:
        rows = await view.all(select(scenario_run).where(~outdated).order_by(r.number))
    return {row["number"]: _run_of(row) for row in rows}


def scenario_of(number: int) -> Scenario:
    """A scenario by number. Raises NotFound."""
    if number not in CATALOGUE:
        raise NotFound(f"There is no scenario {number}.", code="scenario-unknown", remedy="There are 1 to 8.")
    return CATALOGUE[number]


async def _play(stage: Stage, number: int, told: asyncio.Queue[Row | str | None]) -> None:
    try:
        async with stage:
            await PLAYS[number](stage)
    finally:
        told.put_nowait(None)


async def _keep(mtls: Mtls, principal: Principal, scenario: Scenario, run: Run) -> None:
    async with mtls.database.transaction() as tx:
        values = {
            "id": run.id, "number": run.number, "passed": run.passed, "rows": [asdict(row) for row in run.rows],
            "figures": dict(run.figures), "started_by": run.started_by, "started_at": run.started_at,
            "finished_at": run.finished_at,
        }  # fmt: skip
        await tx.execute(insert(scenario_run).values(**values))
        audit.record(
            tx,
            principal,
            "scenario.run",
            "scenario",
            scenario.name,
            outcome="success" if run.passed else "failed",
            figures=dict(run.figures),
        )


def _run_of(row: Stored) -> Run:
    values = dict(row)
    rows = tuple(Row(**each) for each in values.pop("rows"))
    return Run(rows=rows, **values)
