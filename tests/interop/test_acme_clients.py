"""ACME with clients that are not ours: certbot, lego, dehydrated, acme-tiny, uacme, Caddy and Apache mod_md.

Names are those of a zone of a real name server, which maps all of them to this host; challenges are answered on free
ports of it.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.support.bind import KEY_NAME, Bind
from tests.support.pki import Pki, admin, ok
from tests.support.product import PATIENCE, Product, eventually
from tests.support.programs import Outcome, attempt, program, run

ZONE = "acme.test"
PROFILE = "privatessl-tls-server"
SERVER_PROFILES = (PROFILE, "privatessl-tls-client", "privatessl-tls-client-server")


@dataclass(frozen=True)
class Lab:
    """A running product with an ACME endpoint, a name server, and the ports at which challenges are expected."""

    product: Product
    pki: Pki
    bind: Bind
    http_port: int
    tls_port: int

    @property
    def directory(self) -> str:
        return self.at(PROFILE)

    def at(self, profile: str) -> str:
        return self.product.url("enroll", f"/acme/main/{self.pki.issuing}/{profile}/directory")

    @property
    def trust(self) -> dict[str, str]:
        """What has clients trust the server, each in its own way."""
        anchor = str(self.pki.anchor_file)
        return dict.fromkeys(("REQUESTS_CA_BUNDLE", "LEGO_CA_CERTIFICATES", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), anchor)

    def endpoint(self, profile: str, **options: Any) -> str:
        """A further endpoint, and its directory."""
        create_endpoint(self.product, self.pki.issuing, profile, self.validation | options)
        return self.at(profile)

    @property
    def validation(self) -> dict[str, Any]:
        ports = {"http_port": self.http_port, "tls_port": self.tls_port}
        return {"validation": {**ports, "nameservers": [self.bind.address]}}


def create_endpoint(product: Product, ca: str, profile: str, options: Mapping[str, Any]) -> None:
    with admin(product) as client:
        wish = {"protocol": "acme", "ca": ca, "profile": profile, "name": profile, "options": options}
        ok(client.post("/enrollment/endpoints", json=wish))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="intaglio-acme-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "product").mkdir(mode=0o711)
        product = Product(folder / "product", WORKERS="2")
        bind = Bind(folder / "bind", {ZONE: "* IN A 127.0.0.1"})
        product.run("init")
        bind.start()
        try:
            product.start()
            product.run("settings", "set", 'outgoing.networks=["127.0.0.0/8"]')
            product.run("settings", "set", 'enrollment.trusted_proxies=["127.0.0.1/32"]')
            pki = Pki.create(product, "acme", profiles=SERVER_PROFILES)
            made = Lab(product, pki, bind, free_port(), free_port())
            create_endpoint(product, pki.issuing, PROFILE, made.validation)
            yield made
        finally:
            product.stop()
            bind.stop()


def free_port() -> int:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        port: int = stream.getsockname()[1]
        return port


@contextlib.contextmanager
def web_root(folder: Path, port: int) -> Iterator[Path]:
    """A web server over ``folder``; where its challenges belong."""
    challenges = folder / ".well-known/acme-challenge"
    challenges.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(_Quiet, directory=str(folder))
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield challenges
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def certbot(lab: Lab, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    folders = [f"--{name}-dir={folder / name}" for name in ("config", "work", "logs")]
    return attempt(
        "certbot", *arguments, "--non-interactive", *folders, environment={**lab.trust, **(environment or {})}
    )


def log_of(folder: Path) -> str:
    """What certbot's last run logged; on its output Debian's version shows a failure of its own instead."""
    return (folder / "logs/letsencrypt.log").read_text()


def certonly(lab: Lab, folder: Path, *names: str, more: tuple[str, ...] = ()) -> Outcome:
    """What the guide tells to run, with a port for the challenge."""
    domains = [part for name in names for part in ("-d", name)]
    where = ("--server", lab.directory, "--standalone", "--http-01-port", str(lab.http_port))
    who = ("--agree-tos", "--no-eff-email", "-m", "admin@example.com")
    return certbot(lab, folder, "certonly", *where, *who, *domains, *more)


def good(outcome: Outcome) -> str:
    assert outcome.status == 0, outcome.output
    return outcome.output


def names_of(chain: Path) -> list[str]:
    return sans(x509.load_pem_x509_certificates(chain.read_bytes())[0])


def sans(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted([*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))])


def verifies(lab: Lab, chain: Path) -> None:
    """OpenSSL builds the path from what the client stored, with nothing but the root beside it."""
    run("openssl", "verify", "-x509_strict", "-CAfile", lab.pki.root_file, "-untrusted", chain, chain)


# ---- certbot ---------------------------------------------------------------------------------------------------------


def test_certbot_gets_a_certificate_for_several_names_renews_and_revokes_it(lab: Lab, tmp_path: Path) -> None:
    names = (f"one.certbot.{ZONE}", f"two.certbot.{ZONE}")
    good(certonly(lab, tmp_path, *names))
    live = tmp_path / "config/live" / names[0]
    assert names_of(live / "fullchain.pem") == sorted(names)
    verifies(lab, live / "fullchain.pem")
    first = x509.load_pem_x509_certificate((live / "cert.pem").read_bytes())
    good(certbot(lab, tmp_path, "renew", "--force-renewal", "--no-random-sleep-on-renew"))
    second = x509.load_pem_x509_certificate((live / "cert.pem").read_bytes())
    assert first.serial_number != second.serial_number
    revoke = ("revoke", "--cert-name", names[0], "--reason", "superseded", "--no-delete-after-revoke")
    good(certbot(lab, tmp_path, *revoke, "--server", lab.directory))
    shown = lab.product.json("cert", "show", "--ca", lab.pki.issuing, f"{second.serial_number:x}")
    assert (shown["state"], shown["reason"]) == ("revoked", "superseded")
    assert certbot(lab, tmp_path, *revoke, "--server", lab.directory).status != 0
    assert "acme:error:alreadyRevoked" in log_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--key-type", "rsa", "--rsa-key-size", "3072"), rsa.RSAPublicKey),
        (("--key-type", "ecdsa", "--elliptic-curve", "secp384r1"), ec.EllipticCurvePublicKey),
    ],
    ids=["rsa-3072", "p-384"],
)
def test_certbot_gets_certificates_for_keys_of_other_types(
    lab: Lab, tmp_path: Path, options: tuple[str, ...], kind: type
) -> None:
    name = f"{options[1]}.certbot.{ZONE}"
    good(certonly(lab, tmp_path, name, more=options))
    issued = x509.load_pem_x509_certificate((tmp_path / "config/live" / name / "cert.pem").read_bytes())
    assert isinstance(issued.public_key(), kind)


def test_certbot_gets_a_wildcard_over_the_dns(lab: Lab, tmp_path: Path) -> None:
    credentials = tmp_path / "rfc2136.ini"
    secret = lab.bind.key_file.read_text().split('secret "')[1].split('"')[0]
    credentials.write_text(
        f"dns_rfc2136_server = 127.0.0.1\ndns_rfc2136_port = {lab.bind.port}\ndns_rfc2136_name = {KEY_NAME}\n"
        f"dns_rfc2136_secret = {secret}\ndns_rfc2136_algorithm = HMAC-SHA256\n"
    )
    credentials.chmod(0o600)
    how = ("--dns-rfc2136", "--dns-rfc2136-credentials", str(credentials), "--dns-rfc2136-propagation-seconds", "1")
    who = ("--server", lab.directory, "--agree-tos", "-m", "admin@example.com", "--no-eff-email")
    names = ("-d", f"*.wild.{ZONE}", "-d", f"wild.{ZONE}")
    good(certbot(lab, tmp_path, "certonly", *how, *who, *names))
    live = tmp_path / f"config/live/wild.{ZONE}/fullchain.pem"
    assert names_of(live) == [f"*.wild.{ZONE}", f"wild.{ZONE}"]


def test_certbot_changes_and_ends_its_account(lab: Lab, tmp_path: Path) -> None:
    where = ("--server", lab.directory)
    good(certbot(lab, tmp_path, "register", *where, "--agree-tos", "-m", "first@example.com", "--no-eff-email"))
    good(certbot(lab, tmp_path, "update_account", *where, "-m", "second@example.com", "--no-eff-email"))
    assert "second@example.com" in good(certbot(lab, tmp_path, "show_account", *where))
    good(certbot(lab, tmp_path, "unregister", *where))


def test_certbot_explains_why_a_name_is_not_certified(lab: Lab, tmp_path: Path) -> None:
    outcome = certonly(lab, tmp_path, "www.elsewhere.test")
    assert outcome.status != 0
    assert "www.elsewhere.test" in outcome.output
    wrong = certbot(
        lab, tmp_path / "wrong", "register", "--agree-tos", "-m", "a@example.com", "--no-eff-email",
        "--server", lab.at("privatessl-tls-unknown"),
    )  # fmt: skip
    assert wrong.status != 0


def test_certbot_needs_terms_and_external_account_where_they_are_asked_for(lab: Lab, tmp_path: Path) -> None:
    directory = lab.endpoint(
        "privatessl-tls-client", external_account="required", terms_of_service="https://ca.example/terms"
    )
    register = ("register", "--server", directory, "-m", "a@example.com", "--no-eff-email")
    refused = certbot(lab, tmp_path, *register)
    assert refused.status != 0
    assert "https://ca.example/terms" in log_of(tmp_path)
    assert certbot(lab, tmp_path, *register, "--agree-tos").status != 0
    made = lab.product.json(
        "enroll", "credential", "create", "acme/privatessl-tls-client", "--kind", "eab", "--name", "host-7"
    )
    binding = ("--eab-kid", "host-7", "--eab-hmac-key", made["secret"])
    good(certbot(lab, tmp_path, *register, "--agree-tos", *binding))


def test_certbot_gets_a_certificate_through_a_balancer_that_ends_tls(lab: Lab, tmp_path: Path) -> None:
    name, port = f"www.balancer.{ZONE}", free_port()
    files = ("--key-out", tmp_path / "key.pem", "--out", tmp_path / "chain.pem", "--chain")
    lab.product.run("cert", "issue", "--ca", lab.pki.issuing, "--profile", PROFILE, "--dns", "localhost", *files)
    upstream = lab.product.url("enroll").replace("localhost", "127.0.0.1")
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/server.log;\nworker_processes 1;\nevents {{}}\n"
        f"http {{\n access_log off;\n client_body_temp_path {tmp_path}/body;\n proxy_temp_path {tmp_path}/proxy;\n"
        f" fastcgi_temp_path {tmp_path}/f;\n uwsgi_temp_path {tmp_path}/u;\n scgi_temp_path {tmp_path}/s;\n"
        f" server {{\n  listen 127.0.0.1:{port} ssl;\n  ssl_certificate {tmp_path}/chain.pem;\n"
        f"  ssl_certificate_key {tmp_path}/key.pem;\n  location /acme/ {{\n   proxy_pass {upstream};\n"
        f"   proxy_ssl_verify on;\n   proxy_ssl_name localhost;\n"
        f"   proxy_ssl_trusted_certificate {lab.pki.anchor_file};\n   proxy_set_header Host internal.example;\n"
        "   proxy_set_header X-Forwarded-Host $http_host;\n   proxy_set_header X-Forwarded-Proto $scheme;\n"
        "   proxy_set_header X-Forwarded-For $remote_addr;\n  }\n }\n}\n"
    )
    outside = f"https://localhost:{port}"
    directory = lab.directory.replace(lab.product.url("enroll"), outside)
    where = ("--server", directory, "--standalone", "--http-01-port", str(lab.http_port))
    who = ("--agree-tos", "--no-eff-email", "-m", "admin@example.com", "-d", name)
    trust = {"REQUESTS_CA_BUNDLE": str(lab.pki.root_file)}
    with serving(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], tmp_path, {}):
        eventually(lambda: listens(port), what=lambda: (tmp_path / "server.log").read_text())
        good(certbot(lab, tmp_path, "certonly", *where, *who, environment=trust))
    assert names_of(tmp_path / "config/live" / name / "fullchain.pem") == [name]
    assert outside in log_of(tmp_path)


def listens(port: int) -> bool:
    with socket.socket() as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


def test_the_operator_sees_accounts_and_orders_and_ends_an_account(lab: Lab, tmp_path: Path) -> None:
    name = f"www.operator.{ZONE}"
    good(certonly(lab, tmp_path, name))
    (order,) = lab.product.json("acme", "order", "list", "--filter", f"names~{name}")
    assert (order["status"], order["identifiers"]) == ("valid", [f"dns:{name}"])
    (proof,) = lab.product.json("acme", "order", "show", order["id"])["authorizations"]
    assert (proof["status"], proof["method"]) == ("valid", "http-01")
    account = lab.product.json("acme", "account", "show", order["account"])
    assert account["contacts"] == ["mailto:admin@example.com"]
    lab.product.run("acme", "account", "deactivate", order["account"], "--yes")
    assert certonly(lab, tmp_path, f"more.operator.{ZONE}").status != 0
    assert "The account is revoked." in log_of(tmp_path)


# ---- lego ------------------------------------------------------------------------------------------------------------


def lego(lab: Lab, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    common = ("--server", lab.directory, "--email", "admin@example.com", "--accept-tos", "--path", str(folder))
    return attempt("lego", *common, *arguments, environment={**lab.trust, **(environment or {})})


def test_lego_proves_a_name_over_http_renews_and_revokes(lab: Lab, tmp_path: Path) -> None:
    name = f"www.lego.{ZONE}"
    how = ("--domains", name, "--http", "--http.port", f":{lab.http_port}")
    good(lego(lab, tmp_path, *how, "--key-type", "rsa2048", "run"))
    chain = tmp_path / f"certificates/{name}.crt"
    assert names_of(chain) == [name]
    verifies(lab, chain)
    good(lego(lab, tmp_path, *how, "renew", "--days", "1000", "--reuse-key", "--no-random-sleep"))
    good(lego(lab, tmp_path, *how, "revoke", "--reason", "4"))


def test_lego_proves_names_in_a_tls_handshake(lab: Lab, tmp_path: Path) -> None:
    name = f"alpn.lego.{ZONE}"
    good(lego(lab, tmp_path, "--domains", name, "--tls", "--tls.port", f":{lab.tls_port}", "run"))
    assert names_of(tmp_path / f"certificates/{name}.crt") == [name]


def test_lego_gets_a_wildcard_over_the_dns(lab: Lab, tmp_path: Path) -> None:
    secret = lab.bind.key_file.read_text().split('secret "')[1].split('"')[0]
    environment = {
        "RFC2136_NAMESERVER": f"127.0.0.1:{lab.bind.port}",
        "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
        "RFC2136_TSIG_KEY": KEY_NAME,
        "RFC2136_TSIG_SECRET": secret,
        "RFC2136_PROPAGATION_TIMEOUT": "10",
        "RFC2136_POLLING_INTERVAL": "1",
    }
    how = ("--domains", f"*.dns.lego.{ZONE}", "--dns", "rfc2136", "--dns.resolvers", f"127.0.0.1:{lab.bind.port}")
    good(lego(lab, tmp_path, *how, "--dns.disable-cp", "run", environment=environment))
    assert names_of(tmp_path / f"certificates/_.dns.lego.{ZONE}.crt") == [f"*.dns.lego.{ZONE}"]


# ---- others ----------------------------------------------------------------------------------------------------------


def test_dehydrated_gets_and_revokes_a_certificate(lab: Lab, tmp_path: Path) -> None:
    name = f"www.dehydrated.{ZONE}"
    with web_root(tmp_path / "web", lab.http_port) as challenges:
        configuration = tmp_path / "config"
        configuration.write_text(
            f"CA={lab.directory}\nBASEDIR={tmp_path}\nWELLKNOWN={challenges}\nCHALLENGETYPE=http-01\n"
            "CONTACT_EMAIL=admin@example.com\nKEY_ALGO=secp384r1\n"
        )
        common = ("--config", str(configuration))
        run("dehydrated", *common, "--register", "--accept-terms", environment=lab.trust)
        run("dehydrated", *common, "--cron", "--domain", name, environment=lab.trust)
    chain = tmp_path / f"certs/{name}/fullchain.pem"
    assert names_of(chain) == [name]
    verifies(lab, chain)
    run("dehydrated", *common, "--revoke", tmp_path / f"certs/{name}/cert.pem", environment=lab.trust)


def test_acme_tiny_gets_a_certificate_for_a_request_without_subject(lab: Lab, tmp_path: Path) -> None:
    name = f"www.tiny.{ZONE}"
    account, key, request = (tmp_path / each for each in ("account.pem", "key.pem", "request.pem"))
    run("openssl", "genrsa", "-out", account, "2048")
    run("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/",
        "-addext", f"subjectAltName=DNS:{name}", "-out", request)  # fmt: skip
    with web_root(tmp_path / "web", lab.http_port) as challenges:
        files = ("--account-key", account, "--csr", request, "--acme-dir", challenges)
        where = ("--directory-url", lab.directory, "--disable-check")
        outcome = attempt("acme-tiny", *files, *where, environment=lab.trust)
    assert outcome.status == 0, outcome.output
    (leaf, *_) = x509.load_pem_x509_certificates(outcome.stdout)
    assert sans(leaf) == [name]
    assert leaf.subject.rfc4514_string() == f"CN={name}"


def test_caddy_serves_with_a_certificate_that_it_got_by_itself(lab: Lab, tmp_path: Path) -> None:
    name = f"www.caddy.{ZONE}"
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(
        f"{{\n admin off\n http_port {lab.http_port}\n https_port {lab.tls_port}\n acme_ca {lab.directory}\n"
        f" acme_ca_root {lab.pki.anchor_file}\n email admin@example.com\n}}\n{name} {{\n respond hello\n}}\n"
    )
    folders = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(configuration)]
    with serving(command, tmp_path, folders):
        eventually(lambda: presented(lab, name) is not None, what=lambda: (tmp_path / "server.log").read_text()[-3000:])
        leaf = presented(lab, name)
    assert leaf is not None
    assert sans(leaf) == [name]


def test_caddy_gets_a_certificate_for_an_address(lab: Lab, tmp_path: Path) -> None:
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(
        f"{{\n admin off\n http_port {lab.http_port}\n https_port {lab.tls_port}\n default_sni 127.0.0.1\n}}\n"
        f"127.0.0.1 {{\n tls {{\n  issuer acme {{\n   dir {lab.directory}\n   trusted_roots {lab.pki.anchor_file}\n"
        "   email admin@example.com\n  }\n }\n respond hello\n}\n"
    )
    folders = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(configuration)]
    with serving(command, tmp_path, folders):
        eventually(
            lambda: presented(lab, "127.0.0.1") is not None, what=lambda: (tmp_path / "server.log").read_text()[-3000:]
        )
        leaf = presented(lab, "127.0.0.1")
    assert leaf is not None
    assert sans(leaf) == ["127.0.0.1"]


def test_uacme_gets_and_revokes_a_certificate(lab: Lab, tmp_path: Path) -> None:
    name = f"www.uacme.{ZONE}"
    hook, chain = tmp_path / "hook", tmp_path / f"uacme/{name}/cert.pem"
    with web_root(tmp_path / "web", lab.http_port) as challenges:
        hook.write_text(
            f"#!/bin/sh\n[ $2 = http-01 ] || exit 1\ncase $1 in\nbegin) printf %s \"$5\" > {challenges}/$4 ;;\nesac\n"
        )
        hook.chmod(0o755)
        common = ("uacme", "--acme-url", lab.directory, "--confdir", tmp_path / "uacme", "--yes")
        trusting(lab, *common, "new", "admin@example.com")
        trusting(lab, *common, "--hook", hook, "issue", name)
    assert names_of(chain) == [name]
    verifies(lab, chain)
    trusting(lab, *common, "revoke", chain)


def trusting(lab: Lab, *command: object) -> str:
    """Run a program that only trusts what the whole system trusts, in a system of its own that trusts us."""
    mount = f"mount --bind {lab.pki.anchor_file} /etc/ssl/certs/ca-certificates.crt && exec \"$@\""
    return run("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *map(str, command))


def test_apache_serves_with_a_certificate_that_mod_md_got(lab: Lab, tmp_path: Path) -> None:
    name = f"www.apache.{ZONE}"
    modules = Path("/usr/lib/apache2/modules")
    loaded = ("mpm_event", "authn_core", "authz_core", "unixd", "ssl", "socache_shmcb", "watchdog", "md")
    load = "".join(f"LoadModule {each}_module {modules}/mod_{each}.so\n" for each in loaded if module(modules, each))
    configuration = tmp_path / "httpd.conf"
    for each in ("md", "htdocs"):
        (tmp_path / each).mkdir()
    configuration.write_text(
        f"{load}ServerRoot {tmp_path}\nPidFile {tmp_path}/pid\nErrorLog {tmp_path}/server.log\nLogLevel info md:debug\n"
        f"ServerName {name}\nListen 127.0.0.1:{lab.http_port}\nListen 127.0.0.1:{lab.tls_port}\n"
        f"Mutex file:{tmp_path}\nMDStoreDir {tmp_path}/md\nMDPortMap http:{lab.http_port} https:{lab.tls_port}\n"
        f"MDCertificateAuthority {lab.directory}\nMDCACertificateFile {lab.pki.anchor_file}\n"
        "MDCertificateAgreement accepted\nMDContactEmail admin@example.com\nMDRetryDelay 5s\n"
        f"MDomain {name} manual\n"
        f"<VirtualHost 127.0.0.1:{lab.tls_port}>\nServerName {name}\nDocumentRoot {tmp_path}/htdocs\nSSLEngine on\n"
        "</VirtualHost>\n"
        f"<VirtualHost 127.0.0.1:{lab.http_port}>\nServerName {name}\nDocumentRoot {tmp_path}/htdocs\n</VirtualHost>\n"
    )
    with serving(["apache2", "-f", str(configuration), "-D", "FOREGROUND"], tmp_path, {}):
        staged = tmp_path / f"md/staging/{name}/pubcert.pem"
        eventually(staged.exists, what=lambda: (tmp_path / "server.log").read_text()[-3000:])
    with serving(["apache2", "-f", str(configuration), "-D", "FOREGROUND"], tmp_path, {}):  # mod_md installs at a start
        eventually(lambda: presented(lab, name) is not None, what=lambda: (tmp_path / "server.log").read_text()[-3000:])
        leaf = presented(lab, name)
    assert leaf is not None
    assert sans(leaf) == [name]


def module(folder: Path, name: str) -> bool:
    return (folder / f"mod_{name}.so").exists()


@contextlib.contextmanager
def serving(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server for the block."""
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            [program(command[0]), *command[1:]], cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def presented(lab: Lab, name: str) -> x509.Certificate | None:
    """The certificate at the TLS port for a name, if our CA issued it."""
    context = ssl.create_default_context(cafile=str(lab.pki.root_file))
    try:
        with (
            socket.create_connection(("127.0.0.1", lab.tls_port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            octets = secure.getpeercert(binary_form=True)
    except (OSError, ssl.SSLError):
        return None
    return None if octets is None else x509.load_der_x509_certificate(octets)

