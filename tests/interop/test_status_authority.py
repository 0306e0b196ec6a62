"""OCSP for a CA that OpenSSL runs: its CRL is read, and clients and servers of every kind ask at `/eva`."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.product import Product, eventually
from tests.support.programs import attempt, program, run

_PROGRAM = Path(__file__).with_name("java") / "RelyingParty.java"
_NAME = "openssl-made"
_CONFIGURATION = """
[ca]
default_ca = ours
[ours]
dir = {folder}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
certificate = $dir/issuing.pem
private_key = $dir/issuing.key
default_md = sha256
default_days = 90
default_crl_days = 2
policy = any
copy_extensions = copy
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical, CA:FALSE
authorityKeyIdentifier = keyid
authorityInfoAccess = OCSP;URI:{responder}
extendedKeyUsage = serverAuth
[signer]
authorityKeyIdentifier = keyid
keyUsage = critical, digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
[issuing]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


@dataclass(frozen=True)
class Leaf:
    """An issued certificate; both are PEM files."""

    key: Path
    certificate: Path


class OpensslCa:
    """A root and an issuing CA that OpenSSL runs in a folder, whose files are served over HTTP at ``base``."""

    def __init__(self, folder: Path, base: str, responder: str) -> None:
        self.folder = folder
        self.base = base
        self.responder = responder
        self.product: Product | None = None
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("1000\n")
        (folder / "crlnumber").write_text("01\n")
        (folder / "ca.cnf").write_text(_CONFIGURATION.format(folder=folder, responder=responder))
        self._key("root")
        self._key("issuing")
        self.openssl(
            "req", "-x509", "-key", "root.key", "-subj", "/CN=Old Root", "-days", "3650", "-out", "root.pem",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self.openssl("req", "-new", "-key", "issuing.key", "-subj", "/CN=Old Issuing", "-out", "issuing.csr")
        self.openssl(
            "x509", "-req", "-in", "issuing.csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "3000",
            "-extfile", "ca.cnf", "-extensions", "issuing", "-set_serial", "7", "-out", "issuing.pem",
        )  # fmt: skip
        self.publish()

    def openssl(self, *arguments: str) -> str:
        return run("openssl", *arguments, cwd=self.folder)

    def issue(self, name: str) -> Leaf:
        self._key(name)
        self.openssl(
            "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
            "-out", f"{name}.csr",
        )  # fmt: skip
        self.openssl("ca", "-batch", "-config", "ca.cnf", "-notext", "-in", f"{name}.csr", "-out", f"{name}.pem")
        return Leaf(self.folder / f"{name}.key", self.folder / f"{name}.pem")

    def certify_signer(self, request: str) -> Path:
        (self.folder / "signer.csr").write_text(request)
        self.openssl(
            "ca", "-batch", "-config", "ca.cnf", "-notext", "-in", "signer.csr", "-extensions", "signer",
            "-out", "signer.pem",
        )  # fmt: skip
        return self.folder / "signer.pem"

    def revoke(self, leaf: Leaf, reason: str = "keyCompromise") -> None:
        self.openssl("ca", "-config", "ca.cnf", "-revoke", str(leaf.certificate), "-crl_reason", reason)
        self.publish()

    def publish(self) -> None:
        self.openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "new.crl")
        (self.folder / "new.crl").replace(self.folder / "issuing.crl")

    def _key(self, name: str) -> None:
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def ca(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpensslCa]:
    """The CA, with the status authority that reads its CRL every second and a signer that it certified."""
    folder = tmp_path_factory.mktemp("openssl-ca")
    folder.chmod(0o755)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = OpensslCa(folder, f"http://127.0.0.1:{server.server_port}", product.url("public", "/eva"))
        made.product = product
        product.run("settings", "set", "outgoing.networks=[127.0.0.0/8, '::1/128']")
        product.run(
            "ocsp", "authority", "create", _NAME, "--issuer", folder / "issuing.pem", "--crl",
            f"{made.base}/issuing.crl", "--profile", "CRLProfileWithNextUpdate", "--every", "1s",
        )  # fmt: skip
        request = product.run("ocsp", "signer", "create", _NAME, "--subject", "CN=Answers of Old Issuing")
        product.run("ocsp", "signer", "import", _NAME, made.certify_signer(request))
        eventually(
            lambda: _status(made, "0x7777") == "good",
            what=lambda: _state(made),
        )
        yield made
        server.shutdown()


