"""The metrics of the server, and how several processes answer one scrape.

Every process keeps its numbers in files under ``DATA_DIR/run/metrics`` (the multi-process mode of prometheus-client),
named after its place (``worker-0``, ``jobs``) and not after its process id, so that a replaced worker continues the
counters of the one that died. Whichever worker gets the scrape reads the files of all.

The library decides at the first use of a label set where its number lives, so :func:`share` must come before that, and
every metric must have labels. Without :func:`share`, as in tests, numbers stay in the process. Times are in seconds,
sizes in octets.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the library's name for it

_directory: Path | None = None
_place = "supervisor"

#: Requests answered, by listener, route template, method, status, and role of the caller (empty: none known).
requests_total = Counter(
    "intaglio_requests", "Requests answered.", ["listener", "route", "method", "status", "role"]
)


class GatheredHistogram(Histogram):
    """A histogram that also takes many observations at once; one at a time costs too much on hot paths."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """The same as observing each amount, in seconds."""
        counts: Counts[int] = Counts(bisect_left(self._upper_bounds, amount) for amount in amounts)
        self._sum.inc(sum(amounts))
        for bucket, count in counts.items():
            self._buckets[bucket].inc(count)


#: From the head of the request until the last octet of the answer was handed to the connection.
request_seconds = GatheredHistogram(
    "intaglio_request_duration_seconds", "Time to answer.", ["listener", "route"], buckets=_LATENCY
)
#: Requests being answered at this moment.
requests_in_flight = Gauge(
    "intaglio_requests_in_flight", "Requests being answered.", ["listener"], multiprocess_mode="livesum"
)
#: Open connections, looked at once a second.
connections_open = Gauge("intaglio_connections_open", "Open connections.", ["listener"], multiprocess_mode="livesum")
#: TLS handshakes by how they ended: accepted, certificate-refused, protocol-error, timeout, abandoned.
tls_handshakes = Counter("intaglio_tls_handshakes", "TLS handshakes.", ["listener", "result"])
#: notAfter of the certificate in use per listener, and of CAs and others by name (seconds since 1970).
certificate_expiry = Gauge(
    "intaglio_certificate_expiry_timestamp_seconds",
    "notAfter of a certificate in use.",
    ["kind", "name"],
    multiprocess_mode="mostrecent",
)
#: 1 while a part of the product works (database, keystore, disk ...), else 0. Looked at whenever this is read.
component_up = Gauge(
    "intaglio_component_up", "Whether a part of the product works.", ["component"], multiprocess_mode="mostrecent"
)
#: 1 while a CA can issue, else 0; not a number once the CA is deleted. Looked at whenever this is read.
ca_up = Gauge("intaglio_ca_up", "Whether a CA can issue.", ["ca"], multiprocess_mode="mostrecent")
#: 1 while a token that keys are kept in works, else 0. Looked at whenever this is read.
token_up = Gauge("intaglio_token_up", "Whether a token works.", ["token"], multiprocess_mode="mostrecent")
#: 1 while a process hears of all changes in the database, else 0 and caches are off.
watch_current = Gauge("intaglio_watch_current", "Whether changes are heard of.", ["process"], multiprocess_mode="max")
#: Seconds since a process last knew itself current: how late events can be.
event_lag = Gauge("intaglio_event_lag_seconds", "How late events can be.", ["process"], multiprocess_mode="max")
#: Database connections in use, per process.
pool_in_use = Gauge("intaglio_database_pool_in_use", "Connections in use.", ["process"], multiprocess_mode="max")
#: Resident memory per process.
resident = Gauge("intaglio_process_resident_memory_bytes", "Resident memory.", ["process"], multiprocess_mode="max")
#: Threads per process.
threads = Gauge("intaglio_process_threads", "Threads.", ["process"], multiprocess_mode="max")
#: Collections of the garbage collector per process and generation.
collections = Gauge(
    "intaglio_process_gc_collections", "Garbage collections.", ["process", "generation"], multiprocess_mode="max"
)
#: Processors of this host.
processors = Gauge("intaglio_system_cpu_count", "Processors of this host.", ["process"], multiprocess_mode="max")
#: Times a serving process died and was replaced.
restarts = Counter("intaglio_process_restarts", "Processes replaced.", ["process"])


def share(data_dir: Path) -> None:
    """Let this process and those forked from it share their numbers; those of the previous run are forgotten."""
    global _directory
    _directory = data_dir / "run" / "metrics"
    shutil.rmtree(_directory, ignore_errors=True)
    _directory.mkdir(parents=True)
    os.environ[_VARIABLE] = str(_directory)
    # Asked by every label set when it is made; the library has no other way to name its files.
    values.ValueClass = values.MultiProcessValue(lambda: _place)  # type: ignore[no-untyped-call]


def enter(place: str) -> None:
    """Call first in a forked process: from now on numbers are written under this name (no underscores).

    Counters of a predecessor in the same place are continued; its gauges described a process that is gone.
    """
    global _place
    if _directory is not None:
        for stale in _directory.glob(f"gauge_*_{place}.db"):
            stale.unlink(missing_ok=True)
    _place = place


def sample_process(place: str, *, current: bool, lag: float, pool: int) -> None:
    """Refresh the gauges of this process. Cheap; called every few seconds."""
    watch_current.labels(place).set(int(current))
    event_lag.labels(place).set(lag)
    pool_in_use.labels(place).set(pool)
    resident.labels(place).set(_resident_octets())
    threads.labels(place).set(threading.active_count())
    for generation, counts in enumerate(gc.get_stats()):
        collections.labels(place, str(generation)).set(counts["collections"])
    processors.labels(place).set(os.cpu_count() or 1)


def exposition() -> bytes:
    """All numbers of all processes in the Prometheus text format."""
    if _directory is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(_directory))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _resident_octets() -> int:
    """Resident set size. Source: proc(5), statm."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
