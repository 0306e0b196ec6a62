"""Strangers who come in crowds: counted, told apart as far as anybody would read, and never a row each."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.mtls.access.conftest import House
from tests.support.authority import OPERATOR

from intaglio.core import clock
from intaglio.mtls.access.readiness import readiness
from intaglio.mtls.access.values import ReasonCode
from intaglio.mtls.observation.crowd import BURST, MOST_STRANGERS, PERIOD, Crowd
from intaglio.mtls.observation.events import AccessEvent
from intaglio.mtls.observation.models import access_event

INGRESS = UUID(int=7)
NOW = clock.now()


def stranger(number: int = 0, **changes: object) -> AccessEvent:
    values: dict[str, object] = {
        "ingress_id": INGRESS, "ingress": "demo~web", "source_ip": f"192.0.2.{number % 250}", "decision": "deny",
        "reason": "no_certificate", "certificate_reason": "no_certificate", "path": f"/{number}",
    }  # fmt: skip
    return AccessEvent(**({"at": NOW} | values | changes))  # type: ignore[arg-type]


def test_first_ones_are_kept_singly_and_the_rest_is_counted() -> None:
    crowd = Crowd(lambda: 0.0)
    taken = [crowd.takes(stranger()) for _ in range(BURST + 100)]
    assert taken == [False] * BURST + [True] * 100
    (one,) = crowd.take()
    assert (one.count, one.source_ip, one.reason, one.path, one.at) == (100, "192.0.2.0", "no_certificate", "", NOW)
    assert crowd.take() == []


def test_budget_comes_back_with_time_and_each_ingress_has_its_own() -> None:
    moment = [0.0]
    crowd = Crowd(lambda: moment[0])
    for _ in range(BURST + 1):
        last = crowd.takes(stranger())
    assert last
    assert not crowd.takes(stranger(ingress_id=UUID(int=8)))
    assert not crowd.due
    moment[0] = PERIOD
    assert crowd.due
    assert not crowd.takes(stranger())


def test_who_has_a_good_certificate_is_always_kept() -> None:
    crowd = Crowd(lambda: 0.0)
    known = {"certificate_reason": "", "fingerprint": b"x" * 32}
    for _ in range(BURST * 2):
        assert not crowd.takes(stranger(identity="spiffe://x/svc", **known))
        assert not crowd.takes(stranger(reason="policy_denied", **known))


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(list(ReasonCode))), max_size=300))
def test_nobody_is_forgotten_and_rows_are_bounded(visits: list[tuple[int, ReasonCode]]) -> None:
    crowd = Crowd(lambda: 0.0)
    for _ in range(BURST):
        crowd.takes(stranger())
    for number, reason in visits:
        assert crowd.takes(stranger(number, claimed=f"CN={number}", certificate_reason=reason, reason=reason))
    found = crowd.take()
    assert len(found) <= MOST_STRANGERS + len(ReasonCode)
    counted: Counter[str] = Counter()
    for each in found:
        counted[each.reason] += each.count
    assert counted == Counter(reason for _, reason in visits)


async def test_flood_of_strangers_does_not_fill_the_table_and_is_counted_in_full(house: House) -> None:
    ingress = await house.ingress(mode="permissive")
    values = {"ingress_id": ingress.id, "organization_id": house.domain.organization_id, "mode": "permissive"}
    values |= {"decision": "allow", "at": clock.now()}
    for number in range(BURST + 20_000):
        house.mtls.events.record(stranger(number, **values))
    while await house.mtls.events.flush():
        pass
    async with house.mtls.database.read() as view:
        rows = await view.scalar(select(func.count()).select_from(access_event))
    assert rows is not None
    assert rows < BURST + 500
    found = await readiness(house.mtls, OPERATOR, "web")
    assert (found.observed, found.offences, found.lost) == (BURST + 20_000, BURST + 20_000, 0)
    assert found.by_reason == {"no_certificate": BURST + 20_000}
