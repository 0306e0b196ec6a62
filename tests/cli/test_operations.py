"""Organizations, CAs, credentials, profiles, audit, settings, declarations from the command line."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.support.product import Product
from tests.support.programs import run


def test_credentials_are_written_once_with_their_password(product: Product, org: str, tmp_path: Path) -> None:
    common = ("--subject", "CN=Second", "--profile", "privatessl-tls-server", "--credentials-dir", tmp_path)
    name = f"n{secrets.token_hex(3)}"
    made = product.json("ca", "create", "root", f"{org}~second", "--administrator", name, *common)
    (credential,) = made["credentials"]
    assert Path(credential["file"]).stat().st_mode & 0o777 == 0o600
    run("openssl", "pkcs12", "-in", credential["file"], "-passin", f"pass:{credential['password']}", "-nokeys")
    again = product.json("credential", "reissue", name, "--org", org, "--credentials-dir", tmp_path, "--save-passwords")
    assert again["credentials"][0]["file"] != credential["file"], "the first file is not overwritten"
    assert Path(again["credentials"][0]["password_file"]).stat().st_mode & 0o777 == 0o600
    (listed,) = [each for each in product.json("credential", "list", "--org", org) if each["name"] == name]
    assert (listed["state"], listed["rights"]) == ("active", {f"{org}~second": "administrator"})
    product.run("credential", "revoke", name, "--org", org, "--yes")
    states = {each["name"]: each["state"] for each in product.json("credential", "list", "--org", org)}
    assert states[name] == "revoked"


def test_a_ca_is_edited_renewed_and_rekeyed(product: Product, issuing: str, tmp_path: Path) -> None:
    product.run("ca", "edit", issuing, "--add-auditor", "eve", "--option", "crl_interval_hours=6",
                "--credentials-dir", tmp_path)  # fmt: skip
    shown = product.json("ca", "show", issuing)
    assert (shown["auditors"], shown["options"]["crl_interval_hours"]) == (["eve"], 6)
    product.run("ca", "edit", issuing, "--remove-auditor", "eve")
    assert product.json("ca", "show", issuing)["auditors"] == []
    before = shown["serial_number"]
    assert product.json("ca", "renew", issuing)["serial_number"] != before
    rekeyed = product.json("ca", "rekey", issuing, "--key", "P-384")
    assert (rekeyed["generation"], rekeyed["key_algorithm"]) == (2, "ecdsa-p384")
    assert "Wrote" in product.run("ca", "chain", issuing, "--generation", "1", "--out", tmp_path / "old.pem")


def test_an_external_root_signs_what_the_command_line_asks_for(product: Product, org: str, tmp_path: Path) -> None:
    key, root, request, signed = (tmp_path / name for name in ("root.key", "root.pem", "below.csr", "below.pem"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("openssl", "req", "-x509", "-days", "3000", *curve, "-subj", "/CN=External", *extensions, "-out", root)
    product.run("ca", "create", "external", f"{org}~outside", "--certificate", root)
    made = product.run("ca", "create", "issuing", f"{org}~below", "--issuer", "outside", "--subject", "CN=Below",
                       "--profile", "privatessl-tls-server", "--administrator", "alice",
                       "--credentials-dir", tmp_path)  # fmt: skip
    assert "upload-certificate" in made
    product.run("ca", "csr", f"{org}~below", "--out", request)
    wrong = product.attempt("ca", "upload-certificate", f"{org}~below", root)
    assert wrong.status == 1
    sign = ("-CA", root, "-CAkey", key, "-CAcreateserial", "-days", "1000", "-copy_extensions", "copy")
    run("openssl", "x509", "-req", "-in", request, *sign, "-out", signed)
    product.run("ca", "upload-certificate", f"{org}~below", signed)
    assert product.json("ca", "show", f"{org}~below")["state"] == "active"


def test_a_ca_is_deleted_after_a_confirmation(product: Product, org: str, tmp_path: Path) -> None:
    ca = f"{org}~doomed"
    product.run("ca", "create", "root", ca, "--subject", "CN=Doomed", "--profile", "privatessl-tls-server",
                "--administrator", "alice", "--credentials-dir", tmp_path)  # fmt: skip
    assert product.attempt("ca", "delete", ca).status == 1
    assert "reserved until" in product.run("ca", "delete", ca, "--yes")
    assert product.attempt("ca", "show", ca).status == 1


def test_profiles_are_listed_shown_tried_and_made(product: Product, tmp_path: Path) -> None:
    listed = product.json("profile", "list", "--hidden", "--all")
    assert len([each for each in listed if each["state"] == "built-in"]) == 79 + 5
    assert "serverAuth" in product.run("profile", "show", "privatessl_tls_server")
    product.run("profile", "test", "privatessl-tls-server")
    name = f"web-{secrets.token_hex(3)}"
    product.run(
        "profile", "clone", "privatessl-tls-server", name, "--set", "title=Web", "--set", "validity={default: P9D}"
    )
    declaration = tmp_path / "web.yaml"
    declaration.write_text(product.run("profile", "show", name, "--yaml"))
    product.run("profile", "lint", declaration)
    product.run("profile", "activate", name)
    declaration.write_text(declaration.read_text().replace("P9D", "P8D"))
    assert "version 2" in product.run("profile", "apply", declaration)
    product.run("profile", "retire", name, "--yes")


def test_the_audit_trail_is_listed_and_verified(product: Product, org: str, tmp_path: Path) -> None:
    (record,) = product.json("audit", "list", "-f", "action=organization.create", "-f", f"object={org}")
    assert product.json("audit", "show", record["seq"])["actor_kind"] == "operator"
    checkpoint = tmp_path / "checkpoint"
    assert "intact" in product.run("audit", "verify", "--save", checkpoint)
    product.run("audit", "verify", "--checkpoint-file", checkpoint)
    number, last_seq, digest = checkpoint.read_text().strip().split(":")
    checkpoint.write_text(f"{number}:{last_seq}:{'0' * len(digest)}")
    replaced = product.attempt("audit", "verify", "--checkpoint-file", checkpoint)
    assert (replaced.status, "trail-replaced" in replaced.output) == (1, True)
    product.run("audit", "public-key", "--out", tmp_path / "keys.pem")
    run("openssl", "pkey", "-pubin", "-in", tmp_path / "keys.pem", "-noout")
    assert product.json("audit", "seal")


def test_roles_and_users_are_managed(product: Product) -> None:
    name = f"r{secrets.token_hex(4)}"
    product.run("role", "create", name, "--permission", "ca.view")
    product.run("user", "create", name, "--role", name)
    product.run("user", "edit", name, "--disable")
    assert product.json("user", "show", name)["disabled"]
    product.run("user", "edit", name, "--enable")
    assert "One-time secret" in product.run("user", "reset-password", name)
    refused = product.attempt("role", "delete", name, "--yes")
    assert (refused.status, name in refused.output) == (1, True)
    product.run("user", "delete", name, "--yes")
    product.run("role", "delete", name, "--yes")


def test_live_settings_are_read_and_changed(product: Product) -> None:
    product.run("settings", "set", "logging.level=DEBUG")
    assert product.run("settings", "get", "logging.level").strip() == "DEBUG"
    product.run("settings", "set", "logging.level=null")
    assert product.attempt("settings", "set", "logging.level=LOUD").status == 1
    assert "INTAGLIO_GATEWAY" in product.run("settings", "boot")


def test_a_declaration_is_planned_applied_and_exported(product: Product, tmp_path: Path) -> None:
    name = f"d{secrets.token_hex(4)}"
    wanted = tmp_path / "pki.yaml"
    wanted.write_text(f"""
