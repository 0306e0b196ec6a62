"""Endpoints, tenants, credentials and waiting requests from the command line."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest
from tests.support.pki import Pki
from tests.support.product import Product
from tests.support.programs import attempt
from tests.support.requests import request

PROFILES = ("privatessl-tls-server", "est-digital-signature", "est-non-repudiation", "est-key-encipherment")


@pytest.fixture(scope="module")
def pki(product: Product) -> Pki:
    return Pki.create(product, f"enr-{secrets.token_hex(3)}", profiles=PROFILES)


def test_an_endpoint_is_one_pleasant_command(product: Product, pki: Pki) -> None:
    shown = product.run("enroll", "endpoint", "create", "--protocol", "acme", "--ca", pki.issuing, "--profile",
                        "privatessl_tls_server", "--name", pki.organization)  # fmt: skip
    address = f"acme/{pki.organization}"
    url = product.json("enroll", "endpoint", "show", address)["url"]
    assert shown.startswith(f"Created {address}: {url}\n")
    assert f"--server {url}" in shown  # a client's command
    listed = product.json("enroll", "endpoint", "list", "--filter", f"ca={pki.issuing}", "--filter", "protocol=acme")
    assert [each["address"] for each in listed] == [address]
    assert url in product.run("enroll", "urls", "--filter", f"address={address}")
    product.run("enroll", "endpoint", "disable", address)
    assert product.json("enroll", "urls", "--filter", f"address={address}") == []
    assert url in product.run("enroll", "endpoint", "enable", address)
    product.run("enroll", "endpoint", "delete", address, "--yes")
    gone = product.attempt("enroll", "endpoint", "show", address)
    assert (gone.status, "There is no endpoint" in gone.output) == (1, True)


def test_certificates_of_an_option_may_be_in_any_container(product: Product, pki: Pki, tmp_path: Path) -> None:
    name = f"est/{secrets.token_hex(4)}"
    product.run("enroll", "endpoint", "create", "--protocol", "est", "--ca", pki.issuing, "--profile", PROFILES[3],
                "--name", name.removeprefix("est/"))  # fmt: skip
    root, store = pki.root_file, ("-storepass", "changeit", "-noprompt", "-alias", "root")
    (tmp_path / "trust.der").write_bytes(attempt("openssl", "x509", "-in", root, "-outform", "DER").stdout)
    (tmp_path / "trust.p7b").write_bytes(
        attempt("openssl", "crl2pkcs7", "-nocrl", "-certfile", root, "-outform", "DER").stdout
    )
    for kind in ("pkcs12", "jks"):
        there = ("-importcert", "-file", root, "-keystore", tmp_path / f"trust.{kind}", "-storetype", kind)
        assert attempt("keytool", *there, *store).status == 0
    for kind in ("der", "p7b", "pkcs12"):
        option = f"trusted=@{tmp_path / f'trust.{kind}'}"
        product.run("enroll", "endpoint", "set", name, "--option", option, stdin="changeit\n")
        assert len(product.json("enroll", "endpoint", "show", name)["options"]["trusted"]) == 1
        product.run("enroll", "endpoint", "set", name, "--option", "trusted=")
    wrong = product.attempt("enroll", "endpoint", "set", name, "--option", option, stdin="guess\n")
    assert (wrong.status, "password" in wrong.output) == (1, True)
    java = product.attempt("enroll", "endpoint", "set", name, "--option", f"trusted=@{tmp_path / 'trust.jks'}")
    assert (java.status, "keytool -list -rfc -keystore" in java.output) == (1, True)


def test_options_are_read_by_what_they_are(product: Product, pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "maker.pem").write_bytes(pki.root_file.read_bytes())
    name = f"est/{pki.organization}"
    product.run("enroll", "endpoint", "create", "--protocol", "est", "--ca", pki.issuing, "--profile", PROFILES[1],
                "--name", pki.organization, "--option", f"trusted=@{tmp_path / 'maker.pem'}",
                "--option", "san_template=dNSName", "--option", "san_template=iPAddress",
                "--option", "server_keys=true")  # fmt: skip
    options = product.json("enroll", "endpoint", "show", name)["options"]
    assert options["trusted"][0].startswith("-----BEGIN CERTIFICATE")
    assert (options["san_template"], options["server_keys"]) == (["dNSName", "iPAddress"], True)
    product.run("enroll", "endpoint", "set", name, "--option", "san_template=", "--option", "authentication=both",
                "--network", "127.0.0.0/8", "--hourly-limit", "9")  # fmt: skip
    changed = product.json("enroll", "endpoint", "show", name)
    assert (changed["options"]["san_template"], changed["options"]["authentication"]) == ([], "both")
    assert (changed["networks"], changed["hourly_limit"], changed["version"]) == (["127.0.0.0/8"], 9, 2)
    product.run("enroll", "endpoint", "set", name, "--any-network", "--hourly-limit", "0")
    assert product.json("enroll", "endpoint", "show", name)["networks"] == []
    wrong = product.attempt("enroll", "endpoint", "set", name, "--option", "authentication=never")
    assert (wrong.status, "authentication" in wrong.output) == (1, True)
    assert "link_to_connection" in product.run("enroll", "endpoint", "options", "est")
    for nonsense in ("est", "est/", "/x", "nothing/x"):
        assert product.attempt("enroll", "endpoint", "show", nonsense).status == 1


def test_a_secret_is_shown_once_or_written_to_a_file(product: Product, pki: Pki, tmp_path: Path) -> None:
    name = f"est/{pki.organization}-secrets"
    product.run("enroll", "endpoint", "create", "--protocol", "est", "--ca", pki.issuing, "--profile", PROFILES[2],
                "--name", name.partition("/")[2], "--approval", "manual")  # fmt: skip
    file = tmp_path / "secret"
    made = product.json("enroll", "credential", "create", name, "--name", "router", "--san", "dns=router.example",
                        "--uses", "3", "--out", file)  # fmt: skip
    assert (made["secret"], file.stat().st_mode & 0o777) == ("", 0o600)
    again = product.attempt("enroll", "credential", "create", name, "--name", "other", "--out", file)
    assert (again.status, "exists" in again.output) == (1, True)
    listed = product.json("enroll", "credential", "list", name)
    assert [(each["name"], each["uses_left"]) for each in listed] == [("router", 3)]
    assert file.read_text().strip() not in str(listed)

    # A client asks; somebody approves on the command line; it asks again.
    (tmp_path / "request").write_bytes(base64.b64encode(request("CN=router.example", dns=["router.example"])))
    url = product.url("enroll", f"/.well-known/{name}/simpleenroll")
    ask = ("--silent", "--write-out", "%{http_code}", "--cacert", pki.anchor_file, "--user",
           f"router:{file.read_text().strip()}", "--data-binary", f"@{tmp_path / 'request'}", url)  # fmt: skip
    assert attempt("curl", *ask).output.endswith("202")
    (waiting,) = product.json("enroll", "request", "list", "--filter", "state=pending", "--filter",
                              f"endpoint={name.partition('/')[2]}")  # fmt: skip
    shown = product.run("enroll", "request", "show", waiting["id"], "--csr", tmp_path / "shown.pem")
    assert "CN=router.example" in shown
    assert (tmp_path / "shown.pem").read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----")
    approved = product.run("enroll", "request", "approve", waiting["id"], "--reason", "known")
    assert "Approved CN=router.example." in approved
    assert attempt("curl", *ask).output.endswith("200")
    late = product.attempt("enroll", "request", "reject", waiting["id"])
    assert (late.status, "issued" in late.output) == (1, True)
    product.run("enroll", "credential", "delete", name, "router", "--yes")
    assert attempt("curl", *ask).output.endswith("401")


def test_a_tenant_has_urls_of_its_own(product: Product, pki: Pki) -> None:
    tenant = f"T-{pki.organization}"
    product.run("enroll", "tenant", "create", tenant, "--description", "Plant 7")
    product.run("enroll", "endpoint", "create", "-p", "est", "--ca", pki.issuing, "--profile", PROFILES[1], "--tenant",
                tenant, "--name", f"{pki.organization}-tenant")  # fmt: skip
    (row,) = product.json("enroll", "urls", "--filter", f"tenant={tenant}")
    assert any(f"/est/{tenant}/{pki.issuing}/" in url for url in row["urls"])
    page = attempt("curl", "--silent", "--cacert", pki.anchor_file, product.url("enroll", f"/urls/{tenant}"))
    assert row["urls"][0].partition("/.well-known")[2] in page.output
    refused = product.attempt("enroll", "tenant", "delete", tenant, "--yes")
    assert (refused.status, "has endpoints" in refused.output) == (1, True)
    product.run("enroll", "endpoint", "delete", f"est/{pki.organization}-tenant", "--yes")
    product.run("enroll", "tenant", "delete", tenant, "--yes")
    assert tenant not in product.run("enroll", "tenant", "list")
