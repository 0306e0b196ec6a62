"""When an agent renews, waits and raises the alarm."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core import clock
from intaglio.mtls.automation.agent import timing
from intaglio.mtls.automation.agent.timing import Health, ServerClock, Validity, health

START = datetime(2026, 1, 1, tzinfo=UTC)
_LIVES = st.timedeltas(min_value=timedelta(minutes=5), max_value=timedelta(days=800))


def of(life: timedelta) -> Validity:
    return Validity(START, START + life)


@given(_LIVES, st.integers())
def test_renewal_is_at_two_thirds_of_the_life_and_not_for_all_at_once(life: timedelta, seed: int) -> None:
    when = timing.renewal_time(of(life), random.Random(seed))
    assert START + life * 0.6 <= when <= START + life * 2 / 3 + timedelta(milliseconds=1)


def test_many_agents_renew_at_different_moments() -> None:
    moments = {timing.renewal_time(of(timedelta(hours=24)), random.Random(seed)) for seed in range(100)}
    assert max(moments) - min(moments) > timedelta(hours=1)


@given(st.integers(min_value=1, max_value=10_000), st.integers())
def test_the_wait_grows_and_is_bounded(failures: int, seed: int) -> None:
    wait = timing.wait_after(failures, random.Random(seed))
    assert 1.0 <= wait <= 300.0
    if failures >= 9:
        assert wait >= 150.0


@pytest.mark.parametrize(
    ("life", "left", "expected"),
    [
        (timedelta(hours=24), timedelta(hours=9), Health.GOOD),
        (timedelta(hours=24), timedelta(hours=7), Health.OVERDUE),
        (timedelta(hours=24), timedelta(hours=2), Health.CRITICAL),
        (timedelta(hours=24), timedelta(0), Health.EXPIRED),
        (timedelta(days=90), timedelta(days=31), Health.GOOD),
        (timedelta(days=90), timedelta(days=29), Health.OVERDUE),
        (timedelta(days=90), timedelta(hours=71), Health.CRITICAL),
    ],
)
def test_the_alarm_comes_at_a_third_of_the_life_and_at_72_hours(
    life: timedelta, left: timedelta, expected: Health
) -> None:
    assert health(of(life), START + life - left) is expected


def test_without_a_certificate_there_is_no_health() -> None:
    assert health(None, START) is Health.NONE


def test_the_time_is_that_of_the_server() -> None:
    with clock.frozen(START):
        kept = ServerClock()
        kept.heard(START + timedelta(hours=3))
        assert kept.skew == timedelta(hours=-3)
        assert timedelta(0) <= kept.now() - (START + timedelta(hours=3)) < timedelta(seconds=30)
