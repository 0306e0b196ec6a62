"""``agent``: resident memory of what runs beside services, the agent and a gateway of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.mtls.proxy.running import Pki
from tests.mtls.proxy.scripted import ScriptedService
from tests.support.agents import running_agent
from tests.support.product import Product, eventually

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
    with _gateway() as (gateway, pki, port):
        idle = process.resident(gateway.pid)
        busy = _with_connections(gateway, pki, port)
    figure.add("gateway", idle, "MiB", "<", GATEWAY_MIB, "idle")
    figure.add("gateway", busy, "MiB", "<", GATEWAY_MIB, f"{CONNECTIONS} open connections")
    figure.measured = {"agent_mib": size, "gateway_idle_mib": idle, "gateway_busy_mib": busy}
    return figure


def _with_connections(gateway: subprocess.Popen[bytes], pki: Pki, port: int) -> float:
    certificate, key = pki.client().write(pki.folder, "client")
    trust = httpx.create_ssl_context(verify=str(pki.folder / "server-ca.pem"), trust_env=False)
    trust.load_cert_chain(certificate, key)
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = stack.enter_context(httpx.Client(verify=trust, timeout=30))
            client.get(f"https://localhost:{port}/").raise_for_status()
        return process.resident(gateway.pid)


@contextlib.contextmanager
def _gateway() -> Iterator[tuple[subprocess.Popen[bytes], Pki, int]]:
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-") as name:
        folder, service = Path(name), ScriptedService()
        pki, log, config = Pki(folder), folder / "gateway.log", folder / "gateway.yaml"
        config.write_text(
            f"listen: ['127.0.0.1:0']\ncertificate: server.pem\nkey: server.key\nupstream: {{url: '{service.url}'}}\n"
            "decisions: {trust: trust.pem, crls: [list.crl], identities: ['spiffe://example/*']}\n"
        )
        program = str(Path(sys.executable).with_name("intaglio"))
        command = [program, "mtls", "gateway", "run", "--config", str(config)]
        with open(log, "wb") as output:
            gateway = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
        try:
            eventually(lambda: b"accepts on" in log.read_bytes(), what=log.read_text)
            port = int(log.read_text().partition("accepts on 127.0.0.1:")[2].partition(";")[0])
            yield gateway, pki, port
        finally:
            gateway.terminate()
            gateway.wait()
            service.close()
