"""Alerts: what calls for one opens one, once; it is told, counted, muted for a while, and proved."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select, update
from tests.mtls.access.conftest import House
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import issue, make_service
from tests.support.outgoing import list_networks

from intaglio.core import clock
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.values import Channel
from intaglio.mtls.observation import alert_channels, alert_sources, alert_upkeep, alerts
from intaglio.mtls.observation.alert_channels import Message
from intaglio.mtls.observation.alert_models import alert_delivery, alert_proof
from intaglio.mtls.observation.alert_settings import AlertSettings
from intaglio.mtls.observation.events import AccessEvent, record_many
from intaglio.mtls.posture.report import make_report
from intaglio.mtls.posture.values import REQUIRED_ALERTS, Status
from intaglio.mtls.scenarios.credentials import make_authority, make_leaf
from intaglio.platform import live_settings
from intaglio.transport.contexts import server_context


class Sink:
    """A syslog server that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines.append((await reader.read()).decode())
        writer.close()


@asynccontextmanager
async def syslog(house: House) -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.accept, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    await configure(house, syslog=f"tcp://127.0.0.1:{sink.port}")
    async with server:
        yield sink


async def configure(house: House, **values: Any) -> None:
    async with house.mtls.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "alerts", values)


async def seen(house: House, reason: str, times: int = 1, **changes: Any) -> None:
    """Record refused accesses, and look."""
    values = {"organization_id": house.domain.organization_id, "ingress": "demo~web", "source_ip": "10.0.0.9"}
    values |= {"certificate_reason": reason, "reason": reason, "decision": "deny"}
    event = AccessEvent(clock.now(), **(values | changes))
    await record_many(house.mtls.database, [event] * times)
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_events(tx)


async def listed(house: House, *, live: bool = True) -> list[alerts.Alert]:
    found = await alerts.list_alerts(house.mtls, OPERATOR, "demo")
    return [each for each in found if each.state != "closed"] if live else found


@pytest.mark.parametrize(
    ("reason", "kind", "subject"),
    [
        ("no_certificate", "no-certificate", ""),
        ("expired", "expired-attempt", "spiffe://x"),
        ("unknown_ca", "unknown-ca", ""),
        ("self_signed", "unknown-ca", ""),
        ("wrong_environment", "unknown-ca", ""),
        ("revoked", "revoked-attempt", "spiffe://x"),
    ],
)
async def test_refusal_opens_an_alert_once_and_counts(house: House, reason: str, kind: str, subject: str) -> None:
    await seen(house, reason, claimed="spiffe://x", times=3)
    (one,) = await listed(house)
    assert (one.kind, one.subject, one.ingress, one.count, one.state) == (kind, subject, "demo~web", 3, "open")
    assert "10.0.0.9" in one.detail


async def test_events_are_counted_once_however_often_somebody_looks(house: House) -> None:
    await seen(house, "no_certificate")
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_events(tx)
    assert [each.count for each in await listed(house)] == [1]


async def test_policy_refusal_is_no_alert(house: House) -> None:
    await seen(house, "policy_denied", certificate_reason="")
    assert await listed(house) == []


async def test_closed_alert_stays_closed_and_what_goes_on_opens_another(house: House) -> None:
    async with house.mtls.database.transaction() as tx:
        await alerts.open_alert(tx, sighting(house))
    (one,) = await listed(house)
    assert (await alerts.change_alert(house.mtls, OPERATOR, one.id, "acknowledged")).state == "acknowledged"
    async with house.mtls.database.transaction() as tx:
        await alerts.open_alert(tx, sighting(house))
    assert [(each.state, each.count) for each in await listed(house)] == [("acknowledged", 2)]
    await alerts.change_alert(house.mtls, OPERATOR, one.id, "closed")
    with pytest.raises(StateConflict):
        await alerts.change_alert(house.mtls, OPERATOR, one.id, "acknowledged")
    async with house.mtls.database.transaction() as tx:
        await alerts.open_alert(tx, sighting(house))
    assert [each.state for each in await listed(house, live=False)] == ["open", "closed"]


async def test_worse_alert_is_open_again_and_told_again(house: House) -> None:
    async with syslog(house) as sink:
        for severity in ("warning", "warning", "critical"):
            async with house.mtls.database.transaction() as tx:
                await alerts.open_alert(tx, replace(sighting(house), severity=severity))
        assert await alert_upkeep.deliver(house.mtls) == 2
    assert len(sink.lines) == 2
    assert [each.severity for each in await listed(house)] == ["critical"]


