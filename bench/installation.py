"""A running product for benchmarks: two workers, embedded database, an organization with a root and an issuing CA."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.product import Product

from bench import load, reference

CA = "bench~issuing"
PROFILE = "privatessl-tls-server"
PREPARED_REQUESTS = 64


class Installation(Product):
    """The product with what a gateway client needs beside it."""

    def create_authorities(self, *, options: tuple[str, ...] = ()) -> None:
        """``bench~root`` and ``bench~issuing`` (P-256), and alice's credential as PEM files."""
        self.run("org", "create", "bench")
        common = ("--key", "P-256", "--profile", PROFILE, "--administrator", "alice", "--save-passwords")
        self.run("ca", "create", "root", "bench~root", "--subject", "CN=Bench Root,O=Bench", *common)
        extra = [part for option in options for part in ("--option", option)]
        subject = "CN=Issuing,O=Bench"
        self.run("ca", "create", "issuing", CA, "--issuer", "root", "--subject", subject, *common, *extra)
        store = ("openssl", "pkcs12", "-in", "alice.p12", "-passin", "file:alice.password", "-nodes")
        for arguments in (("-nokeys", "-clcerts", "-out", "alice.crt"), ("-nocerts", "-out", "alice.key")):
            subprocess.run([*store, *arguments], cwd=self.work, check=True, capture_output=True)
        (self.work / "server-ca.pem").write_text(self.run("tls", "ca-certificate"))

    @property
    def mutual_tls(self) -> dict[str, str]:
        """Files of the load generator's TLS."""
        return {
            "ca": str(self.work / "server-ca.pem"),
            "cert": str(self.work / "alice.crt"),
            "key": str(self.work / "alice.key"),
            "hostname": "localhost",
        }

    def enrolments(self, *, connections: int, seconds: float) -> load.Result:
        """Enrol over kept-alive mutual TLS with different P-256 requests, as fast as answers come."""
        path = f"/cagw/v1/certificate-authorities/{CA}/enrollments"
        requests = [
            load.http_request("POST", path, "localhost", _enrolment(number), "application/json")
            for number in range(PREPARED_REQUESTS)
        ]
        return load.run(
            host="127.0.0.1",
            port=self.runtime.port("gateway"),
            requests=requests,
            connections=connections,
            seconds=seconds,
            tls=self.mutual_tls,
        )

    def issue(self, name: str) -> dict[str, str]:
        """One certificate by the gateway; its ``serialNumber`` and ``body`` (base64 DER)."""
        answer = subprocess.run(
            [
                "curl", "--silent", "--show-error", "--fail-with-body",
                "--cacert", self.mutual_tls["ca"], "--cert", self.mutual_tls["cert"], "--key", self.mutual_tls["key"],
                "--header", "Content-Type: application/json", "--data", _enrolment(name).decode(),
                self.url("gateway", f"/cagw/v1/certificate-authorities/{CA}/enrollments"),
            ],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        enrolled: dict[str, str] = json.loads(answer)["enrollment"]
        return enrolled


@contextlib.contextmanager
def installation(*, options: tuple[str, ...] = (), **settings: str) -> Iterator[Installation]:
    """A product that is initialized, serving with two workers, and has its authorities."""
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Installation(folder, **{"WORKERS": "2", **settings})
        product.run("init")
        try:
            product.start()
            product.create_authorities(options=options)
            yield product
        finally:
            product.stop()


def _enrolment(name: object) -> bytes:
    request = base64.b64encode(reference.certificate_request(f"host-{name}.bench.test")[1]).decode()
    body = {"profileId": PROFILE, "csr": request, "requiredFormat": {"format": "X509"}}
    return json.dumps(body, separators=(",", ":")).encode()
