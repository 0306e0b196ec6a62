"""``cmp``: certificates by CMP (ir under a shared secret, confirmed implicitly), against issuance over the gateway."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Sequence
from dataclasses import replace

from tests.support.cmp_client import CmpClient, certificate_request

from bench import load
from bench.figure import Figure
from bench.installation import Installation, installation
from intaglio.asn1 import cmp
from intaglio.asn1.cmp import Body

SHARE = 0.40
P99_MILLISECONDS = 200
CONNECTIONS = 32
SECONDS = 6.0
#: More than can be answered: a transaction id is good for one message.
MESSAGES_PER_SECOND = 1_500
PROFILE = "cmp-digital-signature"
CA = "bench~devices"
REFERENCE, SECRET = "device", "a shared secret of enough length"
TYPE = "application/pkixcmp"


def measure() -> Figure:
    """Both loads in one run against the same two workers; the gateway's with mutual TLS, CMP's over plain HTTP."""
    figure = Figure("cmp")
    with installation() as product:
        endpoint(product)
        requests = messages(int(MESSAGES_PER_SECOND * SECONDS * 1.2))
        product.enrolments(connections=CONNECTIONS, seconds=2)
        before = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        known = granted(product)
        result = load.run(
            host="127.0.0.1",
            port=product.runtime.port("public"),
            requests=requests,
            connections=CONNECTIONS,
            seconds=SECONDS,
        )
        issued = granted(product) - known
        after = product.enrolments(connections=CONNECTIONS, seconds=SECONDS / 2)
        report = product.json("audit", "verify")
    gateway = (before.rate + after.rate) / 2
    answered = round(result.rate * SECONDS)
    note = f"{result.rate:,.0f}/s of {gateway:,.0f}/s"
    figure.add("certificates by CMP / over the gateway", result.rate / gateway, "", ">=", SHARE, note)
    figure.add("p99 at 32 connections", result.p99, "ms", "<", P99_MILLISECONDS, f"p50 {result.p50:.1f} ms")
    figure.add("answers without a certificate", max(0, answered - issued), "", "<=", 0)
    figure.measured = {"gateway_per_second": gateway, "load": result.__dict__, "issued": issued, "audit": report}
    return figure


def endpoint(product: Installation) -> None:
    """A CMP endpoint of a CA with a profile for it, and its secret."""
    (product.work / "secret").write_text(SECRET)
    product.run(
        "ca", "create", "issuing", CA, "--issuer", "root", "--subject", "CN=Devices,O=Bench", "--key", "P-256",
        "--profile", PROFILE, "--administrator", "alice", "--save-passwords",
    )  # fmt: skip
    product.run("enroll", "endpoint", "create", "-p", "cmp", "--ca", CA, "--profile", PROFILE, "--name", "default")
    product.run(
        "enroll", "credential", "create", "cmp/default", "--kind", "mac", "--name", REFERENCE, "--secret-file", "secret"
    )


def messages(count: int, names: Sequence[str] = ("device.bench.test",)) -> list[bytes]:
    """HTTP requests with an ir each, of transactions of their own."""
    content, _ = certificate_request(subject="CN=device", dns=names)
    body = cmp.body(Body.IR, content)
    client = CmpClient(_nowhere, secret=(REFERENCE, SECRET.encode()), implicit=True)
    header, found = client.header(), []
    for _ in range(count):
        fresh = replace(header, transaction_id=secrets.token_bytes(16), sender_nonce=secrets.token_bytes(16))
        found.append(
            load.http_request("POST", "/.well-known/cmp", "localhost", client.protect(fresh, body), TYPE)
        )
    return found


def granted(product: Installation) -> int:
    """How many certificates CMP gave."""
    with urllib.request.urlopen(product.url("health", "/metrics"), timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    wanted = ('protocol="cmp"', 'outcome="granted"')
    return round(
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("intaglio_enrollment_requests_total") and all(part in line for part in wanted)
        )
    )


async def _nowhere(message: bytes) -> bytes:
    raise AssertionError("the load generator sends")