def _asked(ca: OpensslCa, *arguments: str | Path) -> str:
    return attempt(
        "openssl", "ocsp", "-issuer", ca.folder / "issuing.pem", "-CAfile", ca.folder / "root.pem", "-url",
        ca.responder, *arguments,
    ).output  # fmt: skip


def _state(ca: OpensslCa) -> str:
    """How reading the CRL goes, and what is answered."""
    assert ca.product is not None
    listed = ca.openssl("crl", "-in", "issuing.crl", "-noout", "-text")
    return ca.product.run("ocsp", "source", "show", _NAME) + _asked(ca, "-serial", "0x7777") + listed


def _status(ca: OpensslCa, serial: str) -> str:
    told = _asked(ca, "-serial", serial)
    return told.partition(f"{serial}: ")[2].split("\n")[0] if "Response verify OK" in told else ""


def _serial(leaf: Leaf) -> str:
    return "0x" + run("openssl", "x509", "-in", leaf.certificate, "-noout", "-serial").strip().partition("=")[2]


def _revoked(ca: OpensslCa, name: str) -> Leaf:
    leaf = ca.issue(name)
    ca.revoke(leaf)
    eventually(lambda: _status(ca, _serial(leaf)) == "revoked", what=lambda: _state(ca))
    return leaf


def test_openssl_believes_what_the_crl_says_with_every_hash_and_by_get(ca: OpensslCa, tmp_path: Path) -> None:
    good, bad = ca.issue("good.example"), _revoked(ca, "bad.example")
    for options in ((), ("-sha256",), ("-sha384",), ("-sha512",)):
        told = _asked(ca, *options, "-cert", good.certificate, "-cert", bad.certificate, "-nonce")
        assert "Response verify OK" in told
        assert "WARNING" not in told
        assert "good.example.pem: good" in told
        assert "bad.example.pem: revoked" in told
        assert "Reason: keyCompromise" in told
    _asked(ca, "-cert", good.certificate, "-no_nonce", "-reqout", tmp_path / "request.der")
    encoded = run("openssl", "base64", "-A", "-in", tmp_path / "request.der").replace("/", "%2F").replace("+", "%2B")
    run("curl", "--silent", "--fail", "--output", tmp_path / "answer.der", f"{ca.responder}/{encoded}")
    told = run(
        "openssl", "ocsp", "-respin", tmp_path / "answer.der", "-issuer", ca.folder / "issuing.pem", "-CAfile",
        ca.folder / "root.pem", "-cert", good.certificate,
    )  # fmt: skip
    assert "good.example.pem: good" in told
    crl = run("openssl", "crl", "-in", ca.folder / "issuing.crl", "-noout", "-nextupdate").strip().partition("=")[2]
    assert f"Next Update: {crl}" in told


def test_our_own_client_asks_and_verifies(ca: OpensslCa, product: Product, tmp_path: Path) -> None:
    good, bad = ca.issue("asked.example"), _revoked(ca, "asked-bad.example")
    issuer = ("--issuer", ca.folder / "issuing.pem")
    told = product.run("ocsp", "query", *issuer, "--cert", good.certificate)
    assert "Response verify OK" in told
    assert "asked.example.pem: good" in told
    answer = product.json("ocsp", "query", *issuer, "--serial", _serial(bad), "--url", ca.responder, "--get")
    assert (answer["status"], answer["reason"], answer["verified"]) == ("revoked", "keyCompromise", True)
    stranger = product.attempt(
        "ocsp", "query", "--issuer", ca.folder / "root.pem", "--serial", "7", "--url", ca.responder
    )
    assert stranger.status == 1
    assert "unauthorized" in stranger.output
    assert product.run("ocsp", "url", _NAME).strip().endswith(f"/eva/{_NAME}")
    checked = product.json("ocsp", "check", "signer")
    assert {each["authority"]: each["problem"] for each in checked}[_NAME] is None


def test_a_signer_is_replaced_without_a_gap(ca: OpensslCa, product: Product) -> None:
    leaf = ca.issue("renewal.example")
    before = _signer(ca, leaf)
    request = product.run("ocsp", "signer", "renew", _NAME)
    assert _signer(ca, leaf) == before
    product.run("ocsp", "signer", "import", _NAME, ca.certify_signer(request))
    eventually(lambda: _signer(ca, leaf) not in ("", before), what="the new signer signs")
    states = {row["state"] for row in product.json("ocsp", "signer", "list") if row["authority"] == _NAME}
    assert states == {"current", "replaced"}


