"""``issue``: durable issuance over the REST gateway with mutual TLS, against bare in-process building and signing."""

from __future__ import annotations

from bench import reference
from bench.figure import Figure
from bench.installation import installation

SHARE = 0.15
P99_MILLISECONDS = 100
CONNECTIONS = 32
SECONDS = 8.0


def measure() -> Figure:
    """32 kept-alive connections of one client; every answer is a certificate whose row, event and audit record are
    committed with synchronous commit on."""
    figure = Figure("issue")
    with installation() as product:
        product.enrolments(connections=CONNECTIONS, seconds=2)
        bare_before = reference.rate(reference.bare_certificate(), seconds=2)
        result = product.enrolments(connections=CONNECTIONS, seconds=SECONDS)
        bare_after = reference.rate(reference.bare_certificate(), seconds=2)
        report = product.json("audit", "verify")
    bare = (bare_before + bare_after) / 2
    wrong = {status: count for status, count in result.statuses.items() if status != "200"}
    note = f"{result.rate:,.0f}/s of {bare:,.0f}/s"
    figure.add("durable over mTLS / bare cryptography", result.rate / bare, "", ">=", SHARE, note)
    figure.add("p99 at 32 connections", result.p99, "ms", "<", P99_MILLISECONDS, f"p50 {result.p50:.1f} ms")
    figure.add("answers other than 200", sum(wrong.values()), "", "<=", 0)
    figure.measured = {"bare_per_second": bare, "load": result.__dict__, "audit": report}
    return figure
