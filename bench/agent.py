"""``agent``: resident memory of what runs beside services, the agent and a gateway of its own."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.mtls.proxy.standalone import standalone
from tests.support.agents import running_agent
from tests.support.product import Product

from bench import process
from bench.figure import Figure

AGENT_MIB = 60
GATEWAY_MIB = 120
CONNECTIONS = 100


def measure() -> Figure:
    """An agent that holds a certificate and waits for its renewal; a gateway that decides by files, with open
    connections over each of which a request was answered."""
    figure = Figure("agent")
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Product(folder)
        product.run("init")
        product.start()
        try:
            with running_agent(product, "bench") as (agent, _):
                size = process.resident(agent.pid)
        finally:
            product.stop()
    figure.add("agent", size, "MiB", "<", AGENT_MIB, "holds a certificate")
    with standalone() as gateway:
        idle = process.resident(gateway.process.pid)
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(gateway.client()).get("/").raise_for_status()
            busy = process.resident(gateway.process.pid)
    figure.add("gateway", idle, "MiB", "<", GATEWAY_MIB, "idle")
    figure.add("gateway", busy, "MiB", "<", GATEWAY_MIB, f"{CONNECTIONS} open connections")
    figure.measured = {"agent_mib": size, "gateway_idle_mib": idle, "gateway_busy_mib": busy}
    return figure