def _signer(ca: OpensslCa, leaf: Leaf) -> str:
    told = _asked(ca, "-cert", leaf.certificate, "-resp_text")
    return told.partition("Responder Id: ")[2].split("\n")[0] if "Response verify OK" in told else ""


def test_answers_are_signed_as_the_operator_says(ca: OpensslCa, product: Product) -> None:
    leaf = ca.issue("chosen.example")

    def told() -> str:
        return _asked(ca, "-cert", leaf.certificate, "-resp_text")

    usual = _signer(ca, leaf)
    product.run("ocsp", "authority", "set", _NAME, "--responder-id", "name", "--digest", "sha512")
    eventually(lambda: "ecdsa-with-SHA512" in told(), what="the digest is used")
    assert "Responder Id: CN" in told()
    assert "Response verify OK" in told()
    refused = product.attempt("ocsp", "authority", "set", _NAME, "--signed-requests")
    assert (refused.status, "requestor_cas" in refused.output) == (1, True)
    product.run("ocsp", "authority", "set", _NAME, "--signed-requests", "--requestor-ca", ca.folder / "issuing.pem")
    eventually(lambda: "sigrequired" in told(), what="an unsigned request is refused")
    shown = product.run("ocsp", "authority", "show", _NAME)
    assert all(choice in shown for choice in ("signed requests", "requestor cas", "sha512"))
    asker = ca.issue("asker.example")
    signed = ("-signer", asker.certificate, "-signkey", asker.key)
    assert "chosen.example.pem: good" in _asked(ca, "-cert", leaf.certificate, *signed)
    product.run(
        "ocsp", "authority", "set", _NAME, "--no-signed-requests", "--responder-id", "key", "--digest", "key"
    )
    eventually(lambda: "chosen.example.pem: good" in told(), what="unsigned requests are answered")
    assert _signer(ca, leaf) == usual


def test_an_authority_is_stopped_and_started_by_command(ca: OpensslCa, product: Product) -> None:
    leaf = ca.issue("stopped.example")
    product.run("ocsp", "authority", "set", _NAME, "--disable")
    eventually(lambda: "unauthorized" in _asked(ca, "-cert", leaf.certificate), what="it answers no more")
    product.run("ocsp", "authority", "set", _NAME, "--enable")
    eventually(lambda: "stopped.example.pem: good" in _asked(ca, "-cert", leaf.certificate), what="it answers again")


def test_gnutls_asks_the_address_in_the_certificate(ca: OpensslCa) -> None:
    for leaf, expected in ((ca.issue("gnutls.example"), "good"), (_revoked(ca, "gnutls-bad.example"), "revoked")):
        told = attempt(
            "ocsptool", "--ask", "--nonce", "--load-cert", leaf.certificate, "--load-issuer",
            ca.folder / "issuing.pem", "--load-trust", ca.folder / "issuing.pem",
        ).output  # fmt: skip
        assert f"Certificate Status: {expected}" in told
        assert "Verifying OCSP Response: Success" in told


def test_nss_asks_the_address_in_the_certificate(ca: OpensslCa, tmp_path: Path) -> None:
    store = f"sql:{tmp_path}"
    run("certutil", "-N", "-d", store, "--empty-password")
    for name, trust in (("root", "CT,,"), ("issuing", ",,")):
        run("certutil", "-A", "-d", store, "-n", name, "-t", trust, "-a", "-i", ca.folder / f"{name}.pem")
    good, bad = ca.issue("nss.example"), _revoked(ca, "nss-bad.example")
    for name, leaf in (("good", good), ("bad", bad)):
        run("certutil", "-A", "-d", store, "-n", name, "-t", ",,", "-a", "-i", leaf.certificate)
    told = attempt("ocspclnt", "-S", "good", "-d", store).output
    assert 'certificate "good" succeeded' in told
    told = attempt("ocspclnt", "-S", "bad", "-d", store).output
    assert "Peer's Certificate has been revoked" in told


def test_java_refuses_what_is_revoked(ca: OpensslCa, tmp_path: Path) -> None:
    run("javac", "-d", tmp_path, _PROGRAM)
    good, bad = ca.issue("java.example"), _revoked(ca, "java-bad.example")
    told = run(
        "java", "-XX:TieredStopAtLevel=1", "-cp", tmp_path, "RelyingParty", "ocsp-leaf", ca.folder / "root.pem",
        ca.folder / "issuing.pem", good.certificate, bad.certificate,
    )  # fmt: skip
    assert "java.example.pem: valid" in told
    assert "java-bad.example.pem: REVOKED at 0" in told


