"""A CI job as it runs: a token of its platform, our command, a certificate that OpenSSL takes."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from tests.interop.automation import Domain, once
from tests.support.product import Product
from tests.support.programs import attempt, run

from intaglio.core import clock


class CiSystem:
    """A token issuer on the loopback, under a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "ci-1", "alg": "ES256", "use": "sig"})
        self.ca = folder / "ci.pem"
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-keyout", folder / "ci.key", "-out", self.ca, "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        )  # fmt: skip
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.ca, folder / "ci.key")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def token(self, file: Path, subject: str) -> Path:
        now = int(clock.now().timestamp())
        claims = {"iss": self.url, "aud": "pki", "sub": subject, "iat": now, "exp": now + 300}
        file.write_text(jwt.encode({"alg": "ES256", "kid": "ci-1"}, claims, self.key))
        return file

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        system = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/.well-known/openid-configuration": {"issuer": system.url, "jwks_uri": f"{system.url}/keys"},
                    "/keys": {"keys": [system.key.as_dict(private=False)]},
                }
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CiSystem]:
    made = CiSystem(tmp_path_factory.mktemp("ci"))
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_job_gets_a_certificate_and_another_job_does_not(product: Product, ci: CiSystem, tmp_path: Path) -> None:
    product.run("settings", "set", "outgoing.networks=[127.0.0.0/8, '::1/128']")
    domain = Domain.create(product, "jobs", tmp_path)
    product.run("mtls", "identity", "add", "pipeline", "deploy", "--domain", domain.name, "--team", "shop")
    product.run(
        "mtls", "pipeline", "add", "jobs-deploy", "--identity", f"pipeline:deploy@{domain.name}", "--issuer", ci.url,
        "--issuer-ca", ci.ca, "--audience", "pki", "--condition", "sub=repo:acme/shop:*", "--lifetime", "PT20M",
        "--token-uses", "2",
    )  # fmt: skip
    token, out = ci.token(tmp_path / "token", "repo:acme/shop:ref:refs/heads/main"), tmp_path / "out"
    asked = ("--server", domain.url, "--ca-file", domain.ca)
    found = product.json("mtls", "pipeline", "certificate", "jobs-deploy", "--jwt-file", token, "--out", out, *asked)
    assert found["identity"] == f"spiffe://{domain.name}/env/jobs/team/shop/pipeline/deploy"
    leaf = out / "current" / "tls.crt"
    assert "OK" in run("openssl", "verify", "-CAfile", out / "current" / "ca.crt", "-untrusted", leaf, leaf)
    assert "will expire" in _ends_within(leaf, 21 * 60)
    assert product.json("mtls", "pipeline", "show", "jobs-deploy")["uses"] == 1
    other = ci.token(tmp_path / "other", "repo:acme/other:ref:refs/heads/main")
    refused = product.attempt(
        "mtls", "pipeline", "certificate", "jobs-deploy", "--jwt-file", other, "--out", tmp_path / "no", *asked
    )
    assert refused.status == 1
    assert "No pipeline of this name accepts the token" in refused.output
    # The agent of a pod reads the token anew for each certificate.
    renewed = once(domain, tmp_path / "pod", "--jwt-file", token, "--pipeline", "jobs-deploy")
    assert renewed.returncode == 0, renewed.stderr
    listed = product.json("mtls", "binding", "list", "--filter", f"domain={domain.name}")
    assert {each["channel"] for each in listed} == {"pipeline"}


def _ends_within(leaf: Path, seconds: int) -> str:
    """What openssl says of a certificate that ends within so many seconds."""
    return attempt("openssl", "x509", "-in", leaf, "-noout", "-checkend", str(seconds)).output
