"""Apache httpd with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
import signal
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
from tests.support.product import Product, eventually
from tests.support.programs import run

_MODULES = (
    "mpm_event", "ssl", "headers", "proxy", "proxy_http", "http2", "socache_shmcb", "reqtimeout", "authz_core",
    "authz_host",
)  # fmt: skip
_MAIN = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
ServerName localhost
User nobody
Group nogroup
Include {folder}/apache.conf
"""


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@pytest.fixture
def caller(domain: Domain, tmp_path: Path) -> Credential:
    return domain.issue("caller", tmp_path)


@contextlib.contextmanager
def apache(domain: Domain, folder: Path, *options: str, **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "apache", folder, *options, **settings) as ingress:
        main = folder / "whole.conf"
        loaded = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in _MODULES)
        main.write_text(loaded + _MAIN.format(folder=folder))
        environment = {"APACHE_RUN_DIR": str(folder), "PATH": "/usr/sbin:/usr/bin:/bin"}
        run("apache2", "-t", "-f", main, environment=environment)
        with running(ingress, ["apache2", "-DFOREGROUND", "-f", main], **environment):
            assert ingress.process is not None
            ingress.commands = {
                **environment,
                "TEST_COMMAND": f"apache2 -t -f {main}",
                "RELOAD_COMMAND": f"kill -{signal.SIGUSR1.value} {ingress.process.pid}",
            }
            yield ingress


@pytest.mark.parametrize("revocation", ["crl", "ocsp"])
def test_a_client_is_let_in_until_it_is_revoked(domain: Domain, tmp_path: Path, revocation: str) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with apache(domain, tmp_path / "apache", revocation=revocation) as ingress:
        assert ingress.passes(good)
        assert ingress.passes(bad)
        assert not ingress.passes(None)
        domain.revoke(bad)
        refused_soon(ingress, bad, ingress.refresh if revocation == "crl" else lambda: None)
        assert ingress.passes(good)
        assert ingress.latency()["in_time"] is True


def test_what_a_client_says_of_itself_is_taken_away(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with apache(domain, tmp_path / "apache") as ingress:
        for lies in forged_headers():
            seen = ingress.seen(caller, *lies)
            assert "forged" not in seen.values(), seen
        assert seen["client-cert"].startswith(":MII")
        assert seen["client-cert"].endswith(":")
        assert seen["x-forwarded-client-cert"].startswith('Cert="-----BEGIN%20CERTIFICATE-----')


def test_an_ingress_without_news_refuses_everybody(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with apache(domain, tmp_path / "apache") as ingress:
        script = ingress.folder / "refresh"
        script.write_text(script.read_text().replace("/crl/edge/", "/crl/nowhere/"))
        ingress.refresh(STALE_SECONDS="0")
        eventually(lambda: not ingress.passes(caller), what="everybody is refused")


def test_a_permissive_ingress_lets_everybody_through(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with apache(domain, tmp_path / "apache", mode="permissive") as ingress:
        assert ingress.passes(None)
        assert "client-cert" in ingress.seen(caller)
        assert "client-cert" not in ingress.seen(None, "-H", "Client-Cert: :AAAA:")


def test_the_ip_rule_is_a_barrier_of_its_own(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with apache(domain, tmp_path / "apache", "--allow", "127.0.0.2/32") as ingress:
        assert ingress.status(caller) == 403
        assert ingress.passes(caller, "--interface", "127.0.0.2")


def test_the_acceptable_cas_are_sent_and_the_server_staples(domain: Domain, tmp_path: Path) -> None:
    with apache(domain, tmp_path / "apache") as ingress:
        assert "Acceptable client certificate CA names" in ingress.ca_names()
        eventually(ingress.stapled, what="Apache staples an OCSP answer")