# ---- servers that staple ---------------------------------------------------------------------------------------------

_NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen unix:{folder}/server.sock ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_stapling on;
        ssl_stapling_verify on;
        ssl_stapling_responder {responder};
        ssl_trusted_certificate {trusted};
    }}
}}
"""
_APACHE = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
ServerName localhost
User nobody
Group nogroup
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 127.0.0.1:{port}
SSLStaplingCache shmcb:{folder}/stapling(128000)
<VirtualHost 127.0.0.1:{port}>
    SSLEngine on
    SSLCertificateFile {chain}
    SSLCertificateKeyFile {key}
    SSLUseStapling on
    SSLStaplingForceURL {responder}
    SSLStaplingReturnResponderErrors off
</VirtualHost>
"""
_HAPROXY = """
global
    maxconn 20
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 10s
frontend tls
    bind unix@{folder}/server.sock ssl crt {folder}/server.pem
    http-request return status 200
"""


@pytest.fixture
def server(ca: OpensslCa, tmp_path: Path) -> Leaf:
    """The certificate of a server, with its chain in ``chain.pem``."""
    leaf = ca.issue("stapled.example")
    (tmp_path / "chain.pem").write_text(leaf.certificate.read_text() + (ca.folder / "issuing.pem").read_text())
    authorities = [(ca.folder / f"{name}.pem").read_text() for name in ("issuing", "root")]
    (tmp_path / "trusted.pem").write_text("".join(authorities))
    return leaf


@contextmanager
def _running(folder: Path, *command: str | Path, **environment: str) -> Iterator[None]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [program(str(command[0])), *map(str, command[1:])], stdout=log, stderr=log, cwd=folder,
            env={"PATH": "/usr/sbin:/usr/bin:/bin", **environment},
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _stapled(ca: OpensslCa, *address: str) -> str:
    """What a client hears of the certificate's status in the handshake."""
    return attempt(
        "openssl", "s_client", *address, "-servername", "stapled.example", "-status", "-CAfile",
        ca.folder / "root.pem", "-verify_return_error",
    ).output  # fmt: skip


def _is_stapled(ca: OpensslCa, *address: str) -> bool:
    told = _stapled(ca, *address)
    return "Cert Status: good" in told and "Verify return code: 0" in told


def test_nginx_staples_the_answer(ca: OpensslCa, server: Leaf, tmp_path: Path) -> None:
    configuration = _NGINX.format(
        folder=tmp_path, chain=tmp_path / "chain.pem", key=server.key, trusted=tmp_path / "trusted.pem",
        responder=ca.responder.replace("localhost", "127.0.0.1"),
    )  # fmt: skip
    (tmp_path / "nginx.conf").write_text(configuration)
    with _running(tmp_path, "nginx", "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"):
        eventually(
            lambda: _is_stapled(ca, "-unix", str(tmp_path / "server.sock")), what=(tmp_path / "log").read_text
        )


def test_apache_staples_the_answer(ca: OpensslCa, server: Leaf, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    port = _free_port()
    configuration = _APACHE.format(
        folder=tmp_path, chain=tmp_path / "chain.pem", key=server.key, responder=ca.responder, port=port
    )
    (tmp_path / "apache.conf").write_text(configuration)
    with _running(tmp_path, "apache2", "-DFOREGROUND", "-f", tmp_path / "apache.conf"):
        eventually(
            lambda: _is_stapled(ca, "-connect", f"127.0.0.1:{port}"),
            what=lambda: (tmp_path / "log").read_text() + (tmp_path / "error.log").read_text(),
        )


def test_haproxy_staples_an_answer_that_was_fetched_for_it(ca: OpensslCa, server: Leaf, tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_text((tmp_path / "chain.pem").read_text() + server.key.read_text())
    _asked(ca, "-cert", server.certificate, "-no_nonce", "-respout", tmp_path / "server.pem.ocsp")
    (tmp_path / "haproxy.cfg").write_text(_HAPROXY.format(folder=tmp_path))
    with _running(tmp_path, "haproxy", "-db", "-f", tmp_path / "haproxy.cfg"):
        eventually(
            lambda: _is_stapled(ca, "-unix", str(tmp_path / "server.sock")), what=(tmp_path / "log").read_text
        )


def _free_port() -> int:
    """A port that the kernel just had to spare; Apache cannot be told to ask for one itself."""
    import socket

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port
