"""The one place that reads the clock. Tests replace it; nothing else in Intaglio calls ``datetime.now``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

_source: Callable[[], datetime] = partial(datetime.now, UTC)  # replaced as a whole by `frozen`


def now() -> datetime:
    """The current time, aware, in UTC."""
    return _source()


#: Seconds on a clock that never jumps; for durations and timeouts only.
monotonic: Callable[[], float] = time.monotonic


@contextlib.contextmanager
def frozen(at: datetime) -> Iterator[Callable[[timedelta], None]]:
    """Stop the clock at ``at`` and yield a function that moves it. For tests and for dry runs of schedules."""
    global _source
    current = at.astimezone(UTC)

    def advance(step: timedelta) -> None:
        nonlocal current
        current += step

    previous, _source = _source, lambda: current
    try:
        yield advance
    finally:
        _source = previous


def rfc3339(moment: datetime) -> str:
    """``2026-01-02T08:33:49Z``: UTC, always with seconds, never with a fraction (clients parse exactly this)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
