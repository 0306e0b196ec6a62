"""Drills start by themselves when they are due: in one process, once, and again after one that died."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from tests.mtls.access.conftest import House
from tests.support.authority import OPERATOR

from intaglio.core import clock
from intaglio.mtls.drills import schedule, service
from intaglio.mtls.drills.models import drill
from intaglio.mtls.drills.service import revocation_drill
from intaglio.mtls.observation import alerts
from intaglio.platform import live_settings


async def aged(house: House, days: float, **values: Any) -> None:
    """All that was rehearsed was so many days earlier."""
    when = clock.now() - timedelta(days=days)
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(drill).values(**({"started_at": when, "finished_at": when} | values)))


async def rehearsed(house: House, days: float) -> None:
    """An ingress in whose trust domain the revocation drill was passed so many days ago."""
    await house.ingress(type="gateway", revocation_source="live")
    passed = await revocation_drill(house.mtls, OPERATOR, "prod.example")
    assert passed.state == "passed", passed.rows
    await aged(house, days)


async def states(house: House) -> list[str]:
    return [each.state for each in await service.list_drills(house.mtls, OPERATOR, "demo")]


async def test_drill_that_is_due_starts_by_itself_and_only_once(house: House) -> None:
    await rehearsed(house, 86)
    started = await asyncio.gather(*(schedule.start_due(house.mtls) for _ in range(3)))
    assert [(each.kind, each.domain) for some in started for each in some] == [("revoke", "prod.example")]
    assert await states(house) == ["passed", "passed"]
    assert (await service.list_drills(house.mtls, OPERATOR, "demo"))[0].started_by == "intaglio"
    assert await schedule.start_due(house.mtls) == []


async def test_what_is_not_due_or_not_wanted_does_not_start(house: House) -> None:
    await rehearsed(house, 84)
    assert await schedule.start_due(house.mtls) == []
    await aged(house, 200)
    async with house.mtls.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "drills", {"automatic": []})
    assert await schedule.start_due(house.mtls) == []


async def test_trust_domain_in_which_nobody_ever_rehearsed_is_left_alone(house: House) -> None:
    await house.ingress(type="gateway")
    assert await schedule.start_due(house.mtls) == []


async def test_drill_whose_process_died_is_tried_again_a_day_later(house: House) -> None:
    await rehearsed(house, 86)
    (newest,) = await service.list_drills(house.mtls, OPERATOR, "demo")
    async with house.mtls.database.transaction() as tx:
        copy = {name: value for name, value in vars(newest).items() if name in ("figures", "started_by")}
        values = {"organization_id": house.domain.organization_id, "domain_id": house.domain.id, "kind": "revoke"}
        started = tx.now - timedelta(hours=23)
        died = drill.insert().values(id=house.payments.binding_id, rows=[], state="running", started_at=started)
        await tx.execute(died.values(**copy, **values))
    assert await schedule.start_due(house.mtls) == []
    async with house.mtls.database.transaction() as tx:
        late = tx.now - timedelta(hours=25)
        await tx.execute(update(drill).where(drill.c.state == "running").values(started_at=late))
    assert len(await schedule.start_due(house.mtls)) == 1


async def test_failed_drill_is_an_alert(house: House) -> None:
    await rehearsed(house, 86)
    await house.ingress("open", mode="permissive", type="gateway", revocation_source="crl", refresh_seconds=600)
    assert len(await schedule.start_due(house.mtls)) == 1
    (one,) = await alerts.list_alerts(house.mtls, OPERATOR, "demo")
    assert (one.kind, one.subject, one.severity) == ("drill-failed", "prod.example", "critical")
    assert await schedule.start_due(house.mtls) == []
