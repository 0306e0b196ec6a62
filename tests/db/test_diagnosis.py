from __future__ import annotations

from datetime import timedelta

import pytest

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.db import diagnosis


def test_a_local_database_with_the_right_time_is_in_order(database_url: str) -> None:
    assert diagnosis.look(database_url) == diagnosis.State()


@pytest.mark.parametrize("offset", [timedelta(minutes=1), timedelta(minutes=-1)])
def test_a_clock_that_is_far_off_is_an_error(database_url: str, offset: timedelta) -> None:
    with clock.frozen(clock.now() + offset):
        state = diagnosis.look(database_url)
    assert [("differ by" in each) for each in state.errors] == [True]
    assert state.warnings == []


def test_a_clock_that_is_a_little_off_is_a_warning(database_url: str) -> None:
    with clock.frozen(clock.now() + timedelta(seconds=6)):
        state = diagnosis.look(database_url)
    assert (len(state.warnings), state.errors) == (1, [])


def test_too_few_connections_are_a_warning(database_url: str) -> None:
    (warning,) = diagnosis.look(database_url, connections=100_000).warnings
    assert "100000 connections" in warning
    assert "max_connections" in warning
    assert diagnosis.look(database_url, connections=9) == diagnosis.State()


def test_the_reason_of_a_failed_connection_is_told() -> None:
    with pytest.raises(Unavailable) as refused:
        diagnosis.look("postgresql://nobody:hunter2@127.0.0.1:1/nothing")
    assert "Connection refused" in refused.value.detail
    assert "hunter2" not in str(refused.value)
