"""The networks that identities come from: each is learned, and a new one of somebody known calls for an alert."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from intaglio.db.engine import Row, Transaction
from intaglio.mtls.observation.alert_channels import settings_of
from intaglio.mtls.observation.alert_models import seen_network
from intaglio.mtls.observation.alert_settings import AlertSettings
from intaglio.mtls.observation.alerts import Sighting, open_alert
from intaglio.mtls.observation.models import access_event

_KEPT = timedelta(days=365)
_TOUCH = timedelta(hours=1)  # how stale ``last_seen`` may be
_e, _n = access_event.c, seen_network.c

#: Organization and URI of an identity.
_Who = tuple[UUID, str]


@dataclass
class _Visits:
    """How often an identity came from a network, and the last address."""

    count: int
    first: datetime
    last: datetime
    address: str


async def look_at_networks(tx: Transaction, *conditions: ColumnElement[bool]) -> list[UUID]:
    """Open alerts for identities that came from networks they were not seen in for a year; returns the alerts.

    What an identity does in the time after it was first seen is learned and told nobody.
    """
    rows = await tx.all(
        select(
            _e.organization_id, _e.identity, _e.source_ip, func.sum(_e.count).cast(BigInteger).label("count"),
            func.min(_e.at).label("first"), func.max(_e.at).label("last"),
        )
        .where(*conditions, _e.identity != "", _e.organization_id.is_not(None), _e.kind != "loss")
        .group_by(_e.organization_id, _e.identity, _e.source_ip)
    )  # fmt: skip
    settings = await settings_of(tx)
    visits = _by_network(rows, settings)
    opened = []
    for who in sorted(visits):
        opened += await _look_at_one(tx, who, visits[who], timedelta(hours=settings.learning_hours))
    return opened


async def forget_networks(tx: Transaction) -> None:
    """Let go of networks that nobody came from for a year."""
    await tx.execute(delete(seen_network).where(_n.last_seen < tx.now - _KEPT))


def network_of(address: str, settings: AlertSettings) -> str | None:
    """The network of an address as text; None for what is no address, such as a socket's."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = settings.network_bits_ipv4 if parsed.version == 4 else settings.network_bits_ipv6
    return str(ipaddress.ip_network((parsed, bits), strict=False))


def _by_network(rows: Iterable[Row], settings: AlertSettings) -> dict[_Who, dict[str, _Visits]]:
    found: dict[_Who, dict[str, _Visits]] = defaultdict(dict)
    for row in rows:
        network = network_of(row["source_ip"], settings)
        if network is None:
            continue
        seen = _Visits(row["count"], row["first"], row["last"], row["source_ip"])
        known = found[row["organization_id"], row["identity"]].setdefault(network, seen)
        if known is not seen:
            known.count += seen.count
            known.first = min(known.first, seen.first)
            known.last, known.address = max((known.last, known.address), (seen.last, seen.address))
    return found


async def _look_at_one(
    tx: Transaction, who: _Who, visits: dict[str, _Visits], learning: timedelta
) -> list[UUID]:
    organization_id, identity = who
    mine = (_n.organization_id == organization_id, _n.identity == identity)
    since = await tx.scalar(select(func.min(_n.first_seen)).where(*mine))
    known: dict[str, Any] = {}
    for row in await tx.all(select(_n.network, _n.last_seen).where(*mine, _n.network.in_(visits))):
        known[row["network"]] = row["last_seen"]
    opened = []
    for network, seen in sorted(visits.items(), key=lambda each: each[1].first):
        if network not in known or seen.last > known[network] + _TOUCH:
            await _remember(tx, who, network, seen)
        if since is None:
            since = seen.first  # the first network of all
        elif network not in known and seen.first >= since + learning:
            opened.append(await open_alert(tx, _sighting(who, network, seen)))
    return opened


async def _remember(tx: Transaction, who: _Who, network: str, seen: _Visits) -> None:
    made = insert(seen_network).values(
        organization_id=who[0], identity=who[1], network=network, first_seen=seen.first, last_seen=seen.last
    )
    keys = ["organization_id", "identity", "network"]
    await tx.execute(made.on_conflict_do_update(index_elements=keys, set_={"last_seen": seen.last}))


def _sighting(who: _Who, network: str, seen: _Visits) -> Sighting:
    detail = f"It was seen for the first time from {network}, last from {seen.address}."
    return Sighting(who[0], "new-network", who[1], "", "warning", detail, seen.count, seen.first, seen.last)
