"""Drills that connect: servers made by others with the configuration rendered for them, measured by real handshakes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.ingress import Domain, Ingress, domain_of
from tests.interop.test_ingress_haproxy import haproxy
from tests.interop.test_ingress_nginx import nginx
from tests.support.product import Product

_STARTED: dict[str, Callable[..., Any]] = {"nginx": nginx, "haproxy": haproxy}


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@contextlib.contextmanager
def timer(ingress: Ingress) -> Iterator[None]:
    """What the rendered timer does, more often."""
    stop = threading.Event()

    def refresh() -> None:
        while not stop.is_set():
            ingress.refresh()
            stop.wait(1)

    running = threading.Thread(target=refresh)
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join()


@pytest.mark.parametrize("type", ["nginx", "haproxy"])
def test_drill_measures_a_server_of_others_in_the_handshake(domain: Domain, tmp_path: Path, type: str) -> None:
    with _STARTED[type](domain, tmp_path / type, revocation="crl") as ingress, timer(ingress):
        where = f"{ingress.name}=https://localhost:{ingress.port}/"
        roots = domain.roots(tmp_path)
        domain.product.run("settings", "set", "outgoing.networks=[127.0.0.0/8, '::1/128']")
        outcome = domain.product.attempt(
            "--json", "mtls", "drill", "revoke", domain.name, "--connect", where, "--server-ca", roots
        )
        shown = domain.product.json("mtls", "drill", "list", "--org", "edge")[0]
    mine = [row for row in shown["rows"] if row["ingress"] == f"edge~{ingress.name}"]
    seen = {row["step"]: row for row in mine}
    assert all(row["passed"] for row in mine), (outcome, mine)
    refused = seen["refuses the revoked certificate"]
    assert refused["observed"].startswith(("status 4", "no connection"))
    assert 0 < refused["seconds"] < 60
    assert seen["takes the new certificate"]["observed"] == "accepted"
    assert seen["takes the certificate issued anew"]["observed"] == "accepted"
