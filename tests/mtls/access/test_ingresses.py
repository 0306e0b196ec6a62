"""Ingresses: registering, switching, the second person; what is observed, kept and lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.mtls.access.conftest import House, der, self_made
from tests.support.authority import OPERATOR, tenant

from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict, Unavailable
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Database
from intaglio.db.listing import ListQuery
from intaglio.mtls.access import ingresses, modes
from intaglio.mtls.access.decision import Facts, event_of
from intaglio.mtls.access.ingress_values import Ingress, IngressChanges, NewIngress, networks
from intaglio.mtls.access.readiness import readiness
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation.event_log import expire_events, list_events
from intaglio.mtls.observation.events import AccessEvent, EventRecorder, record_many

BOB = replace(OPERATOR, name="bob")


async def seen(house: House, ingress: Ingress, *presented: bytes, times: int = 1, **changes: Any) -> None:
    """Somebody calls, is decided about and recorded."""
    for _ in range(times):
        decision = await house.decide(ingress, *presented, **changes)
        facts = Facts(ingress.id, changes.get("source_ip", "10.0.0.1"), clock.now(), presented, method="GET", path="/")
        house.mtls.events.record(event_of(facts, decision))


async def events(mtls: Mtls, *conditions: str) -> list[Any]:
    while await mtls.events.flush():
        pass
    return list((await list_events(mtls, OPERATOR, ListQuery(filter=conditions, sort="at"))).rows)


async def test_ingress_is_registered_with_a_token_that_is_not_stored(house: House) -> None:
    ingress = await house.ingress(ip_rule=["10.0.0.0/8"], hosts=["WWW.example"], listener="0.0.0.0:443")
    assert ingress.full_name == "demo~web"
    assert ingress.hosts == ("www.example",)
    assert house.tokens["web"].startswith("igi_")
    assert house.tokens["web"] not in repr(await ingresses.get_ingress(house.mtls, OPERATOR, "web"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "No Spaces"}, {"type": "iis"}, {"mode": "perhaps"}, {"ip_rule": ["10.0.0.1/8"]}, {"hosts": ["a b"]},
        {"ip_rule": ["::ffff:10.0.0.0/104"]}, {"ip_rule": ["everything"]}, {"listener": "443"}, {"refresh_seconds": 0},
        {"listener": ":99999"}, {"forward": ["x-secret"]}, {"fail_mode": "ajar"}, {"description": "a\nb"},
        {"mode": "permissive", "permissive_days": 1000},
    ],
)  # fmt: skip
async def test_ingress_that_makes_no_sense_is_refused(house: House, changes: dict[str, Any]) -> None:
    values = {"name": "web", "organization": "demo", "domain": "prod.example"} | changes
    with pytest.raises(InvalidInput):
        await ingresses.create_ingress(house.mtls, OPERATOR, NewIngress(**values))


@given(st.lists(st.ip_addresses().map(str) | st.text(max_size=20), max_size=5))
def test_networks_are_normal_or_refused(texts: list[str]) -> None:
    try:
        found = networks(texts)
    except InvalidInput:
        return
    assert networks(found) == found


async def test_name_is_taken_once_and_free_again_after_retirement(house: House) -> None:
    await house.ingress()
    with pytest.raises(StateConflict) as refused:
        await house.ingress()
    assert refused.value.code == "ingress-exists"
    await ingresses.retire_ingress(house.mtls, OPERATOR, "web")
    await house.ingress()


async def test_ingresses_of_other_organizations_do_not_exist(house: House) -> None:
    ingress = await house.ingress()
    stranger = tenant("stranger")
    assert await ingresses.list_ingresses(house.mtls, stranger) == []
    for attempt in (
        ingresses.get_ingress(house.mtls, stranger, ingress.full_name),
        ingresses.edit_ingress(house.mtls, stranger, "web", IngressChanges(fail_mode="open")),
        ingresses.rotate_token(house.mtls, stranger, "web"),
        ingresses.retire_ingress(house.mtls, stranger, "web"),
        modes.change_mode(house.mtls, stranger, "web", "permissive"),
        readiness(house.mtls, stranger, "web"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await list_events(house.mtls, stranger)).rows == []


async def test_who_may_only_look_changes_nothing(house: House) -> None:
    await house.ingress()
    auditor = Principal("operator", "auditor", frozenset({Permission.MTLS_VIEW}))
    assert len(await ingresses.list_ingresses(house.mtls, auditor)) == 1
    for attempt in (
        ingresses.rotate_token(house.mtls, auditor, "web"),
        modes.change_mode(house.mtls, auditor, "web", "off", reason="why not"),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_report_names_who_would_be_refused_and_why(house: House) -> None:
    ingress = await house.ingress(mode="permissive", ip_rule=["10.0.0.0/8"])
    await seen(house, ingress, house.payments.certificate, times=3)
    await seen(house, ingress, times=2)
    await seen(house, ingress, der(self_made(name="mallory")[0]))
    await seen(house, ingress, source_ip="192.0.2.1", times=5)
    found = await readiness(house.mtls, OPERATOR, "web")
    assert (found.observed, found.offences, found.lost, found.ready) == (11, 3, 0, False)
    assert found.by_reason == {"no_certificate": 2, "self_signed": 1}
    assert [(each.reason, each.claimed, each.count) for each in found.offenders] == [
        ("no_certificate", "", 2),
        ("self_signed", "CN=mallory", 1),
    ]


async def test_ingress_enforces_once_nobody_would_be_refused(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    with pytest.raises(StateConflict) as refused:
        await modes.change_mode(house.mtls, OPERATOR, "web", "enforce")
    assert refused.value.code == "ingress-not-ready"
    await seen(house, ingress, house.payments.certificate)
    changed = await modes.change_mode(house.mtls, OPERATOR, "web", "enforce")
    assert changed.ingress.mode == "enforce"
    assert changed.ingress.permissive_until is None


async def test_offender_keeps_an_ingress_from_enforcing(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    await seen(house, ingress, house.payments.certificate, times=99)
    await seen(house, ingress)
    with pytest.raises(StateConflict) as refused:
        await modes.change_mode(house.mtls, OPERATOR, "web", "enforce")
    assert refused.value.extra["readiness"]["offences"] == 1


async def test_forcing_takes_a_second_person(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    await seen(house, ingress)
    with pytest.raises(InvalidInput):
        await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True)
    asked = await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True, reason="scanner")
    assert asked.request is not None
    assert asked.ingress.mode == "permissive"
    assert asked.request.evidence["offences"] == 1
    with pytest.raises(StateConflict):
        await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True, reason="again")
    with pytest.raises(Forbidden) as refused:
        await modes.decide_request(house.mtls, OPERATOR, asked.request.id, "approved")
    assert refused.value.code == "second-person-needed"
    done = await modes.decide_request(house.mtls, BOB, asked.request.id, "approved")
    assert done.ingress.mode == "enforce"
    assert done.request is not None
    assert done.request.decided_by == "operator:bob"
    with pytest.raises(StateConflict):
        await modes.decide_request(house.mtls, BOB, asked.request.id, "rejected")


async def test_request_that_waited_too_long_counts_no_more(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    await seen(house, ingress)
    asked = await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True, reason="scanner")
    assert asked.request is not None
    with clock.frozen(clock.now() + timedelta(days=4)):
        with pytest.raises(StateConflict) as refused:
            await modes.decide_request(house.mtls, BOB, asked.request.id, "approved")
        assert refused.value.code == "request-expired"
        again = await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True, reason="still")
        assert again.request is not None


async def test_requests_of_other_organizations_do_not_exist(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    await seen(house, ingress)
    asked = await modes.change_mode(house.mtls, OPERATOR, "web", "enforce", force=True, reason="scanner")
    assert asked.request is not None
    with pytest.raises(NotFound) as refused:
        await modes.decide_request(house.mtls, tenant("stranger"), asked.request.id, "approved")
    assert "web" not in refused.value.detail
    assert await modes.list_requests(house.mtls, tenant("stranger")) == []


async def test_way_back_to_permissive_is_one_step_and_limited_in_time(house: House) -> None:
    await house.ingress()
    changed = await modes.change_mode(house.mtls, OPERATOR, "web", "permissive", days=7)
    assert changed.ingress.mode == "permissive"
    since, until = changed.ingress.mode_since, changed.ingress.permissive_until
    assert until == since + timedelta(days=7)
    with clock.frozen(clock.now() + timedelta(days=5)):
        again = await modes.change_mode(house.mtls, OPERATOR, "web", "permissive", days=30)
    assert again.ingress.permissive_until == since + timedelta(days=30)


async def test_switching_off_takes_a_reason(house: House) -> None:
    await house.ingress()
    with pytest.raises(InvalidInput):
        await modes.change_mode(house.mtls, OPERATOR, "web", "off")
    assert (await modes.change_mode(house.mtls, OPERATOR, "web", "off", reason="migration")).ingress.mode == "off"


# ---- events ----------------------------------------------------------------------------------------------------------


async def test_events_are_filtered_and_paged(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    await seen(house, ingress, house.payments.certificate, times=5)
    await seen(house, ingress, times=2)
    assert len(await events(house.mtls)) == 7
    assert len(await events(house.mtls, "reason=no_certificate")) == 2
    assert len(await events(house.mtls, f"identity={house.payments.identity.uri}", "decision=allow")) == 5
    first = await list_events(house.mtls, OPERATOR, ListQuery(limit=4))
    rest = await list_events(house.mtls, OPERATOR, ListQuery(limit=4, cursor=first.next_cursor))
    assert len({row["id"] for row in (*first.rows, *rest.rows)}) == 7


async def test_events_that_do_not_fit_are_counted_and_the_count_is_recorded(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    recorder = EventRecorder(house.mtls.database, capacity=3)
    house.mtls.__dict__["events"] = recorder
    await seen(house, ingress, house.payments.certificate, times=10)
    assert recorder.lost > 0
    lost = recorder.lost
    while await recorder.flush():
        pass
    found = await events(house.mtls, "kind=loss")
    assert sum(row["count"] for row in found) == lost
    assert found[0]["ingress"] == "demo~web"
    report = await readiness(house.mtls, OPERATOR, "web")
    assert (report.lost, report.ready) == (lost, False)


async def test_events_wait_while_the_database_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = EventRecorder(database, capacity=4)
    connect = database.raw_connection

    async def away() -> Any:
        raise Unavailable("The database is not reachable.")

    monkeypatch.setattr(database, "raw_connection", away)
    for _ in range(6):
        recorder.record(AccessEvent(clock.now()))
    with pytest.raises(Unavailable):
        await recorder.flush()
    assert recorder.lost == 2
    assert recorder.waiting == 5  # four, and one that says how many are missing
    monkeypatch.setattr(database, "raw_connection", connect)
    await recorder.close()
    assert recorder.waiting == 0


async def test_batch_whose_answer_got_lost_is_not_stored_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = EventRecorder(house.mtls.database)
    write = recorder._write

    async def write_and_lose_the_answer(batch: Any) -> None:
        await write(batch)
        raise Unavailable("The connection was lost.")

    monkeypatch.setattr(recorder, "_write", write_and_lose_the_answer)
    recorder.record(AccessEvent(clock.now()))
    with pytest.raises(Unavailable):
        await recorder.flush()
    monkeypatch.setattr(recorder, "_write", write)
    await recorder.close()
    assert recorder.lost == 0
    assert len(await events(house.mtls)) == 1


async def test_whatever_a_client_sends_can_be_recorded(house: House) -> None:
    sent = ["\\N", "a\tb\nc", "\\", "\r\0", "\ud800", "\\.", "ä\u2028", "x" * 5000, "'; DROP TABLE", ""]
    given = [
        AccessEvent(clock.now(), tls_version=str(number), path=text, claimed=text, host=text, detail=text)
        for number, text in enumerate(sent)
    ]
    await record_many(house.mtls.database, given)
    found = {row["tls_version"]: row["path"] for row in await events(house.mtls)}
    stored = [found[str(number)] for number in range(len(sent))]
    assert stored[:3] == ["\\N", "a\tb\nc", "\\"]
    assert stored[3] == "\r\ufffd"
    assert stored[6] == "ä\u2028"
    assert len(stored[7]) == 500


async def test_old_events_go(house: House) -> None:
    old = AccessEvent(clock.now() - timedelta(days=100))
    await record_many(house.mtls.database, [old, AccessEvent(clock.now())])
    assert await expire_events(house.mtls.database, 90) == 1
    assert len(await events(house.mtls)) == 1


async def test_decisions_are_counted_for_monitoring(database: Database) -> None:
    recorder = EventRecorder(database)
    before = _decisions("deny", "expired")
    for _ in range(3):
        recorder.record(AccessEvent(clock.now(), decision="deny", reason="expired"))
    await recorder.close()
    assert _decisions("deny", "expired") - before == 3


def _decisions(decision: str, reason: str) -> float:
    labels = {"decision": decision, "reason": reason}
    return REGISTRY.get_sample_value("intaglio_access_decisions_total", labels) or 0.0
