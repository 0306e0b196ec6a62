"""The mTLS gateway of the real product, and the scenarios, as their users run them."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.folders import fast_folder
from tests.support.product import PATIENCE, Product, eventually
from tests.support.programs import attempt, run

_INTAGLIO = Path(sys.executable).with_name("intaglio")


class Behind:
    """A product with a gateway inside, in front of the product's own health listener."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.port = _free_port()

    def prepare(self) -> None:
        product = self.product
        product.run("org", "create", "shop")
        product.run("mtls", "domain", "create", "shop.example", "--environment", "shop", "--org", "shop", "--new-ca")
        (product.work / "policy").write_text("allow GET /livez if team == shop")
        product.run("mtls", "policy", "apply", "shop", "--org", "shop", "--file", "policy", "--activate")
        common = ("--org", "shop", "--domain", "shop.example", "--mode", "enforce", "--policy", "shop")
        product.run("mtls", "ingress", "add", "shop", *common, "--type", "gateway", "--out", "shop.token")
        (product.work / "ca.pem").write_text(product.run("tls", "ca-certificate"))
        found = {
            "listen": [f"127.0.0.1:{self.port}"],
            "upstream": {"url": product.url("health").replace("localhost", "127.0.0.1")},
            "decisions": {"platform": "shop~shop"},
        }
        (product.work / "gateway.yaml").write_text(yaml.safe_dump(found))

    def certificate(self, name: str, team: str = "shop") -> tuple[Path, Path]:
        """Files with certificate and key of a new service."""
        work, product = self.product.work, self.product
        product.run("mtls", "identity", "add", "service", name, "--domain", "shop.example", "--team", team)
        key, csr, certificate = (work / f"{name}.{end}" for end in ("key", "csr", "pem"))
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        run("openssl", "req", "-new", "-key", key, "-subj", "/CN=x", "-out", csr)
        product.run("mtls", "identity", "issue", f"service:{name}", "--csr", csr, "--out", certificate)
        return certificate, key

    def curl(self, *options: Any, path: str = "/livez") -> Any:
        return attempt(
            "curl", "--silent", "--show-error", "--cacert", self.product.work / "ca.pem", *options,
            f"https://localhost:{self.port}{path}",
        )  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with tempfile.TemporaryDirectory(prefix="intaglio-gateway-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Product(folder)
        product.run("init")
        gateway = Behind(product)
        product.settings["MTLS_GATEWAY"] = str(product.work / "gateway.yaml")
        try:
            product.start()
            gateway.prepare()  # the server, which was waiting for the file, takes it up
            eventually(lambda: _listens(gateway.port), what=lambda: product.log.read_text()[-2000:])
            yield gateway
        finally:
            product.stop()


def test_embedded_gateway_lets_the_right_service_through(behind: Behind) -> None:
    certificate, key = behind.certificate("orders")
    for option in ("--http1.1", "--http2"):
        assert '"UP"' in behind.curl(option, "--cert", certificate, "--key", key).output
    assert '"policy_denied"' in behind.curl("--cert", certificate, "--key", key, path="/metrics").output


def test_embedded_gateway_refuses_everybody_else(behind: Behind) -> None:
    assert behind.curl().status == 56  # the TLS alert "certificate required", which curl reads instead of an answer
    stranger, key = behind.certificate("stranger", team="other")
    assert '"policy_denied"' in behind.curl("--cert", stranger, "--key", key).output
    denied = behind.product.json("mtls", "event", "list", "--filter", "decision=deny")
    assert {event["reason"] for event in denied} >= {"no_certificate", "policy_denied"}


def test_revocation_counts_for_the_next_request(behind: Behind) -> None:
    certificate, key = behind.certificate("lost")
    assert '"UP"' in behind.curl("--cert", certificate, "--key", key).output
    behind.product.run("mtls", "revoke", "--identity", "service:lost", "--reason", "keyCompromise", "--yes")
    assert '"revoked"' in behind.curl("--cert", certificate, "--key", key).output


def test_gateway_beside_the_server_ends_in_order(behind: Behind) -> None:
    work, port = behind.product.work, _free_port()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", work / "own.key",
        "-out", work / "own.pem")  # fmt: skip
    found = {
        "listen": [f"127.0.0.1:{port}"], "certificate": "own.pem", "key": "own.key",
        "upstream": {"url": behind.product.url("health").replace("localhost", "127.0.0.1")},
        "decisions": {"server": behind.product.url("console"), "ca": "ca.pem", "ingress": "shop~shop",
                      "token": "shop.token"},
    }  # fmt: skip
    (work / "beside.yaml").write_text(yaml.safe_dump(found))
    assert behind.product.json("mtls", "gateway", "check", "--config", "beside.yaml")["mode"] == "enforce"
    certificate, key = behind.certificate("beside")
    gateway = subprocess.Popen(
        [_INTAGLIO, "mtls", "gateway", "run", "--config", "beside.yaml"],
        cwd=work, env=behind.product.environment, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        eventually(lambda: _listens(port), what=lambda: "the gateway accepts")
        answer = run("curl", "--silent", "--show-error", "--fail", "--cacert", work / "own.pem", "--cert", certificate,
                     "--key", key, f"https://localhost:{port}/livez")  # fmt: skip
        assert '"UP"' in answer
    finally:
        gateway.terminate()
        _, said = gateway.communicate(timeout=PATIENCE)
    assert gateway.returncode == 0, said
    assert "service/beside" in said.decode() or "svc/beside" in said.decode()


def test_wrong_configuration_is_named(behind: Behind) -> None:
    (behind.product.work / "wrong.yaml").write_text("listen: [nowhere]\n")
    outcome = behind.product.attempt("mtls", "gateway", "check", "--config", "wrong.yaml")
    assert outcome.status == 1
    assert "listen" in outcome.output


def test_scenario_runs_from_the_command_line(behind: Behind) -> None:
    found = behind.product.json("mtls", "scenario", "run", "2")
    assert found["passed"]
    assert {row["observed"] for row in found["rows"]} == {"200", "policy_denied", "no_certificate", "ip_denied"}
    listed = behind.product.json("mtls", "scenario", "list")
    assert [each["number"] for each in listed] == list(range(1, 9))
    assert listed[1]["last_run"]["id"] == found["id"]


def test_unknown_scenario_is_refused(behind: Behind) -> None:
    outcome = behind.product.attempt("mtls", "scenario", "run", "9")
    assert (outcome.status, "There is no scenario" in outcome.output) == (1, True)


def test_comparison_needs_no_server(behind: Behind) -> None:
    outcome = behind.product.attempt("--json", "mtls", "demo", "tls-vs-mtls")
    assert outcome.status == 0
    assert '"observed": "revoked"' in outcome.output


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
