"""``acme``: whole orders by ACME, from newOrder over a validated http-01 challenge to the downloaded certificate."""

from __future__ import annotations

import json
import socket
import urllib.request
from ssl import create_default_context

from bench import acme_load
from bench.figure import Figure
from bench.installation import CA, PROFILE, installation

ORDERS_PER_SECOND = 50
P99_MILLISECONDS = 150
CONNECTIONS = 16
SECONDS = 10.0


def measure() -> Figure:
    """16 accounts that order without a pause; client, challenge server, database and two workers share the machine."""
    figure = Figure("acme")
    port = _free_port()
    with installation() as product:
        product.run("settings", "set", 'outgoing.networks=["127.0.0.0/8"]')
        validation = json.dumps({"http_port": port})
        options = ("--option", f"validation={validation}", "--option", 'rates={"orders_per_account": null}')
        product.run("enroll", "endpoint", "create", "-p", "acme", "--ca", CA, "--profile", PROFILE, *options)
        anchor = product.mutual_tls["ca"]
        url = product.url("enroll", f"/acme/main/{CA}/{PROFILE}/directory")
        with urllib.request.urlopen(url, context=create_default_context(cafile=anchor)) as answer:
            directory = json.load(answer)
        result = acme_load.run(directory=directory, ca=anchor, port=port, connections=CONNECTIONS, seconds=SECONDS)
        report = product.json("audit", "verify")
    slowest = max(result.p99, key=lambda name: result.p99[name])
    figure.add("orders", result.rate, "/s", ">=", ORDERS_PER_SECOND, f"{CONNECTIONS} accounts")
    figure.add("p99 of every request", result.p99[slowest], "ms", "<", P99_MILLISECONDS, slowest)
    figure.add("refusals", sum(result.problems.values()), "", "<=", 0)
    figure.measured = {"load": result.__dict__, "audit": report}
    return figure


def _free_port() -> int:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        port: int = stream.getsockname()[1]
        return port
