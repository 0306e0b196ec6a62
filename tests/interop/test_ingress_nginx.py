"""nginx with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.ingress import Credential, Domain, Ingress, domain_of, free_port, refused_soon, rendered, running
from tests.support.product import Product, eventually
from tests.support.programs import attempt, run

from intaglio.mtls.ingresses.rendering import OURS

_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
include {folder}/main.conf;
events {{}}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/nginx.conf;
}}
"""


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@contextlib.contextmanager
def nginx(domain: Domain, folder: Path, *options: str, **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "nginx", folder, *options, **settings) as ingress:
        main = folder / "whole.conf"
        main.write_text(_MAIN.format(folder=folder))
        run("nginx", "-t", "-q", "-e", "stderr", "-c", main)
        with running(ingress, ["nginx", "-e", "stderr", "-c", main]):
            assert ingress.process is not None
            ingress.commands = {
                "TEST_COMMAND": f"nginx -t -q -e stderr -c {main}",
                "RELOAD_COMMAND": f"kill -{signal.SIGHUP.value} {ingress.process.pid}",
            }
            yield ingress


@pytest.fixture
def caller(domain: Domain, tmp_path: Path) -> Credential:
    return domain.issue("caller", tmp_path)


@pytest.mark.parametrize("revocation", ["crl", "ocsp", "live"])
def test_a_client_is_let_in_until_it_is_revoked(domain: Domain, tmp_path: Path, revocation: str) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with nginx(domain, tmp_path / "nginx", revocation=revocation) as ingress:
        assert ingress.passes(good)
        assert ingress.passes(bad)
        assert not ingress.passes(None)
        domain.revoke(bad)
        refused_soon(ingress, bad, ingress.refresh if revocation == "crl" else lambda: None)
        assert ingress.passes(good)
        assert ingress.latency()["in_time"] is True


def test_a_permissive_ingress_lets_everybody_through_and_vouches_for_nobody_bad(domain: Domain, tmp_path: Path) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with nginx(domain, tmp_path / "nginx", mode="permissive") as ingress:
        domain.revoke(bad)
        eventually(
            lambda: ingress.refresh() and "x-forwarded-client-cert" not in ingress.seen(bad), what="nginx hears of it"
        )
        assert ingress.passes(None)
        assert "x-forwarded-client-cert" in ingress.seen(good)
        forged = ingress.seen(None, "-H", "X-Forwarded-Client-Cert: Cert=x", "-H", "Client-Cert: :AAAA:")
        assert not {"x-forwarded-client-cert", "client-cert"} & set(forged)


def test_what_a_client_says_of_itself_is_taken_away(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    lies = [option for name in OURS for option in ("-H", f"{name}: forged")]
    with nginx(domain, tmp_path / "nginx", revocation="live") as ingress:
        seen = ingress.seen(caller, *lies)
        assert "forged" not in seen.values()
        assert seen["client-cert"].startswith(":MII")
        assert seen["x-intaglio-identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"


def test_an_ingress_without_news_refuses_everybody_until_there_are_some(
    domain: Domain, tmp_path: Path, caller: Credential
) -> None:
    with nginx(domain, tmp_path / "nginx") as ingress:
        assert ingress.refresh().status == 0
        script = ingress.folder / "refresh"
        working = script.read_text()
        script.write_text(working.replace("/crl/edge/", "/crl/nowhere/"))
        assert ingress.refresh(STALE_SECONDS="3600").status != 0
        assert ingress.passes(caller)
        ingress.refresh(STALE_SECONDS="0")
        eventually(lambda: not ingress.passes(caller), what="everybody is refused")
        script.write_text(working)
        ingress.refresh()
        eventually(lambda: ingress.passes(caller), what="callers are let in again")


@pytest.mark.parametrize(("fail_mode", "passes"), [("closed", False), ("open", True)])
def test_a_silent_decision_endpoint_refuses_or_lets_in_as_it_is_set(
    domain: Domain, tmp_path: Path, caller: Credential, fail_mode: str, passes: bool
) -> None:
    with nginx(domain, tmp_path / "nginx", "--fail-mode", fail_mode, revocation="live") as ingress:
        assert ingress.passes(caller)
        configuration = ingress.folder / "nginx.conf"
        asked = f"127.0.0.1:{domain.product.runtime.port('access')}"
        configuration.write_text(
            configuration.read_text()
            .replace(asked, f"127.0.0.1:{free_port()}")
            .replace("server_name localhost;", 'server_name localhost; add_header X-Reloaded yes always;')
        )
        run("sh", "-c", ingress.commands["RELOAD_COMMAND"])
        eventually(lambda: b"x-reloaded" in ingress.get(caller, "--include").stdout, what="the reload counts")
        # A process of before the reload may take one more connection.
        eventually(lambda: ingress.passes(caller) is passes, what="the new setting holds")
        assert not ingress.passes(None)


def test_the_ip_rule_is_a_barrier_of_its_own(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with nginx(domain, tmp_path / "nginx", "--allow", "127.0.0.2/32") as ingress:
        assert ingress.status(caller) == 403
        assert ingress.passes(caller, "--interface", "127.0.0.2")
        assert not ingress.passes(None, "--interface", "127.0.0.2")


def test_the_acceptable_cas_are_sent_and_the_server_staples(domain: Domain, tmp_path: Path) -> None:
    with nginx(domain, tmp_path / "nginx") as ingress:
        said = ingress.ca_names()
        assert "Acceptable client certificate CA names" in said
        assert "edge" in said.split("Acceptable client certificate CA names")[1][:200]
        eventually(ingress.stapled, what="nginx staples an OCSP answer")
        assert ingress.get(None, "--tls-max", "1.1").status != 0


def test_no_session_is_given_out_that_could_be_resumed(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    session = tmp_path / "session"
    with nginx(domain, tmp_path / "nginx") as ingress:
        said = attempt(
            "openssl", "s_client", "-connect", f"localhost:{ingress.port}", "-tls1_2", "-cert", caller.certificate,
            "-key", caller.key, "-sess_out", session,
        ).output  # fmt: skip
        assert "New, TLSv1.2" in said
        assert not session.exists()


def test_its_log_becomes_access_events_that_name_the_caller(domain: Domain, tmp_path: Path, caller: Credential) -> None:
    with nginx(domain, tmp_path / "nginx") as ingress:
        ingress.get(caller, path="/admin?secret=1")
        ingress.get(None)
        log = ingress.folder / "access.log"
        eventually(lambda: log.read_text().count("\n") >= 2, what="nginx writes its log")
        once = domain.product.json("mtls", "logs", "import", f"edge~{ingress.name}", log, "--format", "nginx")
        again = domain.product.json("mtls", "logs", "import", f"edge~{ingress.name}", log, "--format", "nginx")
    assert (once["bad"], again["events"]) == (0, 0)
    found = domain.product.json("mtls", "event", "list", "--filter", f"ingress=edge~{ingress.name}", "--all")
    by_reason = {event["reason"] or "": event for event in found}
    assert by_reason[""]["identity"] == "spiffe://edge.example/env/edge/team/platform/svc/caller"
    assert by_reason[""]["path"] == "/admin"
    assert by_reason["no_certificate"]["decision"] == "deny"
