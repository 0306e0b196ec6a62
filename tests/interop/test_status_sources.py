"""Sources of status authorities as real servers offer them: nginx, OpenLDAP, OpenSSL's CA, another installation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.interop.conftest import Pki
from tests.interop.ingress import free_port, listens
from tests.support.folders import fast_folder
from tests.support.openssl_ca import Issued, OpensslCa
from tests.support.product import Product, eventually
from tests.support.programs import attempt, program, run

_LOOPBACK = '["127.0.0.0/8", "::1/128"]'


@pytest.fixture(scope="module")
def va() -> Iterator[Product]:
    """An installation that gives out the status of others' certificates."""
    with tempfile.TemporaryDirectory(prefix="intaglio-va-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        started = Product(folder)
        started.run("init")
        try:
            started.start()
            started.run("settings", "set", f"outgoing.networks={_LOOPBACK}")
            yield started
        finally:
            started.stop()


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    return OpensslCa(tmp_path / "ca")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of its own for the authority of each test."""
    test: str = request.node.name
    return test.removeprefix("test_").replace("_", "-").replace("[", "-").rstrip("]")[:60].lower()


class WebServer:
    """nginx over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "nginx.conf").write_text(
            "daemon off; worker_processes 1; error_log stderr; pid nginx.pid; events {} http { access_log access.log;"
            "client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;"
            f"scgi_temp_path scgi; server {{ listen 127.0.0.1:{self.port}; root {folder}; }} }}"
        )

    def put(self, file: str, data: bytes) -> str:
        """Publish a file, at once as a whole. Its URL."""
        (self.folder / f".{file}").write_bytes(data)
        (self.folder / f".{file}").replace(self.folder / file)
        return self.url(file)

    def url(self, file: str) -> str:
        return f"http://127.0.0.1:{self.port}/{file}"

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """Path and status of every request so far."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [(line.split()[6], line.split()[8]) for line in lines]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with tempfile.TemporaryDirectory(prefix="intaglio-web-") as made:
        folder = Path(made)
        folder.chmod(0o711)  # started by root, nginx serves as an account that must pass through
        server = WebServer(folder)
        with _process([program("nginx"), "-p", made, "-c", "nginx.conf", "-e", "stderr"], folder, server.port):
            yield server


@contextmanager
def _process(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with open(folder / "process.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        eventually(
            lambda: listens(port) or process.poll() is not None,
            what=lambda: f"{command[0]} starts: {(folder / 'process.log').read_text()}",
        )
        assert process.poll() is None, (folder / "process.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait()


def add_signer(va: Product, ca: OpensslCa, name: str) -> None:
    """A delegated signer of the CA for an authority."""
    request = ca.folder / "ocsp.csr"
    va.run("ocsp", "signer", "create", name, "--subject", f"CN=OCSP {name}", "--out", request)
    va.run("ocsp", "signer", "import", name, ca.sign(request).certificate)


def asked(va: Product, ca: OpensslCa, *issued: Issued | str, folder: Path) -> dict[str, str]:
    """What `openssl ocsp` is told at /eva, by serial number."""
    serials = [each if isinstance(each, str) else each.serial for each in issued]
    wanted = [option for serial in serials for option in ("-serial", f"0x{serial}")]
    done = attempt(
        "openssl", "ocsp", "-issuer", ca.certificate, *wanted, "-url", va.url("public", "/eva"),
        "-CAfile", ca.certificate, "-no_nonce", cwd=folder,
    )  # fmt: skip
    lines = [line for line in done.output.splitlines() if line.startswith("0x")]
    return {line.split(":")[0][2:]: line.split(":")[1].strip() for line in lines} or {"": done.output}


def pull(va: Product, name: str) -> Any:
    """Have the source read now; what came of it."""
    return json.loads(va.attempt("--json", "ocsp", "source", "pull", name).stdout)


# ---- CRLs over HTTP --------------------------------------------------------------------------------------------------


def test_openssl_believes_what_comes_from_its_own_crl(
    va: Product, ca: OpensslCa, web: WebServer, name: str, tmp_path: Path
) -> None:
    good, bad, held = (ca.issue(each) for each in ("good", "bad", "held"))
    ca.revoke(bad)
    ca.revoke(held, "certificateHold")
    url = web.put("ca.crl", ca.crl())
    va.run("ocsp", "authority", "create", name, "--issuer", ca.certificate, "--crl", url, "--every", "1s")
    add_signer(va, ca, name)
    found = pull(va, name)
    assert found["outcome"] != "failed", found
    told = asked(va, ca, good, bad, held, folder=tmp_path)
    assert told == {good.serial: "good", bad.serial: "revoked", held.serial: "revoked"}
    ca.revoke(good)
    web.put("ca.crl", ca.crl())
    eventually(lambda: asked(va, ca, good, folder=tmp_path)[good.serial] == "revoked", what="the new CRL counts")
    eventually(lambda: ("/ca.crl", "304") in web.statuses, what="an unchanged CRL is not sent again")
    assert '"ok": true' in va.attempt("--json", "ocsp", "check", "source", name).output


def test_a_crl_that_ends_turns_good_into_try_later(
    va: Product, ca: OpensslCa, web: WebServer, name: str, tmp_path: Path
) -> None:
    good = ca.issue("good")
    url = web.put("ca.crl", ca.crl())
    va.run("ocsp", "authority", "create", name, "--issuer", ca.certificate, "--crl", url, "--every", "1s")
    add_signer(va, ca, name)
    eventually(lambda: asked(va, ca, good, folder=tmp_path) == {good.serial: "good"}, what="the CRL counts")
    web.put("ca.crl", ca.crl(seconds=15))
    metrics = va.url("health", "/metrics")
    eventually(
        lambda: f'CRLExpirationWarning{{authority="{name}"}} 1.0' in run("curl", "--silent", metrics),
        what="the warning is raised",
    )
    eventually(
        lambda: "trylater" in asked(va, ca, good, folder=tmp_path).get("", ""), what="the CRL ends and is not used"
    )
    web.put("ca.crl", ca.crl())
    eventually(lambda: asked(va, ca, good, folder=tmp_path) == {good.serial: "good"}, what="the new CRL counts")
    eventually(
        lambda: f'CRLExpirationWarning{{authority="{name}"}} 0.0' in run("curl", "--silent", metrics),
        what="the warning is taken back",
    )


def test_partitions_declared_in_a_file(
    va: Product, ca: OpensslCa, web: WebServer, name: str, tmp_path: Path
) -> None:
    first, second = ca.issue("first"), ca.issue("second")
    ca.revoke(first)
    one = web.put("one.crl", ca.crl(section="partition"))
    two = web.put("two.crl", ca.crl())
    crls = [{"name": "one", "url": one}, {"name": "two", "url": two}]
    wanted = {"source": "crl", "profile": "CRLProfile", "issuers": ca.certificate.read_text(), "crl": {"crls": crls}}
    (tmp_path / "authority.json").write_text(json.dumps({"name": name, **wanted}))
    va.run("ocsp", "authority", "validate", "--file", tmp_path / "authority.json")
    va.run("ocsp", "authority", "create", name, "--file", tmp_path / "authority.json")
    add_signer(va, ca, name)
    found = pull(va, name)
    assert found["outcome"] != "failed", found
    parts = va.json("ocsp", "source", "show", name)["parts"]
    assert [(each["part"], each["complete"]) for each in parts] == [("one", True), ("two", True)]
    assert asked(va, ca, first, second, folder=tmp_path) == {first.serial: "revoked", second.serial: "good"}
    written = tmp_path / "shown.json"
    written.write_bytes(va.attempt("--json", "ocsp", "authority", "show", name).stdout)
    va.run("ocsp", "authority", "set", name, "--file", written)


def test_a_tampered_crl_is_kept_out_and_reported(
    va: Product, ca: OpensslCa, web: WebServer, name: str, tmp_path: Path
) -> None:
    good = ca.issue("good")
    url = web.put("ca.crl", ca.crl())
    va.run("ocsp", "authority", "create", name, "--issuer", ca.certificate, "--crl", url, "--every", "1h")
    add_signer(va, ca, name)
    assert pull(va, name)["outcome"] != "failed"
    ca.revoke(good)
    tampered = bytearray(ca.crl())
    tampered[-3] ^= 1
    web.put("ca.crl", bytes(tampered))
    found = pull(va, name)
    assert found["outcome"] == "failed", found
    assert "not signed by the CA" in found["detail"]
    assert asked(va, ca, good, folder=tmp_path) == {good.serial: "good"}
    checked = va.attempt("ocsp", "check", "source", name)
    assert checked.status == 1
    assert "FAILED" in checked.output


def test_three_answers_with_a_list_of_serial_numbers(
    va: Product, ca: OpensslCa, web: WebServer, name: str, tmp_path: Path
) -> None:
    good, bad = ca.issue("good"), ca.issue("bad")
    ca.revoke(bad)
    crl = web.put("ca.crl", ca.crl())
    listed = web.put("serials.txt", f"00{good.serial.lower()}\r\n00{bad.serial}\r\n".encode())
    va.run(
        "ocsp", "authority", "create", name, "--issuer", ca.certificate, "--crl", crl, "--serial-list", listed,
        "--every", "1h",
    )  # fmt: skip
    add_signer(va, ca, name)
    pull(va, name)
    told = asked(va, ca, good, bad, "1234", folder=tmp_path)
    assert told == {good.serial: "good", bad.serial: "revoked", "1234": "unknown"}


# ---- directories -----------------------------------------------------------------------------------------------------

_SLAPD = """
include /etc/ldap/schema/core.schema
pidfile {folder}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
allow bind_anon_dn
TLSCACertificateFile {folder}/tls.pem
TLSCertificateFile {folder}/tls.pem
TLSCertificateKeyFile {folder}/tls.key
database mdb
maxsize 33554432
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw secret-of-admin
directory {folder}/db
access to dn.exact="cn=guarded,dc=example" by dn.exact="cn=reader,dc=example" read by * none
access to attrs=userPassword by * auth
access to * by * read
"""
_ENTRIES = """
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=reader,dc=example
objectClass: person
cn: reader
sn: reader
userPassword: secret-of-reader
"""


class LdapServer:
    """slapd on the loopback; ``url`` speaks LDAP (and StartTLS), ``secure_url`` LDAPS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.secure_port = free_port(), free_port()
        (folder / "db").mkdir()
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-keyout", folder / "tls.key", "-out", folder / "tls.pem", "-subj", "/CN=ldap",
            "-addext", "subjectAltName=DNS:localhost",
        )  # fmt: skip
        (folder / "slapd.conf").write_text(_SLAPD.format(folder=folder))

    @property
    def url(self) -> str:
        return f"ldap://localhost:{self.port}"

    @property
    def secure_url(self) -> str:
        return f"ldaps://localhost:{self.secure_port}"

    def put(self, dn: str, attributes: dict[str, bytes]) -> None:
        """An entry with CRLs; one that is there is replaced."""
        import base64

        attempt("ldapdelete", *self._admin, dn)
        lines = [f"dn: {dn}", "objectClass: cRLDistributionPoint"]
        lines += [f"{name}:: {base64.b64encode(value).decode()}" for name, value in attributes.items()]
        run("ldapadd", *self._admin, stdin="\n".join([*lines, f"cn: {dn.split(',')[0][3:]}", ""]).encode())

    @property
    def _admin(self) -> tuple[str, ...]:
        return ("-x", "-H", self.url, "-D", "cn=admin,dc=example", "-w", "secret-of-admin")


