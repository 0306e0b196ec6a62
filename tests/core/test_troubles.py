"""Trouble that lasts does not fill the log."""

from __future__ import annotations

import pytest

from intaglio.core import troubles
from intaglio.core.troubles import Troubles


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock: its only element."""
    now = [100.0]
    monkeypatch.setattr(troubles, "monotonic", lambda: now[0])
    return now


def test_trouble_is_reported_at_once_and_then_now_and_then(time: list[float]) -> None:
    going_on = Troubles(30)
    reported = []
    for _ in range(400):
        reported.append(going_on.worth_reporting("database"))
        time[0] += 0.25
    assert reported[0]
    assert sum(reported) == 4


def test_each_trouble_is_reported_for_itself(time: list[float]) -> None:
    going_on = Troubles(30)
    assert going_on.worth_reporting(("CRL", "demo~root"))
    assert going_on.worth_reporting(("CRL", "demo~issuing"))
    assert not going_on.worth_reporting(("CRL", "demo~root"))


def test_the_end_is_noted_once_and_what_comes_back_is_new(time: list[float]) -> None:
    going_on = Troubles(30)
    assert not going_on.over("database")
    going_on.worth_reporting("database")
    assert going_on.over("database")
    assert not going_on.over("database")
    assert going_on.worth_reporting("database")
