"""``memory``: resident memory of idle workers."""

from __future__ import annotations

import time

from bench import process
from bench.figure import Figure
from bench.installation import installation

LIMIT_MIB = 150
REST_SECONDS = 3.0


def measure() -> Figure:
    """After one certificate was issued and one OCSP answer given by each path, then a rest."""
    figure = Figure("memory")
    with installation() as product:
        for number in range(8):
            product.issue(str(number))
        time.sleep(REST_SECONDS)
        sizes = {name: process.resident(pid) for name, pid in product.runtime.processes.items()}
    for name, size in sorted(sizes.items()):
        figure.add(f"idle {name}", size, "MiB", "<", LIMIT_MIB)
    figure.measured = {"resident_mib": sizes}
    return figure
