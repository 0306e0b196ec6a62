"""The numbers of a gateway for Prometheus.

In a worker of a server they are part of the server's; a gateway on its own serves them itself. Every metric has labels,
because those without are never shared between processes.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Requests that were decided, by the version of HTTP and the status of the answer (499: the client did not wait).
requests = Counter("intaglio_mtls_gateway_requests", "Requests decided.", ["version", "status"])
#: From the end of the head of a request that passes until its answer is complete.
seconds = Histogram(
    "intaglio_mtls_gateway_request_duration_seconds", "Time to answer what passes.", ["version"], buckets=_SECONDS
)
#: Refusals by reason code, of a handshake or of a request; what is malformed or fails behind the gateway included.
refusals = Counter("intaglio_mtls_gateway_refusals", "Refusals.", ["at", "reason"])
#: Requests that passed although something is wrong, because the gateway does not enforce.
observed = Counter("intaglio_mtls_gateway_observed", "Requests that enforcing would refuse.", ["reason"])
#: TLS handshakes by how they ended: accepted, certificate-refused, protocol-error, timeout, abandoned.
handshakes = Counter("intaglio_mtls_gateway_handshakes", "TLS handshakes.", ["result"])
#: Connections: with a handshake under way, or open.
connections = Gauge("intaglio_mtls_gateway_connections", "Connections.", ["state"], multiprocess_mode="livesum")
#: Open connections that were cut because their caller may no more, by reason code.
cuts = Counter("intaglio_mtls_gateway_connections_cut", "Connections cut.", ["reason"])
#: Connections turned away because there are too many.
turned_away = Counter("intaglio_mtls_gateway_connections_turned_away", "Connections turned away.", ["limit"])
#: Failures of the service behind the gateway: unreachable, untrusted, too slow, wrong HTTP.
upstream_failures = Counter("intaglio_mtls_gateway_upstream_failures", "Failures of the service.", ["code"])

CLIENT_GONE = 499


def exposition() -> str:
    """All numbers of this process in the Prometheus text format."""
    return generate_latest().decode()
