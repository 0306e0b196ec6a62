"""Caddy with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.ingress import (
    Credential,
    Domain,
    Ingress,
    domain_of,
    forged_headers,
    refused_soon,
    rendered,
    running,
)
from tests.support.product import Product
from tests.support.programs import run


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@pytest.fixture
def caller(domain: Domain, tmp_path: Path) -> Credential:
    return domain.issue("caller", tmp_path)


@contextlib.contextmanager
def caddy(domain: Domain, folder: Path, *options: str, **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "caddy", folder, *options, **{"revocation": "live", **settings}) as ingress:
        environment = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        configuration = folder / "Caddyfile"
        run("caddy", "validate", "--adapter", "caddyfile", "--config", configuration, environment=environment)
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", configuration]
        with running(ingress, command, **environment):
            yield ingress


def test_a_client_is_let_in_until_it_is_revoked(domain: Domain, tmp_path: Path) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with caddy(domain, tmp_path / "caddy") as ingress:
        assert ingress.passes(good)
        assert ingress.passes(bad)
        assert not ingress.passes(None)
        domain.revoke(bad)
        refused_soon(ingress, bad, lambda: None)
        assert ingress.status(bad) == 401
        assert ingress.passes(good)
        assert ingress.latency()["in_time"] is True


def test_what_a_client_says_of_itself_is_taken_away(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with caddy(domain, tmp_path / "caddy") as ingress:
        for lies in forged_headers():
            seen = ingress.seen(caller, *lies)
            assert "forged" not in seen.values(), seen
        assert seen["client-cert"].startswith(":MII")
        assert seen["x-intaglio-identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"
        assert "x-intaglio-token" not in seen


def test_a_permissive_ingress_lets_everybody_through(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with caddy(domain, tmp_path / "caddy", mode="permissive") as ingress:
        assert ingress.passes(None)
        assert not ingress.seen(None, "-H", "Client-Cert: :AAAA:").get("client-cert")
        assert ingress.seen(caller)["client-cert"].startswith(":MII")
        assert "Acceptable client certificate CA names" in ingress.ca_names()


def test_the_ip_rule_is_a_barrier_of_its_own(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with caddy(domain, tmp_path / "caddy", "--allow", "127.0.0.2/32") as ingress:
        assert ingress.status(caller) == 403
        assert ingress.passes(caller, "--interface", "127.0.0.2")
