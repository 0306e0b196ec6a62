"""A root CA kept elsewhere, run with OpenSSL's own commands, above an issuing CA of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop.conftest import Pki
from tests.support.programs import run

_CA_CONFIGURATION = """
[ca]
default_ca = corp
[corp]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
certificate = {folder}/corp-root.pem
private_key = {folder}/corp-root.key
default_md = sha384
policy = anything
x509_extensions = issuing
[anything]
organizationName = optional
commonName = supplied
[issuing]
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@pytest.fixture(scope="module")
def corporate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the corporate root: key, certificate, ``openssl ca`` database."""
    folder = tmp_path_factory.mktemp("corporate")
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes",
        "-keyout", folder / "corp-root.key", "-out", folder / "corp-root.pem", "-days", "3650",
        "-subj", "/O=Corp/CN=Corporate Root", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    (folder / "ca.cnf").write_text(_CA_CONFIGURATION.format(folder=folder))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("1000\n")
    return folder


def _sign_with_ca(corporate: Path, csr: Path, signed: Path) -> None:
    configuration = ("-config", corporate / "ca.cnf", "-batch", "-days", "1825", "-notext")
    run("openssl", "ca", *configuration, "-in", csr, "-out", signed)


def _sign_with_x509(corporate: Path, csr: Path, signed: Path) -> None:
    run(
        "openssl", "x509", "-req", "-in", csr, "-days", "1825", "-sha384", "-CA", corporate / "corp-root.pem",
        "-CAkey", corporate / "corp-root.key", "-CAcreateserial", "-extfile", corporate / "ca.cnf",
        "-extensions", "issuing", "-out", signed,
    )  # fmt: skip


@pytest.mark.parametrize("sign", [_sign_with_ca, _sign_with_x509], ids=["openssl-ca", "openssl-x509"])
def test_an_issuing_ca_below_an_external_root_issues_certificates_that_verify(
    pki: Pki, corporate: Path, tmp_path: Path, sign: object, request: pytest.FixtureRequest
) -> None:
    organization = f"corp-{request.node.callspec.id.removeprefix('openssl-')}"
    issuing, product = f"{organization}~issuing", pki.product
    product.run("org", "create", organization)
    product.run("ca", "create", "external", f"{organization}~root", "--certificate", corporate / "corp-root.pem")
    created = product.run(
        "ca", "create", "issuing", issuing, "--issuer", "root", "--subject", f"CN=Corp Issuing,O={organization}",
        "--profile", "privatessl-tls-server", "--administrator", "alice",
        "--credentials-dir", tmp_path, "--save-passwords",
    )  # fmt: skip
    assert "awaiting-certificate" in created
    csr, signed = tmp_path / "issuing.csr", tmp_path / "issuing.pem"
    product.run("ca", "csr", issuing, "--out", csr)
    assert "verify OK" in run("openssl", "req", "-in", csr, "-noout", "-verify")
    sign(corporate, csr, signed)  # type: ignore[operator]
    product.run("ca", "upload-certificate", issuing, signed)
    assert product.json("ca", "show", issuing)["state"] == "active"
    key, leaf = tmp_path / "www.key", tmp_path / "www.pem"
    product.run(
        "cert", "issue", "--ca", issuing, "--profile", "privatessl-tls-server", "--subject", "CN=www.corp.example",
        "--dns", "www.corp.example", "--key-out", key, "--out", leaf,
    )  # fmt: skip
    run(
        "openssl", "verify", "-x509_strict", "-verify_hostname", "www.corp.example", "-CAfile",
        corporate / "corp-root.pem", "-untrusted", signed, leaf,
    )  # fmt: skip


def test_a_certificate_of_another_key_is_not_taken(pki: Pki, corporate: Path, tmp_path: Path) -> None:
    product, organization = pki.product, "corp-refusing"
    product.run("org", "create", organization)
    product.run("ca", "create", "external", f"{organization}~root", "--certificate", corporate / "corp-root.pem")
    product.run(
        "ca", "create", "issuing", f"{organization}~issuing", "--issuer", "root", "--subject", "CN=Corp Issuing",
        "--profile", "privatessl-tls-server", "--administrator", "alice",
        "--credentials-dir", tmp_path, "--save-passwords",
    )  # fmt: skip
    csr, signed = tmp_path / "other.csr", tmp_path / "other.pem"
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "other.key")
    run("openssl", "req", "-new", *new, "-subj", "/CN=Corp Issuing", "-out", csr)
    _sign_with_x509(corporate, csr, signed)
    outcome = product.attempt("ca", "upload-certificate", f"{organization}~issuing", signed)
    assert outcome.status == 1
    assert "key" in outcome.output
    assert product.json("ca", "show", f"{organization}~issuing")["state"] == "awaiting-certificate"
