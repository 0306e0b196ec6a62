"""A PostgreSQL as operators run it: the distribution's own, over TCP, with TLS and passwords."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from tests.support.folders import fast_folder
from tests.support.product import Product
from tests.support.programs import run

_PASSWORD = "p/a\"s's\\w$o@rd: %1"
_DATABASE = "CaDb"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
ssl = on
fsync = off
"""
_ACCESS = """
local all postgres trust
hostssl all intaglio 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL. ``authority`` is the file of the CA that its certificates come from."""

    folder: Path
    port: int
    authority: Path

    @property
    def administration(self) -> str:
        """Where its superuser connects."""
        return f"host={self.folder} port={self.port} user=postgres dbname=postgres"

    def url(self, host: str, *, password: str = _PASSWORD, mode: str = "verify-full") -> str:
        where = f"intaglio:{quote(password, safe='')}@{host}:{self.port}/{_DATABASE}"
        return f"postgresql://{where}?sslmode={mode}&sslrootcert={self.authority}"

    def start_with(self, common_name: str, names: str = "") -> None:
        """Start, anew if it runs, with a certificate for ``names`` (as OpenSSL writes subjectAltName)."""
        folder, request = self.authority.parent, self.authority.with_name("server.csr")
        key, certificate = folder / "server.key", folder / "server.pem"
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", request, "-subj", f"/CN={common_name}", *(["-addext", f"subjectAltName={names}"] if names else []),
        )  # fmt: skip
        run("openssl", "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", folder / "ca.key",
            "-copy_extensions", "copyall", "-out", certificate, "-days", "2",
        )  # fmt: skip
        for source, name in ((key, "server.key"), (certificate, "server.crt")):
            target = self.folder / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            _give(target)
        if (self.folder / "postmaster.pid").exists():
            self.control("stop")
        self.control("start")

    def control(self, command: str) -> None:
        """Start or stop, and wait until it is done."""
        log = ["-l", str(self.folder / "log")] if command == "start" else []
        arguments = [_binary("pg_ctl"), "-D", str(self.folder), "-w", *log, command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd="/", **_account())
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="intaglio-pg-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        top = Path(name)
        top.chmod(0o711)
        (top / "pki").mkdir()
        folder = top / "cluster"
        folder.mkdir(mode=0o700)
        _give(folder)
        made = Server(folder, _free_port(), top / "pki" / "ca.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            top / "pki" / "ca.key", "-out", made.authority, "-subj", "/CN=Database CA", "-days", "2",
        )  # fmt: skip
        initialize = [_binary("initdb"), "-D", str(folder), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]
        password = top / "password"
        password.write_text("superuser\n")
        password.chmod(0o644)
        subprocess.run([*initialize, f"--pwfile={password}"], check=True, capture_output=True, cwd="/", **_account())
        with (folder / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(port=made.port, folder=folder))
        (folder / "pg_hba.conf").write_text(_ACCESS)
        made.start_with("database", "DNS:localhost")
        try:
            _create_database(made)
            yield made
        finally:
            made.control("stop")


