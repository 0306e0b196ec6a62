"""GnuTLS (certtool, ocsptool, gnutls-cli) as relying party."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.interop.conftest import Leaf, Pki
from tests.support.product import eventually
from tests.support.programs import program, run


def test_certtool_verifies_the_chain(pki: Pki, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    for key in (("ec", "-pkeyopt", "ec_paramgen_curve:P-384"), ("rsa:2048",)):
        leaf = pki.enroll(tmp_path, "www.demo.example", key=key)
        chain.write_text(leaf.certificate.read_text() + (pki.folder / "chain.pem").read_text())
        assert "Chain verification output: Verified" in run("certtool", "--verify-chain", "--infile", chain)


def test_certtool_reads_what_the_certificate_says(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example")
    told = run("certtool", "--certificate-info", "--infile", leaf.certificate)
    assert "DNSname: www.demo.example" in told
    assert "TLS WWW Server" in told
    assert "Digital signature" in told
    assert f"URI: {pki.public('/crl/interop/issuing/crl.crl')}" in told
    assert f"Access Location URI: {pki.ocsp}" in told


def test_certtool_verifies_the_crl_and_finds_the_revoked_certificate(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.enroll(tmp_path, "bad.example")
    crl = pki.revoke(leaf, tmp_path)
    told = run("certtool", "--crl-info", "--infile", crl)
    assert f"Serial Number (hex): {leaf.serial.lower()}" in told
    issuer = pki.folder / "issuing.pem"
    assert "Verified" in run("certtool", "--verify-crl", "--load-ca-certificate", issuer, "--infile", crl)


def test_ocsptool_hears_of_the_revocation(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.enroll(tmp_path, "www.demo.example")
    assert "Certificate Status: good" in _ask(pki, leaf)
    pki.act(leaf, "RevokeAction", reason="keyCompromise")
    eventually(lambda: "Certificate Status: revoked" in _ask(pki, leaf), what="the revocation is told")


def _ask(pki: Pki, leaf: Leaf) -> str:
    """What the responder named in the certificate says; ocsptool has verified it."""
    issuer = pki.folder / "issuing.pem"
    told = run(
        "ocsptool", "--ask", "--nonce", "--load-cert", leaf.certificate, "--load-issuer", issuer,
        "--load-signer", issuer,
    )  # fmt: skip
    assert "Verifying OCSP Response: Success" in told
    return told


@pytest.mark.parametrize("client", ["alice", "otto"], ids=["modern", "legacy"])
def test_certtool_opens_client_credentials(pki: Pki, client: str) -> None:
    password = (pki.folder / f"{client}.password").read_text().strip()
    told = run("certtool", "--p12-info", "--inder", "--infile", pki.folder / f"{client}.p12", "--password", password)
    assert "BEGIN CERTIFICATE" in told
    assert "PRIVATE KEY" in told


def test_gnutls_cli_trusts_the_gateway_and_is_let_in(pki: Pki) -> None:
    certificate = pki.folder / "alice.pem"
    arguments = [
        program("gnutls-cli"), "--x509cafile", pki.folder / "platform-ca.pem", "--x509certfile", certificate,
        "--x509keyfile", certificate, "--port", str(pki.product.runtime.port("gateway")), "localhost",
    ]  # fmt: skip
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("GET /cagw/v1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        process.stdin.flush()  # and left open: gnutls-cli hangs up at its end
        told = process.stdout.read()
    assert "The certificate is trusted." in told
    assert "HTTP/1.1 200" in told
