"""A real agent beside a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.product import Product, eventually


@contextmanager
def running_agent(product: Product, name: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """An agent of the service ``name`` in a trust domain of its own, once it holds a certificate; and its folder."""
    domain = f"{name}.agents.example"
    product.run("org", "create", name)
    product.run("mtls", "domain", "create", domain, "--environment", name, "--org", name, "--new-ca")
    product.run("mtls", "identity", "add", "service", name, "--domain", domain, "--team", "tests")
    token, trust = product.work / f"{name}.token", product.work / f"{name}-server-ca.pem"
    token.write_text(product.run("mtls", "agent", "token", f"service:{name}@{domain}").splitlines()[0])
    product.run("tls", "ca-certificate", "--out", trust)
    folder, log = product.work / f"{name}-agent", product.work / f"{name}-agent.log"
    arguments = ("--server", product.url("enroll"), "--ca-file", trust, "--token-file", token, "--out", folder)
    with open(log, "wb") as output:
        agent = subprocess.Popen(
            [Path(sys.executable).with_name("intaglio"), "mtls", "agent", "run", *map(str, arguments)],
            stdout=output,
            stderr=output,
            cwd=product.work,
            env=product.environment,
        )
    try:
        held = folder / "current" / "tls.crt"
        eventually(lambda: held.exists() or agent.poll() is not None, what=lambda: f"a certificate: {log.read_text()}")
        assert agent.poll() is None, log.read_text()
        yield agent, folder
    finally:
        agent.terminate()
        agent.wait()