@pytest.fixture
def product_on(server: Server) -> Iterator[Product]:
    """A product that has not been prepared, and a database that it reaches as localhost."""
    server.start_with("database", "DNS:localhost")
    with tempfile.TemporaryDirectory(prefix="intaglio-product-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        made = Product(Path(name), DATABASE_URL=server.url("localhost"))
        yield made
        made.stop()


def test_the_product_works_on_a_database_of_the_operators_own(server: Server, product_on: Product) -> None:
    secret = product_on.json("init")["secret"]
    assert len(secret) == 40
    assert product_on.json("db", "check") == {"ok": True, "findings": [], "warnings": []}
    product_on.start()
    product_on.run("org", "create", "acme")
    product_on.run(
        "ca", "create", "root", "acme~root", "--subject", "CN=Root,O=Acme", "--profile", "privatessl-tls-server",
        "--administrator", "alice", "--save-passwords",
    )  # fmt: skip
    product_on.run(
        "cert", "issue", "--ca", "acme~root", "--profile", "privatessl-tls-server", "--dns", "www.acme.example",
        "--key-out", "www.key", "--out", "www.pem",
    )  # fmt: skip
    product_on.run("ca", "certificate", "acme~root", "--out", "root.pem")
    run("openssl", "verify", "-CAfile", product_on.work / "root.pem", product_on.work / "www.pem")
    with psycopg.connect(server.administration) as connection:
        query = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'intaglio'"
        assert connection.execute(query).fetchall() == [(True,)]
    assert _PASSWORD not in product_on.log.read_text()
    assert _PASSWORD not in product_on.run("db", "url")


@pytest.mark.parametrize(
    ("common_name", "names", "reached", "refused"),
    [
        ("database", "DNS:localhost", "localhost", "127.0.0.1"),
        ("database", "IP:127.0.0.1", "127.0.0.1", "localhost"),
        ("localhost", "", "localhost", "127.0.0.1"),
    ],
    ids=["dns-name", "address", "common-name"],
)
def test_the_server_certificate_must_be_for_the_address(
    server: Server, product_on: Product, common_name: str, names: str, reached: str, refused: str
) -> None:
    server.start_with(common_name, names)
    product_on.settings["DATABASE_URL"] = server.url(reached)
    product_on.run("db", "migrate")
    product_on.settings["DATABASE_URL"] = server.url(refused)
    outcome = product_on.attempt("db", "migrate")
    assert outcome.status == 1
    assert "does not match host name" in outcome.output


def test_a_refusal_of_the_database_is_told_to_the_operator(server: Server, product_on: Product) -> None:
    product_on.settings["DATABASE_URL"] = server.url("localhost", password="a wrong one")
    wrong = product_on.attempt("db", "check")
    assert (wrong.status, "password authentication failed" in wrong.output) == (1, True)
    assert "a wrong one" not in wrong.output
    product_on.settings["DATABASE_URL"] = server.url("localhost", mode="disable")
    assert "no encryption" in product_on.attempt("db", "check").output
    product_on.settings["DATABASE_URL"] = f"postgresql://intaglio:{_PASSWORD}@localhost:{server.port}/{_DATABASE}"
    unreadable = product_on.attempt("db", "check").output
    assert "cannot be read" in unreadable
    assert "s'" not in unreadable


def test_what_could_be_safer_is_said(server: Server, product_on: Product) -> None:
    product_on.settings["DATABASE_URL"] = server.url("localhost", mode="require")
    product_on.run("db", "migrate")
    state = product_on.json("db", "check")
    assert state["ok"]
    assert ["sslmode=require" in each for each in state["warnings"]] == [True]


@pytest.mark.parametrize("command", [("init",), ("db", "check"), ("db", "migrate")], ids=" ".join)
def test_a_database_elsewhere_that_is_not_verified_is_refused(product_on: Product, command: tuple[str, ...]) -> None:
    product_on.settings["DATABASE_URL"] = "postgresql://intaglio:hunter2@192.0.2.1/intaglio?sslmode=require"
    refused = product_on.attempt(*command)
    assert (refused.status, "sslmode=verify-full" in refused.output) == (1, True)
    assert "hunter2" not in refused.output


@pytest.mark.parametrize(
    ("options", "said"),
    [("OWNER postgres", "too few rights"), ("OWNER intaglio ENCODING 'LATIN1' LOCALE 'C'", "encoded in LATIN1")],
    ids=["rights", "encoding"],
)
def test_a_database_that_will_not_do_is_refused(server: Server, product_on: Product, options: str, said: str) -> None:
    name = f"unfit_{secrets.token_hex(4)}"
    with psycopg.connect(server.administration, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {options}'.encode())
    product_on.settings["DATABASE_URL"] = server.url("localhost").replace(_DATABASE, name)
    refused = product_on.attempt("db", "migrate")
    assert refused.status == 1
    assert said in refused.output
    assert "Traceback" not in refused.output


def _create_database(server: Server) -> None:
    """A role that is neither superuser nor may create databases, and a database with capitals in its name."""
    with psycopg.connect(server.administration, autocommit=True) as connection:
        literal = psycopg.sql.Literal(_PASSWORD)
        connection.execute(psycopg.sql.SQL("CREATE ROLE intaglio LOGIN PASSWORD {}").format(literal))
        connection.execute(f'CREATE DATABASE "{_DATABASE}" OWNER intaglio')


def _binary(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    assert found, "PostgreSQL is not installed; scripts/install-system-packages test installs what the tests need"
    return str(found[-1])


def _account() -> dict[str, Any]:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _give(path: Path) -> None:
    if account := _account():
        os.chown(path, account["user"], account["group"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