@pytest.fixture(scope="module")
def ldap() -> Iterator[LdapServer]:
    with tempfile.TemporaryDirectory(prefix="intaglio-ldap-") as made:
        server = LdapServer(Path(made))
        where = f"ldap://127.0.0.1:{server.port} ldaps://127.0.0.1:{server.secure_port}"
        command = [program("slapd"), "-h", where, "-f", str(server.folder / "slapd.conf"), "-d", "0"]
        with _process(command, server.folder, server.port):
            run("ldapadd", *server._admin, stdin=_ENTRIES.encode())
            yield server


Login = Callable[[Path], list[str]]


def _password(folder: Path) -> str:
    (folder / "password").write_text("secret-of-reader\n")
    return str(folder / "password")


@pytest.mark.parametrize(
    ("entry", "secure", "login"),
    [
        ("cn=open,dc=example", "no", lambda folder: []),
        ("cn=open,dc=example", "no", lambda folder: ["--user", "cn=reader,dc=example"]),
        (
            "cn=guarded,dc=example",
            "no",
            lambda folder: ["--user", "cn=reader,dc=example", "--password-file", _password(folder)],
        ),
        (
            "cn=guarded,dc=example",
            "starttls",
            lambda folder: ["--user", "cn=reader,dc=example", "--password-file", _password(folder)],
        ),
        ("cn=open,dc=example", "ldaps", lambda folder: []),
    ],
    ids=["anonymous", "user", "password", "starttls", "ldaps"],
)
def test_a_crl_in_a_directory_is_read(
    va: Product, ca: OpensslCa, ldap: LdapServer, name: str, tmp_path: Path, entry: str, secure: str, login: Login
) -> None:
    good, bad = ca.issue("good"), ca.issue("bad")
    ca.revoke(bad)
    ldap.put(entry, {"certificateRevocationList;binary": ca.crl()})
    where = ["--url", ldap.secure_url if secure == "ldaps" else ldap.url]
    where += ["--start-tls"] if secure == "starttls" else []
    where += ["--server-ca", str(ldap.folder / "tls.pem")] if secure != "no" else []
    va.run("ocsp", "directory", "set", name, *where, *login(tmp_path))
    va.run(
        "ocsp", "authority", "create", name, "--issuer", ca.certificate, "--directory", name, "--entry", entry,
        "--every", "1h",
    )  # fmt: skip
    found = pull(va, name)
    assert found["outcome"] != "failed", found
    add_signer(va, ca, name)
    assert asked(va, ca, good, bad, folder=tmp_path) == {good.serial: "good", bad.serial: "revoked"}


