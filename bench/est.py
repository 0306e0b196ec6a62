"""``est``: simpleenroll over mutual TLS, against issuance over the gateway in the same run."""

from __future__ import annotations

import base64
import statistics

from bench import load, reference
from bench.figure import Figure
from bench.installation import PREPARED_REQUESTS, Installation, installation

SHARE = 0.70
P99_MILLISECONDS = 150
CONNECTIONS = 16
#: Both loads in turn, so that what else the machine does meets both alike.
ROUNDS, SECONDS = 5, 2.0
PROFILE = "est-digital-signature"
CA = "bench~machines"


def measure() -> Figure:
    """16 kept-alive connections of a device that has a certificate of the CA; every answer is a certificate whose row,
    event and audit record are committed."""
    figure = Figure("est")
    with installation() as product:
        tls = device(product)
        requests = [_request(number) for number in range(PREPARED_REQUESTS)]

        def enrol(seconds: float) -> load.Result:
            return load.run(
                host="127.0.0.1",
                port=product.runtime.port("enroll"),
                requests=requests,
                connections=CONNECTIONS,
                seconds=seconds,
                tls=tls,
            )

        enrol(2)
        product.enrolments(connections=CONNECTIONS, seconds=2)
        rounds = [
            (enrol(SECONDS), product.enrolments(connections=CONNECTIONS, seconds=SECONDS)) for _ in range(ROUNDS)
        ]
        report = product.json("audit", "verify")
    est, gateway = (statistics.median(each.rate for each in side) for side in zip(*rounds, strict=True))
    share = statistics.median(mine.rate / theirs.rate for mine, theirs in rounds)
    wrong = sum(count for mine, _ in rounds for status, count in mine.statuses.items() if status != "200")
    p99 = statistics.median(mine.p99 for mine, _ in rounds)
    note = f"{est:,.0f}/s of {gateway:,.0f}/s"
    figure.add("simpleenroll over mTLS / over the gateway", share, "", ">=", SHARE, note)
    figure.add("p99 at 16 connections", p99, "ms", "<", P99_MILLISECONDS)
    figure.add("answers other than 200", wrong, "", "<=", 0)
    figure.measured = {"rounds": [(mine.__dict__, theirs.__dict__) for mine, theirs in rounds], "audit": report}
    return figure


def device(product: Installation) -> dict[str, str]:
    """An endpoint for devices with a certificate, and the TLS files of one."""
    product.run(
        "ca", "create", "issuing", CA, "--issuer", "root", "--subject", "CN=Machines,O=Bench", "--key", "P-256",
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
