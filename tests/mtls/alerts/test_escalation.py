"""An alert that nobody acknowledges is told to others, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.mtls.access.conftest import House
from tests.mtls.alerts.test_alerts import configure, listed, sighting
from tests.mtls.enrolment.conftest import Mailbox, mailbox, set_live
from tests.support.authority import OPERATOR

from intaglio.core import clock
from intaglio.mtls.observation import alert_upkeep, alerts
from intaglio.mtls.observation.alert_models import alert
from intaglio.mtls.observation.alert_settings import AlertSettings

__all__ = ["mailbox"]


async def opened(house: House, hours: float) -> alerts.Alert:
    """An alert that was opened so many hours ago."""
    async with house.mtls.database.transaction() as tx:
        alert_id = await alerts.open_alert(tx, sighting(house))
        await tx.execute(
            update(alert).where(alert.c.id == alert_id).values(opened_at=tx.now - timedelta(hours=hours))
        )
    return next(each for each in await listed(house) if each.id == alert_id)


async def escalated(house: House) -> int:
    async with house.mtls.database.transaction() as tx:
        return await alerts.escalate(tx)


@pytest.fixture
async def chain(house: House, mailbox: Mailbox) -> Mailbox:
    """First one, then another one is told."""
    await set_live(house.mtls, "mail", **mailbox.settings)
    await configure(house, mail_to="first@example.com", escalate_to="boss@example.com, duty@example.com")
    return mailbox


async def test_unacknowledged_alert_is_told_to_the_second_list_once(house: House, chain: Mailbox) -> None:
    one = await opened(house, 25)
    assert [await escalated(house), await escalated(house)] == [1, 0]
    assert await alert_upkeep.deliver(house.mtls) == 2
    by_receiver = {str(each["To"]): each for each in chain.messages}
    assert set(by_receiver) == {"first@example.com", "boss@example.com, duty@example.com"}
    assert str(by_receiver["boss@example.com, duty@example.com"]["Subject"]).startswith("Not acknowledged: [warning]")
    text = chain.text([str(each["To"]) for each in chain.messages].index("boss@example.com, duty@example.com"))
    assert "Nobody acknowledged this alert for 24 hours." in text
    assert f"intaglio mtls alert ack {one.id}" in text


async def test_young_acknowledged_and_muted_alerts_are_not_escalated(house: House, chain: Mailbox) -> None:
    young = await opened(house, 23)
    assert await escalated(house) == 0
    await alerts.change_alert(house.mtls, OPERATOR, young.id, "acknowledged")
    async with house.mtls.database.transaction() as tx:
        await tx.execute(update(alert).values(opened_at=tx.now - timedelta(hours=30)))
    assert await escalated(house) == 0
    await alerts.change_alert(house.mtls, OPERATOR, young.id, "closed")
    await opened(house, 30)
    until = clock.now() + timedelta(days=1)
    await alerts.mute(house.mtls, OPERATOR, "demo", "unknown-ca", until, "Scanner week")
    assert await escalated(house) == 0


async def test_without_a_second_list_nobody_is_told(house: House) -> None:
    await opened(house, 100)
    assert await escalated(house) == 0


def test_hours_and_addresses_are_settings() -> None:
    settings = AlertSettings(escalate_to=" a@x.example ,, b@x.example", escalate_hours=1)
    assert settings.escalation == ["a@x.example", "b@x.example"]
