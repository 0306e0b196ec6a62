"""HAProxy with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
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
from tests.support.programs import PATIENCE, run

_REFUSED = re.compile(rb'"handshake":"[1-9]')


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@pytest.fixture
def caller(domain: Domain, tmp_path: Path) -> Credential:
    return domain.issue("caller", tmp_path)


@contextlib.contextmanager
def haproxy(domain: Domain, folder: Path, *options: str, syslog: str = "", **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "haproxy", folder, *options, **settings) as ingress:
        if syslog:
            configuration = folder / "haproxy.cfg"
            configuration.write_text(configuration.read_text().replace("log /dev/log", f"log {syslog}"))
        certificate = folder / "server.pem"
        certificate.write_text(certificate.read_text() + (folder / "server.key").read_text())
        check = f"haproxy -c -q -f {folder}/haproxy.cfg"
        run("sh", "-c", check, environment={"PATH": "/usr/sbin:/usr/bin:/bin"})
        with running(ingress, ["haproxy", "-W", "-f", folder / "haproxy.cfg"]):
            assert ingress.process is not None
            ingress.commands = {
                "PATH": "/usr/sbin:/usr/bin:/bin",
                "TEST_COMMAND": check,
                "RELOAD_COMMAND": f"kill -{signal.SIGUSR2.value} {ingress.process.pid}",
            }
            yield ingress


@pytest.mark.parametrize("revocation", ["crl", "live"])
def test_a_client_is_let_in_until_it_is_revoked(domain: Domain, tmp_path: Path, revocation: str) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with haproxy(domain, tmp_path / "haproxy", revocation=revocation) as ingress:
        assert ingress.passes(good)
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
    with haproxy(domain, tmp_path / "haproxy", revocation=revocation) as ingress:
        for lies in forged_headers():
            seen = ingress.seen(caller, *lies)
            assert "forged" not in seen.values(), seen
        assert seen["client-cert"].startswith(":MII")
        assert seen["x-forwarded-client-cert"].startswith("Hash=")
        if revocation == "live":
            assert seen["x-intaglio-identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"


def test_a_permissive_ingress_lets_everybody_through_and_vouches_for_nobody_bad(domain: Domain, tmp_path: Path) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with haproxy(domain, tmp_path / "haproxy", mode="permissive") as ingress:
        domain.revoke(bad)
        eventually(lambda: ingress.refresh() and "client-cert" not in ingress.seen(bad), what="HAProxy hears of it")
        assert ingress.passes(None)
        assert "client-cert" in ingress.seen(good)


def test_an_ingress_without_news_refuses_everybody_until_there_are_some(
    domain: Domain, tmp_path: Path, caller: Credential
) -> None:
    with haproxy(domain, tmp_path / "haproxy") as ingress:
        script = ingress.folder / "refresh"
        working = script.read_text()
        script.write_text(working.replace("/crl/edge/", "/crl/nowhere/"))
        ingress.refresh(STALE_SECONDS="0")
        eventually(lambda: not ingress.passes(caller), what="everybody is refused")
        script.write_text(working)
        ingress.refresh()
        eventually(lambda: ingress.passes(caller), what="callers are let in again")


def test_the_ip_rule_is_a_barrier_of_its_own(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with haproxy(domain, tmp_path / "haproxy", "--allow", "127.0.0.2/32") as ingress:
        assert ingress.status(caller) == 403
        assert ingress.passes(caller, "--interface", "127.0.0.2")


def test_the_acceptable_cas_are_sent(domain: Domain, tmp_path: Path) -> None:
    with haproxy(domain, tmp_path / "haproxy") as ingress:
        assert "Acceptable client certificate CA names" in ingress.ca_names()
        assert ingress.get(None, "--tls-max", "1.1").status != 0


def test_its_log_becomes_access_events_that_name_the_caller(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    folder, log = tmp_path / "haproxy", tmp_path / "haproxy.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "s"))
        syslog.settimeout(PATIENCE)
        with haproxy(domain, folder, syslog=str(tmp_path / "s")) as ingress:
            ingress.get(caller, path="/admin?secret=1")
            ingress.get(None)
            lines: list[bytes] = []
            # HAProxy also logs the connection with which it was tried whether it listens.
            while not (any(b"admin" in line for line in lines) and any(_REFUSED.search(line) for line in lines)):
                lines.append(syslog.recv(65_536).rstrip(b"\n"))
    log.write_bytes(b"".join(line + b"\n" for line in lines if b"intaglio-haproxy" in line))
    done = domain.product.json("mtls", "logs", "import", f"edge~{ingress.name}", log, "--format", "haproxy")
    assert done["bad"] == 0
    found = domain.product.json("mtls", "event", "list", "--filter", f"ingress=edge~{ingress.name}", "--all")
    by_reason = {event["reason"] or "": event for event in found}
    assert by_reason[""]["identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"
    assert by_reason["no_certificate"]["decision"] == "deny"
