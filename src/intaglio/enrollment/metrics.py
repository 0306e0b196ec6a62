"""What the enrolment protocols count."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from intaglio.enrollment.values import Endpoint, Protocol

requests = Counter(
    "intaglio_enrollment_requests",
    "Requests of enrolment protocols.",
    ("protocol", "tenant", "ca", "endpoint", "operation", "outcome"),
)
duration = Histogram(
    "intaglio_enrollment_seconds",
    "Seconds until a request of an enrolment protocol was answered.",
    ("protocol", "operation"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def note(protocol: Protocol, endpoint: Endpoint | None, operation: str, outcome: str, seconds: float) -> None:
    """Count one answered request. All labels come from closed sets or from the configuration."""
    where = ("", "", "") if endpoint is None else (endpoint.tenant, endpoint.ca, endpoint.name)
    requests.labels(protocol.value, *where, operation, outcome).inc()
    duration.labels(protocol.value, operation).observe(seconds)
