"""Certificates from the command line: issue, look up, revoke, renew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.product import Product
from tests.support.programs import run

PROFILE = "privatessl-tls-server"


@pytest.fixture
def trust(product: Product, issuing: str, tmp_path: Path) -> tuple[str, ...]:
    """Arguments with which openssl verifies certificates of the issuing CA."""
    root, chain = tmp_path / "root.pem", tmp_path / "chain.pem"
    product.run("ca", "certificate", issuing.replace("issuing", "root"), "--out", root)
    product.run("ca", "chain", issuing, "--out", chain)
    return "-x509_strict", "-CAfile", str(root), "-untrusted", str(chain)


def test_a_certificate_is_issued_from_a_request(
    product: Product, issuing: str, csr: Path, trust: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "server.pem"
    product.run("cert", "issue", "--ca", issuing, "--profile", PROFILE, "--csr", csr, "--out", out)
    run("openssl", "verify", "-verify_hostname", "www.example", *trust, out)


def test_a_key_made_here_stays_here(product: Product, issuing: str, trust: tuple[str, ...], tmp_path: Path) -> None:
    key, out = tmp_path / "api.key", tmp_path / "api.pem"
    files = ("--key-out", key, "--out", out, "--chain")
    product.run("cert", "issue", "--ca", issuing, "-p", PROFILE, "--dns", "api.example", "--ip", "192.0.2.1", *files)
    assert key.stat().st_mode & 0o777 == 0o600
    run("openssl", "verify", "-verify_ip", "192.0.2.1", *trust, out)
    assert out.read_text().count("BEGIN CERTIFICATE") == 2
    public = run("openssl", "pkey", "-in", key, "-pubout")
    assert run("openssl", "x509", "-in", out, "-noout", "-pubkey") == public


@pytest.mark.parametrize("option", ["--key-out", "--p12"])
def test_private_files_are_not_overwritten_unless_forced(
    product: Product, issuing: str, tmp_path: Path, option: str
) -> None:
    path = tmp_path / "taken"
    path.write_text("precious")
    (tmp_path / "password").write_text("secret-password")
    profile = "multiuse-p12-client" if option == "--p12" else PROFILE
    command = ("cert", "issue", "--ca", issuing, "-p", profile, "--dns", "a.example", option, path)
    command = (*command, "--password-file", tmp_path / "password")
    refused = product.attempt(*command)
    assert (refused.status, "--force" in refused.output, path.read_text()) == (1, True, "precious")
    product.run(*command, "--force")
    assert path.read_bytes() != b"precious"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_pkcs12_opens_with_its_password(product: Product, issuing: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a b/c\n")
    out = tmp_path / "carol.p12"
    command = ("cert", "issue", "--ca", issuing, "-p", "multiuse-p12-client", "--subject", "CN=carol", "--p12", out)
    product.run(*command, "--password-file", tmp_path / "password")
    shown = run("openssl", "pkcs12", "-in", out, "-passin", "pass:a b/c", "-nokeys", "-clcerts")
    assert "CN = carol" in shown or "CN=carol" in shown


def test_a_password_may_come_from_standard_input(product: Product, issuing: str, tmp_path: Path) -> None:
    out = tmp_path / "dave.p12"
    command = ("cert", "issue", "--ca", issuing, "-p", "multiuse-p12-client", "--subject", "CN=dave", "--p12", out)
    product.run(*command, stdin="from a pipe\n")
    run("openssl", "pkcs12", "-in", out, "-passin", "pass:from a pipe", "-nokeys")


def test_a_request_needs_exactly_one_source_of_its_key(product: Product, issuing: str, csr: Path) -> None:
    common = ("cert", "issue", "--ca", issuing, "-p", PROFILE)
    assert "--csr, --p12 or --key-out" in product.attempt(*common).output
    assert product.attempt(*common, "--csr", csr, "--key-out", "x").status == 1


def test_a_certificate_goes_from_valid_to_revoked(product: Product, issuing: str, csr: Path) -> None:
    serial = _issued(product, issuing, csr)
    product.run("cert", "hold", "--ca", issuing, serial)
    product.run("cert", "unhold", "--ca", issuing, serial)
    unsure = product.attempt("cert", "revoke", "--ca", issuing, serial)
    assert (unsure.status, "--yes" in unsure.output) == (1, True)
    product.run("cert", "revoke", "--ca", issuing, serial, "--reason", "keyCompromise", "--issue-crl", "--yes")
    shown = product.json("cert", "show", "--ca", issuing, serial)
    assert (shown["state"], shown["reason"]) == ("revoked", "keyCompromise")
    crl = product.attempt("crl", "show", issuing).stdout
    listed = run("openssl", "crl", "-noout", "-text", stdin=crl)
    assert serial in listed


def test_a_renewed_certificate_names_the_old_one(product: Product, issuing: str, csr: Path, tmp_path: Path) -> None:
    serial = _issued(product, issuing, csr)
    made = product.json("cert", "renew", "--ca", issuing, serial, "--validity", "P10D", "--out", tmp_path / "new.pem")
    shown = product.json("cert", "show", "--ca", issuing, made["serial_number"])
    assert shown["previous_id"] == product.json("cert", "show", "--ca", issuing, serial)["id"]


def test_certificates_are_found_by_name(product: Product, issuing: str, tmp_path: Path) -> None:
    out = ("--key-out", tmp_path / "key", "--out", tmp_path / "pem")
    product.run("cert", "issue", "--ca", issuing, "-p", PROFILE, "--dns", "find-me.example", *out)
    (found,) = product.json("cert", "list", "--ca", issuing, "--filter", "names~find-me")
    assert found["subject"] == "CN=find-me.example"
    table = product.run("cert", "list", "--ca", issuing, "--filter", "names~find-me")
    assert found["serial_number"] in table
    assert "STATE" in table


def test_events_are_followed_to_their_end(product: Product, issuing: str, csr: Path) -> None:
    serial = _issued(product, issuing, csr)
    lines = product.run("--json", "cert", "follow", "--ca", issuing, "--after", "0", "--once").splitlines()
    events = [json.loads(line) for line in lines]
    assert (events[-1]["action"], events[-1]["serial_number"]) == ("issued", serial)
    assert [each["seq"] for each in events] == sorted(each["seq"] for each in events)


def test_a_dry_run_issues_nothing(product: Product, issuing: str, csr: Path) -> None:
    before = len(product.json("cert", "list", "--ca", issuing, "--all"))
    preview = product.json("cert", "issue", "--ca", issuing, "-p", PROFILE, "--csr", csr, "--dry-run")
    assert preview["names"] == ["dns:www.example"] or "www.example" in str(preview["names"])
    assert len(product.json("cert", "list", "--ca", issuing, "--all")) == before


def test_all_certificates_of_a_subject_are_revoked(product: Product, issuing: str, csr: Path) -> None:
    for _ in range(2):
        product.run("cert", "issue", "--ca", issuing, "-p", PROFILE, "--csr", csr, "--subject", "CN=gone,O=Demo")
    done = product.json("subject", "revoke", "--ca", issuing, "CN=gone,O=Demo", "--yes")
    assert len(done["changed"]) == 2


def test_a_refusal_is_one_sentence_with_a_remedy_or_an_object(product: Product, issuing: str, csr: Path) -> None:
    command = ("cert", "issue", "--ca", issuing, "-p", "no-such-profile", "--csr", csr)
    said = product.attempt(*command)
    assert said.status == 1
    assert said.output.startswith("error: ")
    assert PROFILE in said.output, "the remedy names the profiles there are"
    told = product.attempt("--json", *command)
    assert (told.stdout, json.loads(told.output)["error"]["code"]) == (b"", "profile-unknown")


def _issued(product: Product, issuing: str, csr: Path) -> str:
    made = product.json("cert", "issue", "--ca", issuing, "-p", PROFILE, "--csr", csr)
    return str(made["serial_number"])
