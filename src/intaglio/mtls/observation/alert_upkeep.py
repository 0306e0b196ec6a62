"""What alerts need done by itself: looking, telling, trying again; and the proof that an alert arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.authority import locks
from intaglio.authority import models as authority_models
from intaglio.authority.access import require_organization
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.logging import get_logger
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access.ingress_values import one_of
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation import alert_channels, alert_sources
from intaglio.mtls.observation.alert_channels import Message
from intaglio.mtls.observation.alert_models import alert, alert_delivery, alert_proof, seen_network
from intaglio.mtls.observation.alert_sources import TEST_CALLER
from intaglio.mtls.observation.alerts import KINDS, SEVERITIES, Sighting, escalate, key_received, open_alert
from intaglio.mtls.observation.events import AccessEvent, record_many
from intaglio.mtls.observation.models import access_event
from intaglio.mtls.observation.networks import forget_networks, look_at_networks

log = get_logger(__name__)

#: Alerts that nobody has acknowledged or closed.
open_alerts = Gauge(
    "intaglio_alerts_open", "Alerts that nobody acknowledged.", ["kind", "severity"], multiprocess_mode="mostrecent"
)

_INTERVAL = 10.0
_SLOW_PASSES = 6  # volumes and ends of certificates are looked at once a minute
_ATTEMPTS = 20
_LEASE = timedelta(minutes=2)
_KEPT = timedelta(days=365)
_REASONS = {
    "no-certificate": "no_certificate",
    "expired-attempt": "expired",
    "unknown-ca": "unknown_ca",
    "revoked-attempt": "revoked",
}
_VOLUME = 101
#: Kinds that are about an identity and found in what it did.
_IDENTITY_KINDS = ("unusual-volume", "new-network")


async def run_alert_upkeep(mtls: Mtls) -> None:
    """Look and tell every ten seconds, until cancelled; any number of processes may."""
    passes = 0
    while True:
        await _attempt("alerts from events", lambda: _alone(mtls, "events", alert_sources.look_at_events))
        if passes % _SLOW_PASSES == 0:
            await _attempt("alerts from volumes", lambda: _alone(mtls, "volumes", alert_sources.look_at_volumes))
            await _attempt("alerts from certificates", lambda: _alone(mtls, "expiry", alert_sources.look_at_expiry))
            await _attempt("alerts nobody acknowledged", lambda: _alone(mtls, "escalate", escalate))
            await _attempt("old alerts", lambda: _alone(mtls, "prune", _prune))
        await _attempt("deliveries of alerts", lambda: deliver(mtls))
        await _attempt("numbers of alerts", lambda: measure(mtls))
        passes += 1
        await asyncio.sleep(_INTERVAL)


async def measure(mtls: Mtls) -> None:
    """Count the alerts that are not closed, for monitoring."""
    a = alert.c
    async with mtls.database.read() as view:
        rows = await view.all(
            select(a.kind, a.severity, func.count().label("n")).where(a.state == "open").group_by(a.kind, a.severity)
        )
    found = {(row["kind"], row["severity"]): row["n"] for row in rows}
    for kind in KINDS:
        for severity in SEVERITIES:
            open_alerts.labels(kind, severity).set(found.get((kind, severity), 0))


async def deliver(mtls: Mtls, *, alert_id: UUID | None = None) -> int:
    """Tell what is due, one after the other; returns how many arrived. What did not is tried again later and later.

    Each is taken for two minutes before it is sent, and marked afterwards: what was recorded as delivered is never sent
    again. When a process dies in between, it is sent a second time, under the same delivery id.
    """
    arrived = 0
    while (row := await _take(mtls, alert_id)) is not None:
        arrived += await _deliver_one(mtls, row)
    return arrived


async def _take(mtls: Mtls, alert_id: UUID | None) -> Row | None:
    async with mtls.database.transaction() as tx:
        row = await tx.one_or_none(_due(tx.now, alert_id))
        if row is not None:
            values = {"attempts": row["attempts"] + 1, "next_at": tx.now + _LEASE}
            await tx.execute(update(alert_delivery).where(alert_delivery.c.id == row["id"]).values(**values))
        return row


async def _deliver_one(mtls: Mtls, row: Row) -> bool:
    names = [name for name in Message.__dataclass_fields__ if name not in ("delivery", "alert")]
    message = Message(delivery=row["id"], alert=row["alert_id"], **{name: row[name] for name in names})
    async with mtls.database.read() as view:
        settings = await alert_channels.settings_of(view)
    failure: IntaglioError | None = None
    try:
        await alert_channels.send(mtls, settings, row["channel"], message)
    except IntaglioError as error:
        log.warning("an alert was not delivered", channel=row["channel"], reason=error.detail)
        failure = error
    async with mtls.database.transaction() as tx:
        values: dict[str, Any] = {"delivered_at": tx.now, "error": ""}
        if failure is not None:
            pause = timedelta(seconds=min(3600, 30 * 2 ** row["attempts"]))
            values = {"error": failure.detail[:500], "next_at": tx.now + pause}
            if row["attempts"] + 1 >= _ATTEMPTS or failure.code == "alert-channel-off":
                values["given_up_at"] = tx.now
        await tx.execute(update(alert_delivery).where(alert_delivery.c.id == row["id"]).values(**values))
    return failure is None


def _due(now: datetime, alert_id: UUID | None) -> Any:
    d, o = alert_delivery, authority_models.organization
    query = (
        select(d, *(each for each in alert.c if each.name != "id"), o.c.name.label("organization"))
        .join(alert, alert.c.id == d.c.alert_id)
        .join(o, o.c.id == alert.c.organization_id)
        .where(d.c.delivered_at.is_(None), d.c.given_up_at.is_(None), d.c.next_at <= now)
        .order_by(d.c.next_at)
        .limit(1)
        .with_for_update(of=d, skip_locked=True)
    )
    return query if alert_id is None else query.where(d.c.alert_id == alert_id)


# ---- the proof -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """An alert that was fired as a test and arrived over ``channels``."""

    organization: str
    kind: str
    channels: tuple[str, ...]
    proved_by: str
    proved_at: datetime


async def test_alert(mtls: Mtls, principal: Principal, organization: str, kind: str) -> Proof:
    """Fire a kind of alert end to end: what calls for it is recorded, found, and told over every channel that is set.

    Access events and the alert name ``alert-test``; the alert is closed afterwards, and the proof is kept. Needs
    ``mtls.policy``. Raises NotFound, InvalidInput, StateConflict (``alert-no-channel``, ``alert-muted``), and
    Unavailable (``alert-undelivered``, ``mail-unavailable``) with what a channel said.
    """
    one_of(kind, tuple(KINDS), "kind")
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_POLICY)
        channels = (await alert_channels.settings_of(view)).channels
    if not channels:
        raise StateConflict(
            "No channel for alerts is set.",
            code="alert-no-channel",
            remedy="Set one: intaglio settings set alerts.mail_to=... (or alerts.webhook_url, alerts.syslog).",
        )
    began = clock.now()
    if kind in _REASONS or kind in _IDENTITY_KINDS:
        await record_many(mtls.database, _events(found.id, kind, began))
    async with mtls.database.transaction() as tx:
        alert_id = await _fired(tx, found.id, kind, began)
    try:
        await deliver(mtls, alert_id=alert_id)
        return await _prove(mtls, principal, organization, found.id, kind, alert_id)
    finally:
        await _finish(mtls, alert_id)


async def _fired(tx: Transaction, organization_id: UUID, kind: str, began: datetime) -> UUID:
    if kind in _REASONS:
        return (await alert_sources.look_at_test(tx, organization_id, began))[0]
    if kind == "unusual-volume":
        return (await alert_sources.look_at_volumes(tx, only=_test_caller(organization_id, began)))[0]
    if kind == "new-network":
        return await _fired_by_network(tx, organization_id, _test_caller(organization_id, began))
    if kind == "key-received":
        return (await key_received(tx, organization_id, TEST_CALLER, "a test of the alert", "127.0.0.1"))[0]
    words = "This is a test of the alert."
    seen = Sighting(organization_id, kind, TEST_CALLER, "", "info", words, 1, began, began)
    return await open_alert(tx, seen)


async def _fired_by_network(tx: Transaction, organization_id: UUID, caller: str) -> UUID:
    """Look at the event of somebody who was known from elsewhere for long."""
    long_ago = tx.now - timedelta(days=60)
    known = {"organization_id": organization_id, "identity": caller, "network": "198.51.100.0/24"}
    await tx.execute(insert(seen_network).values(**known, first_seen=long_ago, last_seen=long_ago))
    (opened,) = await look_at_networks(tx, access_event.c.identity == caller)
    await tx.execute(delete(seen_network).where(seen_network.c.identity == caller))
    return opened


async def _prove(
    mtls: Mtls, principal: Principal, organization: str, organization_id: UUID, kind: str, alert_id: UUID
) -> Proof:
    d = alert_delivery.c
    async with mtls.database.transaction() as tx:
        rows = await tx.all(select(d.channel, d.delivered_at, d.error).where(d.alert_id == alert_id).order_by(d.id))
        if not rows:
            raise StateConflict(
                f"The alert {kind} is muted, so nobody was told.",
                code="alert-muted",
                remedy=f"End that first: intaglio mtls alert mute {kind} --until with a time that is past.",
            )
        if failed := [row["error"] for row in rows if row["delivered_at"] is None]:
            raise StateConflict(
                f"The alert did not arrive everywhere. {failed[0]}",
                code="alert-undelivered",
                remedy="Check the settings `alerts`, then test again.",
            )
        channels = tuple(row["channel"] for row in rows)
        values = {"proved_by": principal.name, "proved_at": tx.now, "detail": f"Arrived over {', '.join(channels)}."}
        made = insert(alert_proof).values(organization_id=organization_id, kind=kind, **values)
        await tx.execute(made.on_conflict_do_update(index_elements=["organization_id", "kind"], set_=values))
        audit.record(
            tx, principal, "alert.test", "organization", organization, organization=organization, kind=kind,
            channels=list(channels),
        )  # fmt: skip
        return Proof(organization, kind, channels, principal.name, tx.now)


async def _finish(mtls: Mtls, alert_id: UUID) -> None:
    d = alert_delivery.c
    async with mtls.database.transaction() as tx:
        values = {"state": "closed", "changed_by": "intaglio", "changed_at": tx.now}
        await tx.execute(update(alert).where(alert.c.id == alert_id).values(**values))
        waiting = (d.alert_id == alert_id, d.delivered_at.is_(None))
        await tx.execute(update(alert_delivery).where(*waiting).values(given_up_at=tx.now))


def _events(organization_id: UUID, kind: str, at: datetime) -> list[AccessEvent]:
    same: dict[str, Any] = {"organization_id": organization_id, "claimed": TEST_CALLER, "decision": "deny"}
    same |= {"recorder": "test"}
    same |= {"source_ip": "127.0.0.1", "detail": "Recorded by a test of the alert."}
    if kind in _IDENTITY_KINDS:
        times = _VOLUME if kind == "unusual-volume" else 1
        return [AccessEvent(at, identity=_test_caller(organization_id, at), **same)] * times
    return [AccessEvent(at, reason=_REASONS[kind], certificate_reason=_REASONS[kind], **same)]


def _test_caller(organization_id: UUID, at: datetime) -> str:
    """An identity of its own for every test, so that none is the baseline of the next."""
    return f"{TEST_CALLER}:{organization_id}:{at.timestamp():.6f}"


# ---- helpers ---------------------------------------------------------------------------------------------------------


async def _prune(tx: Transaction) -> None:
    await tx.execute(delete(alert).where(alert.c.state == "closed", alert.c.last_seen < tx.now - _KEPT))
    await forget_networks(tx)


async def _alone(mtls: Mtls, name: str, look: Callable[[Transaction], Awaitable[object]]) -> None:
    async with mtls.database.transaction() as tx:
        if await locks.try_lock(tx, "mtls-alerts", name):
            await look(tx)


async def _attempt(what: str, run: Callable[[], Awaitable[object]]) -> None:
    """One kind of upkeep; its trouble is reported and does not end the others."""
    try:
        await run()
    except IntaglioError as error:
        log.warning("upkeep has to wait", what=what, reason=error.detail)
    except Exception:
        log.exception("upkeep failed", what=what)
