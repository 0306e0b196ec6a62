"""An identity that is seen in a network it never was in calls for an alert; what is usual for it does not."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from tests.mtls.access.conftest import House
from tests.mtls.alerts.test_alerts import configure, listed

from intaglio.core import clock
from intaglio.mtls.observation import alert_sources
from intaglio.mtls.observation.alert_models import seen_network
from intaglio.mtls.observation.alert_settings import AlertSettings
from intaglio.mtls.observation.events import AccessEvent, record_many
from intaglio.mtls.observation.networks import forget_networks, network_of

PAYMENTS = "spiffe://prod.example/service/payments"


async def came(house: House, *addresses: str, at: datetime | None = None, identity: str = PAYMENTS) -> None:
    """The identity was let in from these addresses; look at that."""
    when = at or clock.now()
    found = [
        AccessEvent(
            when, organization_id=house.domain.organization_id, decision="allow", identity=identity, source_ip=each
        )
        for each in addresses
    ]
    await record_many(house.mtls.database, found)
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_events(tx)


def days_ago(days: int) -> datetime:
    return clock.now() - timedelta(days=days)


async def test_known_identity_in_a_new_network_is_told_once_and_the_network_is_known_then(house: House) -> None:
    await came(house, "192.0.2.7", at=days_ago(5))
    await came(house, "192.0.2.99")  # the same network
    assert await listed(house) == []
    await came(house, "203.0.113.5", "203.0.113.5", "192.0.2.7")
    (one,) = await listed(house)
    assert (one.kind, one.subject, one.severity, one.count) == ("new-network", PAYMENTS, "warning", 2)
    assert "203.0.113.0/24" in one.detail
    await came(house, "203.0.113.77")
    assert [each.count for each in await listed(house)] == [2]


async def test_networks_of_a_new_identity_are_learned_silently(house: House) -> None:
    await came(house, "192.0.2.7", "198.51.100.1", at=days_ago(2))
    await came(house, "203.0.113.5", at=days_ago(2) + timedelta(hours=23))
    assert await listed(house) == []
    await came(house, "2001:db8:1::1")
    assert [each.kind for each in await listed(house)] == ["new-network"]
    await came(house, "192.0.2.1", identity="spiffe://prod.example/service/orders")
    assert len(await listed(house)) == 1


async def test_how_large_a_network_is_and_how_long_is_learned_can_be_set(house: House) -> None:
    await configure(house, network_bits_ipv4=16, learning_hours=0)
    await came(house, "192.0.2.7", at=days_ago(1))
    await came(house, "192.0.200.7")
    assert await listed(house) == []
    await came(house, "192.1.2.7")
    assert [each.kind for each in await listed(house)] == ["new-network"]


async def test_network_nobody_came_from_for_a_year_is_new_again(house: House) -> None:
    await came(house, "192.0.2.7", "203.0.113.5", at=days_ago(400))
    await came(house, "192.0.2.7", at=days_ago(30))
    async with house.mtls.database.transaction() as tx:
        await forget_networks(tx)
    async with house.mtls.database.read() as view:
        assert [row["network"] for row in await view.all(select(seen_network.c.network))] == ["192.0.2.0/24"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", None),
        ("unix", None),
    ],
)
def test_network_of_an_address(address: str, network: str | None) -> None:
    assert network_of(address, AlertSettings()) == network


@given(st.text(max_size=60) | st.ip_addresses().map(str))
def test_network_of_whatever_a_log_calls_an_address_is_a_network_or_none(address: str) -> None:
    found = network_of(address, AlertSettings())
    assert found is None or ipaddress.ip_network(found).prefixlen in (24, 48)
