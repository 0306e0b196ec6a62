"""ISO 8601 durations with calendar arithmetic."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.profiles.durations import Duration

START = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("P1Y", "2025-02-28T12:30:15"),
        ("P4Y", "2028-02-29T12:30:15"),
        ("P1M", "2024-03-29T12:30:15"),
        ("P11M", "2025-01-29T12:30:15"),
        ("P1Y6M10D", "2025-09-08T12:30:15"),
        ("P30D", "2024-03-30T12:30:15"),
        ("P2W", "2024-03-14T12:30:15"),
        ("PT1440M", "2024-03-01T12:30:15"),
        ("PT86400S", "2024-03-01T12:30:15"),
        ("P1DT1H", "2024-03-01T13:30:15"),
        ("pt1h", "2024-02-29T13:30:15"),
    ],
)
def test_duration_is_added_by_the_calendar(text: str, end: str) -> None:
    assert Duration.parse(text).after(START) == datetime.fromisoformat(f"{end}+00:00")


def test_last_day_of_a_long_month_becomes_the_last_day_of_a_short_one() -> None:
    assert Duration.parse("P1M").after(datetime(2026, 1, 31, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1", "1Y", "P-1Y", "P1Y2Y", "P1.5Y", "P1DT", "PT1D", "P0Y", "PT0S", "P99999Y", "P1Y\n2M", "P١Y"],
)
def test_what_is_no_positive_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Duration.parse(text)
    assert caught.value.code == "validity-unreadable"


@pytest.mark.parametrize("text", ["P9000Y", "P99999M", "PT999999999999S"])
def test_end_beyond_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="year 9999"):
        Duration.parse(text).after(START)


@given(st.integers(0, 200_000), st.integers(0, 10**10))
def test_printed_duration_reads_back(months: int, seconds: int) -> None:
    if months or seconds:
        duration = Duration(months, seconds)
        if months < 12 * 9999:
            assert Duration.parse(str(duration)) == duration


@given(st.text(alphabet="PT0123456789YMWDHS.-", max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert Duration.parse(text).after(START) > START


@given(st.integers(1, 10**9))
def test_seconds_are_exact(seconds: int) -> None:
    assert Duration(seconds=seconds).after(START) - START == timedelta(seconds=seconds)