organizations:
- name: {name}
  cas:
  - {{name: root, kind: root, key_algorithm: P-256, subject: "CN=Declared", profiles: [privatessl-tls-server],
     administrators: [alice]}}
""")
    plan = product.run("apply", "-f", wanted, "--dry-run")
    assert f"+ ca {name}~root" in plan
    product.run("apply", "-f", wanted, "--credentials-dir", tmp_path)
    assert (tmp_path / "alice.p12").exists()
    assert "Nothing to change" in product.run("apply", "-f", wanted)
    product.run("export", "--out", tmp_path / "all.yaml")
    assert "Nothing to change" in product.run("apply", "-f", tmp_path / "all.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("organisations: []")
    assert "/organisations" in product.attempt("apply", "-f", broken).output


def test_server_certificates_are_shown_and_replaced(product: Product, org: str, tmp_path: Path) -> None:
    (default,) = [each for each in product.json("tls", "show") if each["listener"] == "default"]
    assert (default["origin"], "localhost" in default["names"]) == ("platform", True)
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key, "-passout", "pass:sesame")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    run("openssl", "req", "-x509", "-days", "30", *curve, *names, "-out", certificate)
    (tmp_path / "password").write_text("sesame")
    files = ("--certificate", certificate, "--key", key, "--listener", "enroll")
    product.run("tls", "import", *files, "--password-file", tmp_path / "password")
    assert product.attempt("tls", "import", *files, stdin="wrong\n").status == 1
    assert [e["origin"] for e in product.json("tls", "show") if e["listener"] == "enroll"] == ["imported"]
    product.run("tls", "remove", "--listener", "enroll", "--yes")


def test_a_refused_declaration_keeps_the_credentials_made_before(product: Product, tmp_path: Path) -> None:
    name = f"d{secrets.token_hex(4)}"
    wanted = tmp_path / "pki.yaml"
    wanted.write_text(f"""
organizations:
- name: {name}
  cas:
  - {{name: good, kind: root, key_algorithm: P-256, subject: "CN=Good", profiles: [privatessl-tls-server],
     administrators: [alice]}}
  - {{name: wrong, kind: root, key_algorithm: P-256, subject: "CN=Wrong", profiles: [privatessl-tls-server],
     administrators: [alice], not_after: "2099-01-01T00:00:00Z"}}
""")
    refused = product.attempt("apply", "-f", wanted, "--credentials-dir", tmp_path)
    assert refused.status == 1
    assert f"+ ca {name}~good" in refused.output
    assert f"error: ca {name}~wrong: " in refused.output
    assert (tmp_path / "alice.p12").exists()


def test_rights_are_given_and_taken_one_by_one(product: Product, issuing: str, tmp_path: Path) -> None:
    name = f"ci-{secrets.token_hex(3)}"
    command = ("ca", "grant", issuing, name, "--right", "policy-constrained-tenant", "--credentials-dir", tmp_path)
    product.run(*command)
    assert (tmp_path / f"{name}.p12").exists()
    assert {"name": name, "right": "policy-constrained-tenant"} in product.json("ca", "grants", issuing)
    product.run("ca", "revoke-grant", issuing, name, "--yes")
    assert name not in product.run("ca", "grants", issuing)
    refused = product.attempt("ca", "revoke-grant", issuing, "alice", "--yes")
    assert (refused.status, "last administrator" in refused.output) == (1, True)


def test_members_come_and_go(product: Product, org: str) -> None:
    names = [f"m{secrets.token_hex(4)}" for _ in range(2)]
    for name in names:
        product.run("user", "create", name)
        product.run("org", "add-member", org, name)
    assert {each["user"] for each in product.json("org", "members", org)} >= set(names)
    product.run("org", "remove-member", org, names[0], "--yes")
    assert names[0] not in product.run("org", "members", org)
