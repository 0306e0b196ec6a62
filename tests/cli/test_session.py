"""Reaching a server over TLS, as a user."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from tests.support.product import Product

PASSWORD = "correct horse battery staple"


@pytest.fixture
def user(product: Product) -> tuple[str, str]:
    """A new auditor: name and one-time secret."""
    name = f"u{secrets.token_hex(4)}"
    return name, product.json("user", "create", name, "--role", "auditor")["secret"]


@pytest.fixture
def remote(product: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that reach the console listener, trusting the platform's root; logins are kept in the test's folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "platform-ca.pem"
    product.run("tls", "ca-certificate", "--out", root)
    return "--server", product.url("console"), "--ca-file", str(root)


def test_a_one_time_secret_becomes_a_password_and_a_login(
    product: Product, user: tuple[str, str], remote: tuple[str, ...], tmp_path: Path
) -> None:
    name, secret = user
    (tmp_path / "secret").write_text(secret)
    (tmp_path / "new").write_text(PASSWORD + "\n")
    files = ("--password-file", tmp_path / "secret", "--new-password-file", tmp_path / "new")
    product.run(*remote, "login", name, *files)
    kept = tmp_path / "config" / "intaglio" / "logins.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert product.json(*remote, "whoami")["name"] == name
    refused = product.attempt(*remote, "org", "create", "nope")
    assert (refused.status, "ca.configure" in refused.output) == (1, True)
    product.run(*remote, "logout")
    assert product.attempt(*remote, "whoami").status == 1


def test_a_token_comes_from_a_file_or_the_environment_and_never_from_arguments(
    product: Product, user: tuple[str, str], remote: tuple[str, ...], tmp_path: Path
) -> None:
    name, _ = user
    product.run("user", "create", f"{name}x", "--password-file", _file(tmp_path / "password", PASSWORD))
    product.run("token", "create", "ci", "--user", f"{name}x", "--out", tmp_path / "ci.token")
    assert (tmp_path / "ci.token").stat().st_mode & 0o777 == 0o600
    assert product.json(*remote, "--token-file", tmp_path / "ci.token", "whoami")["name"] == f"{name}x"
    product.settings["TOKEN"] = (tmp_path / "ci.token").read_text()
    try:
        assert product.json("whoami")["name"] == f"{name}x", "a token counts on the unix socket too"
    finally:
        del product.settings["TOKEN"]
    assert "--token " not in product.run("--help")


def test_an_untrusted_server_certificate_is_refused(product: Product) -> None:
    refused = product.attempt("--server", product.url("console"), "whoami")
    assert refused.status == 1
    assert "--ca-file" in refused.output


def test_a_server_is_reached_over_tls_only(product: Product) -> None:
    refused = product.attempt("--server", "http://localhost:1", "whoami")
    assert "https" in refused.output


def test_on_this_host_the_account_is_the_proof(product: Product) -> None:
    assert product.json("whoami")["kind"] == "operator"
    assert product.attempt("login", "admin").status == 1


def test_a_token_rotates_itself_and_takes_its_successors_with_it_when_revoked(
    product: Product, user: tuple[str, str], remote: tuple[str, ...], tmp_path: Path
) -> None:
    name, file = f"{user[0]}z", tmp_path / "ci.token"
    product.run("user", "create", name, "--password-file", _file(tmp_path / "password", PASSWORD))
    made = product.json("token", "create", "ci", "--user", name, "--days", "2", "--out", file)
    old, program = file.read_text(), (*remote, "--token-file", file)
    kept = product.attempt(*program, "token", "rotate", "--out", file)
    assert (kept.status, file.read_text()) == (1, old), "a file is overwritten only when that is asked for"

    new = product.json(*program, "token", "rotate", "--overlap-hours", "0.5", "--out", file, "--force")["token"]

    assert new["parent_id"] == made["token"]["id"]
    assert file.read_text() != old
    assert file.stat().st_mode & 0o777 == 0o600
    assert product.json(*program, "whoami")["token_id"] == new["id"]
    assert "and 1 made with it" in product.run("token", "revoke", made["token"]["id"])
    assert "not valid" in product.attempt(*program, "whoami").output
    assert "intaglio token list" in product.attempt("token", "rotate").output, "the operator has none to rotate"


def test_tokens_are_listed_and_revoked(product: Product, user: tuple[str, str], tmp_path: Path) -> None:
    name = f"{user[0]}y"
    product.run("user", "create", name, "--password-file", _file(tmp_path / "password", PASSWORD))
    made = product.json("token", "create", "ci", "--user", name, "--days", "1")
    product.run("token", "revoke", made["token"]["id"])
    (listed,) = product.json("token", "list", "--user", name)
    assert listed["revoked_at"]
    assert made["secret"] not in os.linesep.join(map(str, listed.values()))


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
