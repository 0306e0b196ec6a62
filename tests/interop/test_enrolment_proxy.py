"""Enrolment behind a reverse proxy that ends TLS (HAProxy): the client's certificate, its address and the URLs it asked
for come through, and nobody else can say them."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from tests.interop.ingress import free_port, listens
from tests.support.pki import Pki
from tests.support.product import NewProduct, eventually
from tests.support.programs import attempt, program

PROFILES = ("privatessl-tls-server", "est-digital-signature")
USER, PASSWORD = "router-7", "correct-horse-battery"
CONFIGURATION = """\
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend clients
  bind 127.0.0.1:{port} ssl crt {folder}/proxy.pem ca-file {folder}/root.pem verify optional crt-ignore-err all ca-ignore-err all
  http-request del-header Client-Cert
  http-request set-header Client-Cert ":%[ssl_c_der,base64]:" if {{ ssl_c_used }}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend pki
backend pki
  server one 127.0.0.1:{upstream} ssl verify required ca-file {folder}/platform-ca.pem verifyhost localhost sni str(localhost)
"""  # noqa: E501 - lines of HAProxy


class Proxied:
    """A product behind a proxy."""

    def __init__(self, pki: Pki, port: int, folder: Path) -> None:
        self.pki, self.port, self.folder = pki, port, folder

    def ask(self, path: str, *arguments: str | Path) -> tuple[int, bytes]:
        """Status and body of an answer that came through the proxy."""
        done = attempt("curl", "--silent", "--cacert", self.folder / "root.pem", "--write-out", "\n%{http_code}",
                       *arguments, f"https://localhost:{self.port}{path}")  # fmt: skip
        body, _, code = done.stdout.rpartition(b"\n")
        return int(code), body

    def enrolled(self, operation: str, request: Path, *arguments: str | Path) -> x509.Certificate:
        status, body = self.ask(f"/.well-known/est/{operation}", *arguments, "--data-binary", f"@{request}")
        assert status == 200, body
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))[0]


@pytest.fixture
def proxied(new_product: NewProduct, tmp_path: Path) -> Iterator[Proxied]:
    product = new_product()
    product.run("init")
    product.start()
    pki = Pki.create(product, "proxied", profiles=PROFILES)
    product.run("settings", "set", 'enrollment.trusted_proxies=["127.0.0.1/32"]',
                "enrollment.forwarded_certificates=true")  # fmt: skip
    for protocol, profile in (("acme", PROFILES[0]), ("est", PROFILES[1])):
        product.run("enroll", "endpoint", "create", "-p", protocol, "--ca", pki.issuing, "--profile", profile, "--name",
                    "default", "--network", "127.0.0.0/8")  # fmt: skip
    (tmp_path / "secret").write_text(PASSWORD)
    product.run("enroll", "credential", "create", "est/default", "--name", USER, "--secret-file", tmp_path / "secret")
    product.run("cert", "issue", "--ca", pki.issuing, "--profile", PROFILES[0], "--dns", "localhost", "--subject",
                "CN=localhost", "--key-out", tmp_path / "proxy.key", "--chain",
                "--out", tmp_path / "proxy.crt")  # fmt: skip
    (tmp_path / "proxy.pem").write_bytes((tmp_path / "proxy.crt").read_bytes() + (tmp_path / "proxy.key").read_bytes())
    (tmp_path / "root.pem").write_bytes(pki.root_file.read_bytes())
    (tmp_path / "platform-ca.pem").write_bytes(pki.anchor_file.read_bytes())
    port = free_port()
    text = CONFIGURATION.format(port=port, folder=tmp_path, upstream=product.runtime.port("enroll"))
    (tmp_path / "haproxy.cfg").write_text(text)
    with subprocess.Popen([program("haproxy"), "-q", "-db", "-f", str(tmp_path / "haproxy.cfg")]) as process:
        try:
            eventually(lambda: listens(port), what=lambda: "the proxy listens")
            yield Proxied(pki, port, tmp_path)
        finally:
            process.terminate()


def test_clients_behind_a_proxy_are_who_they_are(proxied: Proxied, tmp_path: Path) -> None:
    key, request = tmp_path / "device.key", tmp_path / "device.b64"
    made = attempt("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                   "-keyout", key, "-subj", "/CN=device", "-outform", "DER")  # fmt: skip
    request.write_bytes(base64.b64encode(made.stdout))
    first = proxied.enrolled("simpleenroll", request, "--user", f"{USER}:{PASSWORD}")
    certificate = tmp_path / "device.pem"
    certificate.write_bytes(first.public_bytes(Encoding.PEM))

    renewed = proxied.enrolled("simplereenroll", request, "--cert", certificate, "--key", key)
    assert renewed.subject == first.subject
    # Whoever only has the certificate, and not its key, cannot hand it over himself: not through the proxy, which drops
    # the header; and not past it, where nobody is believed but the proxy, when he comes from elsewhere.
    told = f"Client-Cert: :{base64.b64encode(first.public_bytes(Encoding.DER)).decode()}:"
    status, body = proxied.ask("/.well-known/est/simplereenroll", "-H", told, "--data-binary", f"@{request}")
    assert (status, b"client-certificate-required" in body) == (401, True)

    directory = f"/acme/main/{proxied.pki.issuing}/{PROFILES[0]}/directory"
    status, body = proxied.ask(directory)
    assert status == 200
    assert f"https://localhost:{proxied.port}/acme/".encode() in body
