"""Metrics of timestamping; how long answers take is measured for every listener already (route ``/tsa``).

Every metric has labels; see ``server.metrics`` for how processes share them.
"""

from __future__ import annotations

import math
import socket
from collections import Counter as Counts

from prometheus_client import Counter, Gauge

from intaglio.timestamping.clock.gate import ClockState

#: Requests answered, by issuer and status: granted, or why not.
requests = Counter("intaglio_timestamp_requests", "Timestamp requests answered.", ["issuer", "status"])
#: How far the clock of a host is ahead of true time, in seconds; not a number while that is unknown.
clock_offset = Gauge(
    "intaglio_timestamp_clock_offset_seconds", "Offset of the clock.", ["host"], multiprocess_mode="mostrecent"
)
#: 1 while timestamps may be given by the clock of a host, else 0.
clock_good = Gauge(
    "intaglio_timestamp_clock_good", "Whether the clock is right.", ["host"], multiprocess_mode="mostrecent"
)

_HOST = socket.gethostname()


class Tally:
    """Answers of one process between two flushes; a counter shared between processes costs more than a dictionary."""

    def __init__(self) -> None:
        self._counts: Counts[tuple[str, str]] = Counts()

    def add(self, issuer: str, status: str) -> None:
        """One answered request."""
        self._counts[issuer, status] += 1

    def flush(self, clock: ClockState) -> None:
        """Hand everything over, and how the clock is."""
        counts, self._counts = self._counts, Counts()
        for (issuer, status), number in counts.items():
            requests.labels(issuer, status).inc(number)
        clock_good.labels(_HOST).set(int(clock.good))
        clock_offset.labels(_HOST).set(math.nan if clock.offset is None else clock.offset)
