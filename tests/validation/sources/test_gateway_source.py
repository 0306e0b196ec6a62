"""Events of a gateway: taken in page by page, once each; noticed when the feed is another one."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from tests.support.authority import OPERATOR
from tests.support.foreign import ForeignCa
from tests.support.outgoing import LOOPBACK_GUARD
from tests.validation.sources.conftest import Reader, nobody_else

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, Refused, StateConflict, TimedOut, Unavailable
from intaglio.db.engine import Transaction
from intaglio.validation import models
from intaglio.validation.authorities import reading, service
from intaglio.validation.authorities.values import Authority, AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.sources import gateway_client, gateway_source
from intaglio.validation.sources import service as source_service
from intaglio.validation.sources.gateway_client import CursorUnknown, GatewayClient, Page
from intaglio.validation.sources.gateway_source import Looked
from intaglio.x509.certificates import CertificateInfo, read_certificate

_SINCE = datetime.fromisoformat("2026-02-01T10:00:00+00:00")


@dataclass
class FakeGateway:
    """A gateway with a feed in memory; ``pages`` counts the requests, ``fails`` is raised once."""

    ca: ForeignCa
    feed: list[dict[str, Any]] = field(default_factory=list)
    pages: int = 0
    fails: IntaglioError | None = None
    offered: bool = True

    def happen(self, action: str, serial: int, reason: str = "", certificate: bytes | None = None) -> None:
        event = {
            "action": action, "event": len(self.feed) + 1, "serialNumber": f"{serial:X}", "reason": reason,
            "eventDate": rfc3339(_SINCE + timedelta(minutes=len(self.feed))),
        }  # fmt: skip
        if certificate is not None:
            event["certificate"] = base64.b64encode(certificate).decode()
        self.feed.append(event)

    async def events(self, cursor: str | None, limit: int, *, with_certificates: bool) -> Page:
        self.pages += 1
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        start = int(cursor or 0)
        events = [dict(each) for each in self.feed[start : start + limit]]
        for each in events:
            if not with_certificates:
                each.pop("certificate", None)
        end = start + len(events)
        return gateway_client._page({"events": events, "morePages": end < len(self.feed), "nextPageIndex": str(end)})

    async def capabilities(self) -> dict[str, Any]:
        return {
            "type": "CACapabilitiesResponse",
            "role": "ca-auditor",
            "capabilities": {"certificateManagement": {"CertificateEvents": self.offered}},
        }

    async def certificates(self) -> list[CertificateInfo]:
        return [read_certificate(self.ca.der)]

    async def close(self) -> None:
        pass


class Follower(Reader):
    """An authority that follows the fake gateway."""

    async def authority(self) -> Authority:
        async with self.validation.database.read() as view:
            return await reading.load(view, self.name)

    async def follow(self, confirm: Callable[[Transaction], Any] = nobody_else) -> Looked:
        return await gateway_source.look(self.validation, await self.authority(), confirm, lambda _: None)


@pytest.fixture
def gateway(ca: ForeignCa, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    made = FakeGateway(ca)

    async def connect(validation: Validation, authority: Authority) -> FakeGateway:
        return made

    monkeypatch.setattr(gateway_source, "connect", connect)
    monkeypatch.setattr(gateway_source, "COMPARED_EVERY", timedelta(0))
    return made


async def _follower(validation: Validation, ca: ForeignCa, **options: Any) -> Follower:
    gateway = {"url": "https://gw.example/cagw", "ca": "org~issuing", "server_ca": ca.pem, "batch_size": 2, **options}
    spec = AuthoritySpec.model_validate(
        {"name": "feed", "source": "gateway", "profile": "basic", "issuers": ca.pem, "gateway": gateway}
    )
    await service.create(validation, OPERATOR, spec)
    return Follower(validation, "feed")


async def test_a_feed_is_read_to_its_end_and_then_on(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    for serial in range(1, 6):
        gateway.happen("issued", serial)
    gateway.happen("revoked", 2, "keyCompromise")
    gateway.happen("held", 3, "certificateHold")
    follower = await _follower(validation, ca)
    assert (await follower.follow()).events == 7
    assert await follower.statuses() == {1: "good", 2: "revoked", 3: "held", 4: "good", 5: "good"}
    revoked = await follower.entry(2)
    assert (revoked["reason"], revoked["revoked_at"]) == (1, _SINCE + timedelta(minutes=5))
    state = await follower.state()
    assert state.stale_reason is None
    assert state.entries == 5
    gateway.happen("unheld", 3)
    assert (await follower.follow()).events == 1
    assert (await follower.statuses())[3] == "good"
    assert (await follower.follow()).outcome == "unchanged"


@pytest.mark.parametrize(
    "date", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2999-01-01T00:00:00Z", "2026-02-01T10:00:00"]
)
async def test_an_event_at_an_impossible_moment_is_not_taken_in(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway, date: str
) -> None:
    gateway.happen("issued", 1)
    gateway.happen("revoked", 1)
    gateway.feed[-1]["eventDate"] = date
    follower = await _follower(validation, ca)
    failure = (await follower.follow()).failure
    assert failure is not None
    assert failure.code == "feed-not-understood"
    assert await follower.statuses() == {}


async def test_a_credential_that_is_not_there_yet_is_told_as_a_failure(
    validation: Validation, ca: ForeignCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(validation: Validation, authority: Authority) -> FakeGateway:
        raise StateConflict("It has no certificate in use.", code="no-certificate-yet")

    monkeypatch.setattr(gateway_source, "connect", connect)
    follower = await _follower(validation, ca)
    assert (await follower.follow()).outcome == "failed"
    assert "no-certificate-yet" in ((await follower.part())["last_error"] or "")


async def test_nothing_is_answered_before_the_first_end_of_the_feed(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    for serial in range(1, 6):
        gateway.happen("issued", serial)
    follower = await _follower(validation, ca)
    with pytest.raises(StateConflict):
        await follower.follow(_third_time())
    assert sorted(await follower.statuses()) == [1, 2, 3, 4]
    assert (await follower.state()).stale_reason == "source-never-complete"
    assert (await follower.follow()).events == 1
    assert (await follower.state()).stale_reason is None


def _third_time() -> Callable[[Transaction], Any]:
    """Confirms twice; at the third time another process has taken over."""
    times = 0

    async def confirm(tx: Transaction) -> None:
        nonlocal times
        times += 1
        if times == 3:
            raise StateConflict("Taken.", code="source-taken")

    return confirm


@pytest.mark.parametrize("by_serial", [False, True])
async def test_whole_certificates_are_kept_unless_serial_numbers_are_enough(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway, by_serial: bool
) -> None:
    leaf = ca.leaf()
    der = leaf.public_bytes(Encoding.DER)
    gateway.happen("issued", leaf.serial_number, certificate=der)
    gateway.happen("revoked", leaf.serial_number, "superseded", certificate=der)
    follower = await _follower(validation, ca, push_by_serial=by_serial)
    await follower.follow()
    entry = await follower.entry(leaf.serial_number)
    assert entry["certificate"] == (None if by_serial else der)
    assert entry["not_after"] == (None if by_serial else leaf.not_valid_after_utc)
    assert (entry["state"], entry["reason"]) == (1, 4)


async def test_a_feed_that_was_set_back_is_read_anew_and_then_served(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    for serial in range(1, 6):
        gateway.happen("issued", serial)
    follower = await _follower(validation, ca)
    await follower.follow()
    before = (await follower.authority()).set_id
    del gateway.feed[3:]
    gateway.happen("issued", 77)
    gateway.happen("revoked", 1)
    looked = await follower.follow()
    assert looked.restarted
    assert await follower.statuses() == {1: "revoked", 2: "good", 3: "good", 77: "good"}
    assert (await follower.authority()).set_id != before
    assert (await follower.state()).stale_reason is None


async def test_what_was_known_stays_served_until_the_new_reading_is_complete(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    for serial in range(1, 6):
        gateway.happen("issued", serial)
    follower = await _follower(validation, ca)
    await follower.follow()
    gateway.feed.clear()
    for serial in range(101, 106):
        gateway.happen("issued", serial)
    with pytest.raises(StateConflict):
        await follower.follow(_third_time())
    assert sorted(await follower.statuses()) == [1, 2, 3, 4, 5]
    assert (await follower.state()).last_error is not None
    await follower.follow()
    assert sorted(await follower.statuses()) == [101, 102, 103, 104, 105]


async def test_a_position_the_gateway_does_not_know_means_another_feed(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    gateway.happen("issued", 1)
    follower = await _follower(validation, ca)
    await follower.follow()
    gateway.fails = CursorUnknown("What?")
    assert (await follower.follow()).restarted
    assert await follower.statuses() == {1: "good"}


async def test_a_gateway_that_fails_for_too_long_makes_the_knowledge_stale(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    gateway.happen("issued", 1)
    follower = await _follower(validation, ca, stale_after="1m")
    await follower.follow()
    gateway.fails = Unavailable("Gone.", code="source-unreachable")
    assert (await follower.follow()).outcome == "failed"
    state = await follower.state()
    assert state.stale_reason is None
    assert (state.last_error or "").startswith("source-unreachable")
    with clock.frozen(clock.now() + timedelta(minutes=2)):
        assert (await follower.state()).stale_reason == "feed-failing"


async def test_an_account_without_events_and_another_ca_are_noticed(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    follower = await _follower(validation, ca)
    gateway.offered = False
    assert (await follower.follow()).failure.code == "gateway-without-events"  # type: ignore[union-attr]
    found = await source_service.check(validation, OPERATOR, follower.name)
    assert [each.about for each in found if not each.ok] == ["gateway"]
    gateway.offered = True
    found = await source_service.check(validation, OPERATOR, follower.name)
    assert "ca-auditor" in next(each.detail for each in found if each.about == "account")
    gateway.ca = ForeignCa("Another")
    assert (await follower.follow()).failure.code == "gateway-ca-differs"  # type: ignore[union-attr]


async def test_certificates_of_another_ca_are_not_taken_in(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    leaf = ForeignCa("Another").leaf()
    gateway.happen("issued", leaf.serial_number, certificate=leaf.public_bytes(Encoding.DER))
    follower = await _follower(validation, ca)
    assert (await follower.follow()).failure.code == "feed-of-another-ca"  # type: ignore[union-attr]
    assert await follower.statuses() == {}


async def test_what_is_not_understood_stops_the_feed(
    validation: Validation, ca: ForeignCa, gateway: FakeGateway
) -> None:
    gateway.happen("issued", 1)
    follower = await _follower(validation, ca)
    await follower.follow()
    gateway.happen("transmogrified", 1)
    assert (await follower.follow()).failure.code == "feed-not-understood"  # type: ignore[union-attr]


async def test_each_event_is_announced(validation: Validation, ca: ForeignCa, gateway: FakeGateway) -> None:
    gateway.happen("issued", 1)
    follower = await _follower(validation, ca)
    await follower.follow()
    gateway.happen("revoked", 1)
    await follower.follow()
    async with validation.database.read() as view:
        c = models.status_change.c
        rows = await view.all(select(c.serial).order_by(c.id))
    assert [row["serial"] for row in rows] == [None, b"\x01"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["events", "morePages", "nextPageIndex", "action", "serialNumber", "eventDate", "certificate"]),
        inner, max_size=7,
    ),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["events", "morePages", "nextPageIndex", "hasMore"]), _JSON, max_size=4))
def test_any_answer_is_a_page_or_one_clear_error(body: dict[str, Any]) -> None:
    try:
        page = gateway_client._page(body)
    except Refused:
        return
    assert isinstance(page.more, bool)


async def test_a_gateway_that_stays_silent_is_left_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its queue, nobody takes them
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/cagw"
        tls = ssl.create_default_context()
        client = GatewayClient(url, "org~issuing", LOOPBACK_GUARD, tls, timedelta(milliseconds=200))
        try:
            events = partial(client.events, None, 10, with_certificates=False)
            for ask in (events, client.capabilities, client.certificates):
                with pytest.raises(TimedOut) as caught:
                    await ask()
                assert caught.value.code == "source-timeout"
                assert url in caught.value.detail
        finally:
            await client.close()
