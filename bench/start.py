"""``start``: from nothing to the first answer, and from a stopped server to the first answer."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.figure import Figure
from bench.installation import Installation

COLD_SECONDS = 10
WARM_SECONDS = 4


def measure() -> Figure:
    """Cold is ``intaglio init`` and ``intaglio serve`` with a fresh embedded database; warm is ``intaglio serve``."""
    figure = Figure("start")
    colds, warms = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="intaglio-bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            folder.chmod(0o711)
            product = Installation(folder, WORKERS="2")
            began = time.perf_counter()
            product.run("init")
            product.start()
            colds.append(time.perf_counter() - began)
            product.stop()
            began = time.perf_counter()
            product.start()
            warms.append(time.perf_counter() - began)
            product.stop()
    figure.add("cold start", sorted(colds)[1], "s", "<", COLD_SECONDS, "init + serve, fresh embedded database")
    figure.add("warm start", sorted(warms)[1], "s", "<", WARM_SECONDS, "serve")
    figure.measured = {"cold_seconds": colds, "warm_seconds": warms}
    return figure