def test_another_attribute_and_a_wrong_password(
    va: Product, ca: OpensslCa, ldap: LdapServer, name: str, tmp_path: Path
) -> None:
    ldap.put("cn=odd,dc=example", {"authorityRevocationList;binary": ca.crl()})
    va.run("ocsp", "directory", "set", name, "--url", ldap.url)
    created = ("--issuer", ca.certificate, "--directory", name, "--entry", "cn=odd,dc=example", "--every", "1h")
    va.run("ocsp", "authority", "create", name, *created)
    assert 'has no "certificateRevocationList;binary"' in pull(va, name)["detail"]
    va.run("ocsp", "authority", "set", name, "--attribute", "authorityRevocationList;binary")
    eventually(lambda: pull(va, name)["outcome"] != "failed", what="the other attribute is read")
    (tmp_path / "wrong").write_text("guess\n")
    login = ("--user", "cn=reader,dc=example", "--password-file", tmp_path / "wrong")
    va.run("ocsp", "directory", "set", name, "--url", ldap.url, *login)
    assert "the name or the password is wrong" in pull(va, name)["detail"]
    assert "guess" not in va.log.read_text()


def test_a_directory_with_another_certificate_is_not_believed(
    va: Product, ca: OpensslCa, ldap: LdapServer, name: str
) -> None:
    ldap.put("cn=open,dc=example", {"certificateRevocationList;binary": ca.crl()})
    va.run("ocsp", "directory", "set", name, "--url", ldap.secure_url, "--server-ca", ca.certificate)
    where = ("--directory", name, "--entry", "cn=open,dc=example", "--every", "1h")
    va.run("ocsp", "authority", "create", name, "--issuer", ca.certificate, *where)
    assert "CERTIFICATE_VERIFY_FAILED" in pull(va, name)["detail"]