async def test_identity_that_asks_far_more_than_before_is_told(house: House) -> None:
    now = clock.now()
    same = {"organization_id": house.domain.organization_id, "decision": "allow"}
    past = [AccessEvent(now - timedelta(hours=h, minutes=30), identity=i, **same) for h in range(1, 24) for i in "ab"]
    busy = [AccessEvent(now - timedelta(minutes=5), identity="a", **same)] * 150
    usual = [AccessEvent(now - timedelta(hours=h, minutes=20), identity="c", **same) for h in range(24)] * 150
    await record_many(house.mtls.database, past + busy + usual)
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_volumes(tx)
        await alert_sources.look_at_volumes(tx)
    (one,) = await listed(house)
    assert (one.kind, one.subject, one.count) == ("unusual-volume", "a", 150)


async def ages(house: House, left: timedelta, life: timedelta) -> None:
    """Make every certificate end soon, and look."""
    async with house.mtls.database.transaction() as tx:
        ends = tx.now + left
        await tx.execute(update(identities.binding).values(not_after=ends, not_before=ends - life))
        await alert_sources.look_at_expiry(tx)


async def test_end_of_a_certificate_is_told_escalated_and_settled_by_a_new_one(house: House) -> None:
    await ages(house, timedelta(hours=73), timedelta(days=30))
    assert await listed(house) == []
    await ages(house, timedelta(hours=71), timedelta(days=30))
    assert [(each.kind, each.subject, each.severity) for each in await listed(house)] == [
        ("expiry", "service:payments@prod.example", "warning")
    ]
    await ages(house, timedelta(minutes=59), timedelta(days=30))
    assert [each.severity for each in await listed(house)] == ["critical"]
    await issue(house.mtls, house.payments.identity, channel=Channel.AGENT, renews=house.payments.binding_id)
    async with house.mtls.database.transaction() as tx:
        await alert_sources.look_at_expiry(tx)
    assert await listed(house) == []


async def test_short_lived_certificate_is_told_only_when_its_renewal_is_due(house: House) -> None:
    await ages(house, timedelta(hours=12), timedelta(hours=24))
    assert await listed(house) == []


async def test_renewal_that_does_not_come_is_told(house: House) -> None:
    orders = await make_service(house.mtls, "orders")
    await issue(house.mtls, orders, channel=Channel.AGENT)
    await ages(house, timedelta(hours=3), timedelta(hours=24))
    found = {(each.kind, each.subject) for each in await listed(house)}
    assert ("rotation-failing", "service:orders@prod.example") in found
    assert ("rotation-failing", "service:payments@prod.example") not in found  # nothing renews it anyway


# ---- telling ---------------------------------------------------------------------------------------------------------


def sighting(house: House) -> alerts.Sighting:
    now = clock.now()
    return alerts.Sighting(
        house.domain.organization_id, "unknown-ca", "", "demo~web", "warning", "Seen.", 1, now, now
    )


async def test_alert_is_told_once(house: House) -> None:
    async with syslog(house) as sink:
        async with house.mtls.database.transaction() as tx:
            await alerts.open_alert(tx, sighting(house))
        assert await alert_upkeep.deliver(house.mtls) == 1
        assert await alert_upkeep.deliver(house.mtls) == 0
    (line,) = sink.lines
    length, _, message = line.partition(" ")
    assert len(message.encode()) == int(length)
    assert message.startswith("<108>1 ")
    assert 'kind="unknown-ca" organization="demo"' in message


