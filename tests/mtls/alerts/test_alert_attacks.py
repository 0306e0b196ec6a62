"""What strangers have tried against alerts: staying unseen, and ringing until nobody listens."""

from __future__ import annotations

from typing import Any

from tests.mtls.access.conftest import House
from tests.mtls.alerts.test_alerts import listed, seen

from intaglio.core import clock
from intaglio.mtls.observation.alert_sources import TEST_CALLER
from intaglio.mtls.observation.alerts import Sighting, open_alert
from intaglio.mtls.observation.events import AccessEvent, record_many


async def test_certificate_in_the_name_of_the_test_does_not_go_unseen(house: House) -> None:
    await seen(house, "unknown_ca", claimed=TEST_CALLER)
    assert [(each.kind, each.count) for each in await listed(house)] == [("unknown-ca", 1)]


async def test_foreign_log_does_not_open_an_alert_for_every_name_in_it(house: House) -> None:
    same: dict[str, Any] = {"organization_id": house.domain.organization_id, "ingress": "demo~web", "decision": "deny"}
    same |= {"reason": "expired", "certificate_reason": "expired", "recorder": "import"}
    others = [AccessEvent(clock.now(), claimed=f"CN=stranger-{number}", **same) for number in range(4)]
    await record_many(house.mtls.database, others)
    await seen(house, "expired", claimed="CN=stranger", recorder="import")
    (one,) = await listed(house)
    assert (one.kind, one.subject, one.count) == ("expired-attempt", "", 5)


async def test_alert_counts_no_further_than_it_can(house: House) -> None:
    now = clock.now()
    sighting = Sighting(house.domain.organization_id, "unknown-ca", "", "demo~web", "warning", "x", 2**31 - 5, now, now)
    for _ in range(3):
        async with house.mtls.database.transaction() as tx:
            await open_alert(tx, sighting)
    (one,) = await listed(house)
    assert one.count == 2**31 - 1


async def test_events_that_stand_for_many_count_as_many(house: House) -> None:
    await seen(house, "no_certificate", count=500)
    (one,) = await listed(house)
    assert one.count == 500