# ---- another installation as gateway ---------------------------------------------------------------------------------


@pytest.fixture
def follow(va: Product, pki: Pki, tmp_path: Path) -> Callable[..., None]:
    """Makes an authority over the events of the other installation."""
    known = json.loads(va.attempt("--json", "ocsp", "credential", "list").stdout)
    if not known:
        va.run(
            "ocsp", "credential", "import", pki.folder / "bob.p12", "--password-file", pki.folder / "bob.password"
        )  # fmt: skip

    def make(name: str, *options: str | Path) -> None:
        va.run(
            "ocsp", "authority", "create", name, "--gateway", pki.product.url("gateway", "/cagw"),
            "--gateway-ca", pki.issuing, "--server-ca", pki.folder / "platform-ca.pem",
            "--issuer", pki.folder / "issuing.pem", "--every", "1s", *options,
        )  # fmt: skip

    return make


def test_events_of_a_gateway_become_answers(
    va: Product, pki: Pki, follow: Callable[..., None], name: str, tmp_path: Path
) -> None:
    first, second = pki.enroll(tmp_path, "one.demo.example"), pki.enroll(tmp_path, "two.demo.example")
    pki.act(second, "RevokeAction", reason="keyCompromise")
    follow(name, "--batch-size", "5")
    va.run("ocsp", "signer", "create", name, "--subject", "CN=Events OCSP", "--out", tmp_path / "o.csr")
    try:
        found = pull(va, name)
        assert found["outcome"] != "failed", found
        shown = va.json("ocsp", "source", "show", name)
        assert shown["state"]["complete"], shown
        told = va.json("ocsp", "check", "source", name)
        assert told["ok"], told
        known = _known(va, name)
        assert known[first.serial] == "good"
        assert known[second.serial] == "revoked"
        pki.act(first, "HoldAction")
        eventually(lambda: _known(va, name)[first.serial] == "held", what="the hold is heard of")
        pki.act(first, "UnholdAction")
        eventually(lambda: _known(va, name)[first.serial] == "good", what="the release is heard of")
    finally:
        va.run("ocsp", "authority", "delete", name, "--yes")


