"""Numbers about the sources of status authorities. Written by the jobs process that reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import Counter, Gauge

from intaglio.validation.sources.freshness import State

#: 1 when the last CRL of an authority ends within its warning time, else 0. The name is what operators know.
crl_expiration_warning = Gauge(
    "CRLExpirationWarning", "Whether a CRL ends soon.", ["authority"], multiprocess_mode="mostrecent"
)
#: nextUpdate of the CRL that ends first (seconds since 1970).
crl_next_update = Gauge(
    "intaglio_status_crl_next_update_timestamp_seconds", "When the first CRL ends.", ["authority"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
#: The last successful look at a source (seconds since 1970).
source_ok = Gauge(
    "intaglio_status_source_ok_timestamp_seconds", "Last successful look at a source.", ["authority"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
#: 1 while answers are given from what is known, 0 while it is incomplete or stale.
source_up = Gauge(
    "intaglio_status_source_up", "Whether what is known is complete and current.", ["authority"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
#: Certificates known of an authority.
source_entries = Gauge(
    "intaglio_status_entries", "Certificates known.", ["authority"], multiprocess_mode="mostrecent"
)
#: Looks at sources by what came of them: changed, unchanged, failed.
source_looks = Counter("intaglio_status_source_looks", "Looks at sources.", ["authority", "outcome"])


def publish(states: Mapping[str, State], warned: Iterable[str], now: datetime, gone: Iterable[str]) -> None:
    """Write the numbers of all authorities by name. ``warned`` are those whose CRL ends soon, ``gone`` those that are
    not read any more: a label set cannot be taken back from numbers that processes share, so it is no number."""
    soon = set(warned)
    for name, state in states.items():
        source_up.labels(name).set(state.reason_at(now) is None)
        source_entries.labels(name).set(state.entries)
        source_ok.labels(name).set(math.nan if state.last_ok_at is None else state.last_ok_at.timestamp())
        if state.next_update is not None:
            crl_next_update.labels(name).set(state.next_update.timestamp())
            crl_expiration_warning.labels(name).set(name in soon)
    for name in gone:
        for gauge in (source_up, source_entries, source_ok, crl_next_update, crl_expiration_warning):
            gauge.labels(name).set(math.nan)
