"""Envoy with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.ingress import Credential, Domain, Ingress, domain_of, refused_soon, rendered, running
from tests.support.product import Product, eventually
from tests.support.programs import run

from intaglio.mtls.ingresses.rendering import OURS

_ENVOY = Path(sys.executable).with_name("envoy")


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@pytest.fixture
def caller(domain: Domain, tmp_path: Path) -> Credential:
    return domain.issue("caller", tmp_path)


@contextlib.contextmanager
def envoy(domain: Domain, folder: Path, *options: str, **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "envoy", folder, *options, **settings) as ingress:
        common = ["--config-path", folder / "envoy.yaml", "--log-level", "warn"]
        run(str(_ENVOY), "--mode", "validate", *common)
        with running(ingress, [_ENVOY, *common, "--use-dynamic-base-id", "--concurrency", "1"]):
            ingress.commands = {"TEST_COMMAND": f"{_ENVOY} --mode validate --config-path {folder}/envoy.yaml"}
            yield ingress


@pytest.mark.parametrize("revocation", ["crl", "live"])
def test_a_client_is_let_in_until_it_is_revoked(domain: Domain, tmp_path: Path, revocation: str) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with envoy(domain, tmp_path / "envoy", revocation=revocation) as ingress:
        eventually(lambda: ingress.passes(good), what="Envoy is ready")
        assert ingress.passes(bad)
        assert not ingress.passes(None)
        domain.revoke(bad)
        refused_soon(ingress, bad, ingress.refresh if revocation == "crl" else lambda: None)
        assert ingress.passes(good)
        assert ingress.latency()["in_time"] is True


@pytest.mark.parametrize("revocation", ["crl", "live"])
def test_what_a_client_says_of_itself_is_taken_away(
    domain: Domain, tmp_path: Path, caller: Credential, revocation: str
) -> None:
    lies = [option for name in OURS for option in ("-H", f"{name}: forged")]
    with envoy(domain, tmp_path / "envoy", revocation=revocation) as ingress:
        eventually(lambda: ingress.passes(caller), what="Envoy is ready")
        seen = ingress.seen(caller, *lies)
        assert "forged" not in seen.values()
        assert "Cert=" in seen["x-forwarded-client-cert"]
        assert not ingress.passes(caller, "-H", "Client_Cert: forged")
        if revocation == "live":
            assert seen["x-intaglio-identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"
            assert seen["client-cert"].startswith(":MII")


def test_a_permissive_ingress_lets_everybody_through(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with envoy(domain, tmp_path / "envoy", mode="permissive", revocation="live") as ingress:
        eventually(lambda: ingress.passes(None), what="Envoy is ready")
        assert not {"client-cert", "x-forwarded-client-cert"} & set(ingress.seen(None, "-H", "Client-Cert: :AAAA:"))
        assert ingress.seen(caller)["client-cert"].startswith(":MII")


def test_an_ingress_without_news_refuses_everybody(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with envoy(domain, tmp_path / "envoy") as ingress:
        eventually(lambda: ingress.passes(caller), what="Envoy is ready")
        script = ingress.folder / "refresh"
        script.write_text(script.read_text().replace("/crl/edge/", "/crl/nowhere/"))
        ingress.refresh(STALE_SECONDS="0")
        eventually(lambda: not ingress.passes(caller), what="everybody is refused")


def test_the_ip_rule_is_a_barrier_of_its_own_and_the_log_names_the_caller(
    domain: Domain, tmp_path: Path, caller: Credential
) -> None:
    with envoy(domain, tmp_path / "envoy", "--allow", "127.0.0.2/32") as ingress:
        eventually(lambda: ingress.status(caller) == 403, what="Envoy is ready")
        assert ingress.passes(caller, "--interface", "127.0.0.2")
        assert "Acceptable client certificate CA names" in ingress.ca_names()

        def named() -> bool:
            lines = (ingress.folder / "access.log").read_text().splitlines()
            return any(str(json.loads(line).get("uri", "")).endswith("/svc/caller") for line in lines)

        eventually(named, what="the log names the caller")
        log = ingress.folder / "access.log"
        done = domain.product.json("mtls", "logs", "import", f"edge~{ingress.name}", log, "--format", "envoy")
        assert done["bad"] == 0
        assert done["events"] >= 1
