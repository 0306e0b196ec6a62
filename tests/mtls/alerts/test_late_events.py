"""Events are looked at once, however late they come: not their time counts, but that nobody has looked at them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update
from tests.mtls.access.conftest import House
from tests.mtls.alerts.test_alerts import listed, seen

from intaglio.core import clock
from intaglio.mtls.observation import alert_sources, events
from intaglio.mtls.observation.alert_models import alert_progress
from intaglio.mtls.observation.events import AccessEvent, copy_rows, record_many


async def look(house: House) -> None:
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_events(tx)


def refused(house: House) -> AccessEvent:
    values: dict[str, Any] = {"organization_id": house.domain.organization_id, "ingress": "demo~web"}
    values |= {"certificate_reason": "no_certificate", "reason": "no_certificate", "decision": "deny"}
    return AccessEvent(clock.now(), **values)


async def counted(house: House) -> int:
    return sum(each.count for each in await listed(house))


async def test_batch_that_was_tried_again_much_later_is_seen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await seen(house, "no_certificate")
    # Its ids were given when it was tried first, and are kept.
    with monkeypatch.context() as patched:
        patched.setattr(events.time, "time_ns", lambda: int((clock.now() - timedelta(hours=3)).timestamp() * 10**9))
        early = events.rows([refused(house)])
    connection = await house.mtls.database.raw_connection()
    async with connection:
        await copy_rows(connection, early)
    await look(house)
    assert await counted(house) == 2


async def test_what_was_begun_before_a_look_and_committed_after_it_is_seen_once(house: House) -> None:
    connection = await house.mtls.database.raw_connection()
    async with connection:
        async with connection.transaction():
            await copy_rows(connection, events.rows([refused(house)]))
            await seen(house, "no_certificate")  # is committed, and looked at, in between
            assert await counted(house) == 1
        for _ in range(2):
            await look(house)
        assert await counted(house) == 2


async def test_first_look_is_at_the_last_hour(house: House) -> None:
    await record_many(house.mtls.database, [refused(house)] * 2)
    async with house.mtls.database.transaction() as tx:
        await tx.execute(delete(alert_progress))
        await tx.execute(  # one of them is two hours old, and older than the column
            text(
                "UPDATE mtls_access_event SET recorded_by = NULL, id = overlay(id::text placing :early from 1 for 13)"
                "::uuid WHERE id = (SELECT min(id::text)::uuid FROM mtls_access_event)"
            ),
            {"early": _early(clock.now() - timedelta(hours=2))},
        )
    await look(house)
    assert await counted(house) == 1


async def test_database_that_was_restored_elsewhere_is_looked_at_anew(house: House) -> None:
    await seen(house, "no_certificate")
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(alert_progress).values(snapshot=f"{2**40}:{2**40}:"))
    await record_many(house.mtls.database, [refused(house)])
    await look(house)
    assert await counted(house) >= 2
    before = await counted(house)
    async with house.mtls.database.read() as view:
        assert await view.scalar(select(alert_progress.c.snapshot)) != f"{2**40}:{2**40}:"
    await look(house)
    assert await counted(house) == before


def _early(at: Any) -> str:
    digits = f"{int(at.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"