def test_a_killed_reader_loses_and_repeats_nothing(
    va: Product, pki: Pki, follow: Callable[..., None], name: str, tmp_path: Path
) -> None:
    issued = {pki.enroll(tmp_path, f"k{number}.demo.example").serial for number in range(12)}
    follow(name, "--batch-size", "1")
    try:
        for _ in range(3):
            before = _count(va, name)
            eventually(lambda before=before: _count(va, name) > before or _complete(va, name), what="it goes on")
            _kill_jobs(va)
        eventually(lambda: _complete(va, name), what="the feed has been read to its end")
        known = _known(va, name)
        assert issued <= known.keys()
        events = pki.call(f"/certificate-authorities/{pki.issuing}/certificate-events?preferredPageSize=1000").json
        told = {each["serialNumber"].lstrip("0") for each in events["events"]}
        assert {serial.lstrip("0") for serial in known} == told
        assert va.json("ocsp", "source", "show", name)["state"]["entries"] == len(told)
    finally:
        va.run("ocsp", "authority", "delete", name, "--yes")


def test_a_stranger_is_told_nothing(
    va: Product, pki: Pki, follow: Callable[..., None], name: str, ca: OpensslCa
) -> None:
    follow(name, "--gateway-ca", "interop~nobody")
    try:
        assert pull(va, name)["outcome"] == "failed"
        found = va.attempt("--json", "ocsp", "check", "source", name)
        assert found.status == 1
        assert "answers 404" in found.output or "answers 403" in found.output
        va.run("ocsp", "authority", "set", name, "--server-ca", ca.certificate)
        eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in pull(va, name)["detail"], what="the gateway is not believed")
    finally:
        va.run("ocsp", "authority", "delete", name, "--yes")


def test_an_outbound_credential_opens_the_gateway_too(
    va: Product, pki: Pki, follow: Callable[..., None], name: str
) -> None:
    va.run("org", "create", "vaorg")
    va.run("mtls", "outbound", "create", "vaorg~feed", "--host", "localhost")
    password = pki.folder / "bob.password"
    va.run("mtls", "outbound", "import", "vaorg~feed", pki.folder / "bob.p12", "--password-file", password)
    follow(name, "--outbound", "vaorg~feed")
    try:
        assert pull(va, name)["outcome"] != "failed"
        eventually(lambda: _complete(va, name), what="the feed has been read to its end")
        ready = json.loads(run("curl", "--silent", va.url("health", "/readyz")))
        assert ready["components"]["statusSources"]["details"][name] == "current"
    finally:
        va.run("ocsp", "authority", "delete", name, "--yes")


_STATES = {"0": "good", "1": "revoked", "2": "held"}


def _known(va: Product, name: str) -> dict[str, str]:
    """What the database says, by hexadecimal serial number."""
    rows = _sql(
        va,
        "SELECT upper(encode(serial, 'hex')), e.state FROM status_entry e JOIN status_authority a USING (set_id) "
        f"WHERE a.name = '{name}'",
    )
    return {serial: _STATES[state] for serial, state in rows}


def _count(va: Product, name: str) -> int:
    return len(_known(va, name))


def _complete(va: Product, name: str) -> bool:
    state = va.json("ocsp", "source", "show", name)["state"]
    return bool(state and state["complete"])


def _sql(va: Product, statement: str) -> list[tuple[str, ...]]:
    import psycopg

    url = va.run("db", "url").strip()
    with psycopg.connect(url) as connection:
        return [tuple(map(str, row)) for row in connection.execute(statement.encode()).fetchall()]


def _kill_jobs(va: Product) -> None:
    """Kill the process that reads sources, at whatever it does."""
    os.kill(va.runtime.processes["jobs"], signal.SIGKILL)