async def test_failed_delivery_is_visible_and_tried_again(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    await configure(house, syslog=f"tcp://127.0.0.1:{port}")
    async with house.mtls.database.transaction() as tx:
        await alerts.open_alert(tx, sighting(house))
    assert await alert_upkeep.deliver(house.mtls) == 0
    (one,) = await listed(house)
    assert one.undelivered == 1
    assert "syslog did not take the alert" in one.trouble
    async with syslog(house) as sink:
        assert await alert_upkeep.deliver(house.mtls) == 0  # not yet
        async with house.mtls.database.transaction() as tx:
            await tx.execute(update(alert_delivery).values(next_at=tx.now))
        assert await alert_upkeep.deliver(house.mtls) == 1
    assert len(sink.lines) == 1
    assert [each.undelivered for each in await listed(house)] == [0]


async def test_webhook_is_signed_and_goes_to_a_verified_server_only(house: House, tmp_path: Path) -> None:
    authority, bodies = make_authority("webhook authority"), list[tuple[bytes, bytes]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(each.split(b":")[1]) for each in head.lower().split(b"\r\n") if b"content-length" in each)
        bodies.append((head.lower(), await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    context = server_context(make_leaf(authority, "hook", "server").identity)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/alerts"
    async with server:
        await configure(house, webhook_url=url, webhook_ca_file=str(tmp_path / "ca.pem"))
        async with house.mtls.database.transaction() as tx:
            await alerts.open_alert(tx, sighting(house))
        assert await alert_upkeep.deliver(house.mtls) == 0  # its name leads to where only we can reach
        await list_networks(house.mtls.database)
        await configure(house, webhook_url=url, webhook_ca_file="")
        async with house.mtls.database.transaction() as tx:
            await tx.execute(update(alert_delivery).values(next_at=tx.now))
        assert await alert_upkeep.deliver(house.mtls) == 0  # nobody vouches for the server
        assert bodies == []
        await configure(house, webhook_url=url, webhook_ca_file=str(tmp_path / "ca.pem"))
        async with house.mtls.database.transaction() as tx:
            await tx.execute(update(alert_delivery).values(next_at=tx.now))
        assert await alert_upkeep.deliver(house.mtls) == 1
    ((head, body),) = bodies
    secret = await alert_channels.webhook_secret(house.mtls)
    assert f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}".encode() in head
    assert json.loads(body)["kind"] == "unknown-ca"


async def test_muted_kind_is_counted_and_not_told_and_never_for_long(house: House) -> None:
    async with syslog(house) as sink:
        until = clock.now() + timedelta(days=2)
        await alerts.mute(house.mtls, OPERATOR, "demo", "unknown-ca", until, "Scanner week")
        async with house.mtls.database.transaction() as tx:
            await alerts.open_alert(tx, sighting(house))
        assert await alert_upkeep.deliver(house.mtls) == 0
        with pytest.raises(StateConflict) as refused:
            await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", "unknown-ca")
        assert refused.value.code == "alert-muted"
    assert sink.lines == []
    assert len(await listed(house)) == 1
    with pytest.raises(InvalidInput):
        await alerts.mute(house.mtls, OPERATOR, "demo", "expiry", clock.now() + timedelta(days=32), "for good")


# ---- the proof -------------------------------------------------------------------------------------------------------


async def test_every_kind_is_fired_end_to_end_and_proved(house: House) -> None:
    async with syslog(house) as sink:
        for kind in alerts.KINDS:
            proof = await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", kind)
            assert proof.channels == ("syslog",)
    assert len(sink.lines) == len(alerts.KINDS)
    assert await listed(house) == []
    report = await make_report(house.mtls, OPERATOR, "demo")
    assert next(each.status for each in report.results if each.id == "PC-17") is Status.PASS
    assert set(REQUIRED_ALERTS) <= set(alerts.KINDS)


async def test_alert_that_does_not_arrive_is_not_proved(house: House) -> None:
    with pytest.raises(StateConflict) as refused:
        await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", "expiry")
    assert refused.value.code == "alert-no-channel"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    await configure(house, syslog=f"tcp://127.0.0.1:{port}")
    with pytest.raises(StateConflict) as refused:
        await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", "no-certificate")
    assert refused.value.code == "alert-undelivered"
    async with house.mtls.database.read() as view:
        assert await view.all(select(alert_proof)) == []


async def test_stranger_sees_and_changes_no_alert(house: House) -> None:
    async with house.mtls.database.transaction() as tx:
        alert_id = await alerts.open_alert(tx, sighting(house))
    eve = tenant("eve")
    for refused in (
        alerts.list_alerts(house.mtls, eve, "demo"),
        alerts.change_alert(house.mtls, eve, alert_id, "closed"),
        alerts.mute(house.mtls, eve, "demo", "expiry", clock.now(), "x"),
        alert_upkeep.test_alert(house.mtls, eve, "demo", "expiry"),
    ):
        with pytest.raises(NotFound):
            await refused


# ---- forms -----------------------------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_syslog_message_is_one_line_whatever_is_in_it(subject: str, detail: str) -> None:
    now = clock.now()
    message = Message(
        new_id(), new_id(), "demo", "expiry", "critical", "opened", subject, "", detail, 1, now, now
    )
    line = alert_channels.syslog_line(message, "pki.example")
    assert b"\n" not in line
    assert line.startswith(b"<106>1 ")


@pytest.mark.parametrize(
    "values",
    [
        {"webhook_url": "http://x/"}, {"webhook_url": "https://me@x/"}, {"syslog": "x:514"}, {"syslog": "tls://"},
    ],
)  # fmt: skip
def test_channel_that_could_not_be_trusted_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AlertSettings(**values)
