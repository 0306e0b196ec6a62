"""``crl``: a CRL with 100,000 entries."""

from __future__ import annotations

import subprocess
import time
import urllib.request

from bench import fill, process
from bench.figure import Figure
from bench.installation import CA, installation
from intaglio.db.embedded import EmbeddedPostgres

ENTRIES = 100_000
SECONDS = 3
MEMORY_MIB = 200


def measure() -> Figure:
    """Issue it three times through the management API; the peak is that of whichever process did it, above idle."""
    figure = Figure("crl")
    with installation() as product:
        product.issue("template")
        url = EmbeddedPostgres(product.data).url
        fill.add_certificates(url, ENTRIES)
        fill.revoke(url, ENTRIES)
        pids = list(product.runtime.processes.values())
        idle = {pid: process.resident(pid) for pid in pids}
        for pid in pids:
            process.forget_peak(pid)
        took = []
        for _ in range(3):
            began = time.perf_counter()
            product.run("crl", "issue", CA)
            took.append(time.perf_counter() - began)
        growth = max(process.peak(pid) - idle[pid] for pid in pids)
        crl = product.work / "crl.der"
        with urllib.request.urlopen(
            product.url("public", f"/crl/{CA.replace('~', '/')}/crl.crl"), timeout=10
        ) as answer:
            crl.write_bytes(answer.read())
        text = subprocess.run(
            ["openssl", "crl", "-inform", "DER", "-in", crl, "-noout", "-text"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    entries = text.count("Serial Number:")
    figure.add("issue", sorted(took)[1], "s", "<", SECONDS, "command line included")
    figure.add("peak above idle", growth, "MiB", "<", MEMORY_MIB)
    figure.add("entries read by openssl", entries, "", ">=", ENTRIES)
    figure.measured = {"seconds": took, "peak_above_idle_mib": growth}
    return figure
