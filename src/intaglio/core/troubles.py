"""Trouble that lasts is reported when it begins, now and then while it lasts, and when it is over."""

from __future__ import annotations

from collections.abc import Hashable

from intaglio.core.clock import monotonic

#: Seconds between two reports of the same trouble.
INTERVAL = 30.0


class Troubles:
    """Which troubles are going on, and which of them are worth a line in the log now.

    What is tried again several times a second would otherwise fill the log with one and the same line, and hide the
    others.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._reported: dict[Hashable, float] = {}

    def worth_reporting(self, trouble: Hashable) -> bool:
        """Whether this is new, or was last reported more than the interval ago."""
        now, last = monotonic(), self._reported.get(trouble)
        if last is not None and now - last < self._interval:
            return False
        self._reported[trouble] = now
        return True

    def over(self, *troubles: Hashable) -> bool:
        """Note that they are over; whether any of them had been going on."""
        going_on = len(self._reported)
        for trouble in troubles:
            self._reported.pop(trouble, None)
        return len(self._reported) < going_on
