"""``est``: simpleenroll over mutual TLS, against issuance over the gateway in the same run."""

from __future__ import annotations

import base64

from bench import load, reference
from bench.figure import Figure
from bench.installation import PREPARED_REQUESTS, Installation, installation

SHARE = 0.70
P99_MILLISECONDS = 150
CONNECTIONS = 16
SECONDS = 6.0
PROFILE = "est-digital-signature"
CA = "bench~devices"


def measure() -> Figure:
    """16 kept-alive connections of a device that has a certificate of the CA; every answer is a certificate whose row,
    event and audit record are committed."""
    figure = Figure("est")
    with installation() as product:
        tls = device(product)
        requests = [_request(number) for number in range(PREPARED_REQUESTS)]
        port = product.runtime.port("enroll")
        where = {"host": "127.0.0.1", "port": port, "connections": CONNECTIONS, "tls": tls}
        load.run(requests=requests, seconds=2, **where)  # type: ignore[arg-type]
        product.enrolments(connections=CONNECTIONS, seconds=2)
        before = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        result = load.run(requests=requests, seconds=SECONDS, **where)  # type: ignore[arg-type]
        after = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        report = product.json("audit", "verify")
    gateway = (before.rate + after.rate) / 2
    wrong = {status: count for status, count in result.statuses.items() if status != "200"}
    note = f"{result.rate:,.0f}/s of {gateway:,.0f}/s"
    figure.add("simpleenroll over mTLS / over the gateway", result.rate / gateway, "", ">=", SHARE, note)
    figure.add("p99 at 16 connections", result.p99, "ms", "<", P99_MILLISECONDS, f"p50 {result.p50:.1f} ms")
    figure.add("answers other than 200", sum(wrong.values()), "", "<=", 0)
    figure.measured = {"gateway_per_second": gateway, "load": result.__dict__, "audit": report}
    return figure


def device(product: Installation) -> dict[str, str]:
    """An endpoint for devices with a certificate, and the TLS files of one."""
    product.run(
        "ca", "create", "issuing", CA, "--issuer", "root", "--subject", "CN=Devices,O=Bench", "--key", "P-256",
        "--profile", PROFILE, "--administrator", "alice", "--save-passwords",
    )  # fmt: skip
    options = ("--option", "authentication=certificate", "--option", "certificate_names=any")
    product.run(
        "enroll", "endpoint", "create", "-p", "est", "--ca", CA, "--profile", PROFILE, "--name", "default", *options
    )
    product.run(
        "cert", "issue", "--ca", CA, "--profile", PROFILE, "--subject", "CN=device", "--key-out", "device.key",
        "--out", "device.crt",
    )  # fmt: skip
    return {**product.mutual_tls, "cert": str(product.work / "device.crt"), "key": str(product.work / "device.key")}


def _request(number: int) -> bytes:
    body = base64.b64encode(reference.certificate_request(f"host-{number}.bench.test")[1])
    return load.http_request("POST", "/.well-known/est/simpleenroll", "localhost", body, "application/pkcs10")
