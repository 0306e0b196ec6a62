"""A trust domain in the running product, and servers made by others that run what was rendered for them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.product import Product, eventually
from tests.support.programs import Outcome, attempt, program, run

from intaglio.mtls.ingresses.rendering import OURS, spellings


@dataclass(frozen=True)
class Credential:
    """A key and a certificate with its chain, PEM files."""

    key: Path
    certificate: Path
    serial: str


class Domain:
    """The trust domain ``edge.example`` with a service that calls and certificates for servers."""

    name = "edge.example"

    def __init__(self, product: Product, folder: Path) -> None:
        self.product = product
        self.folder = folder

    @classmethod
    def create(cls, product: Product) -> Domain:
        folder = product.work / "edge"
        folder.mkdir()
        made = cls(product, folder)
        product.run("org", "create", "edge")
        product.run("mtls", "domain", "create", cls.name, "--environment", "edge", "--org", "edge", "--new-ca")
        common = ("--domain", cls.name, "--team", "platform")
        product.run("mtls", "identity", "add", "service", "caller", *common)
        product.run("mtls", "identity", "add", "service", "server", *common, "--dns", "localhost")
        bundle = folder / "bundle"
        product.run("mtls", "bundle", "export", cls.name, "--format", "pem", "--out", bundle)
        return made

    def issue(self, name: str, folder: Path, file: str = "") -> Credential:
        """A certificate for ``caller`` or ``server`` with a key of openssl's."""
        file = file or name
        key, request, certificate = (folder / f"{file}.{kind}" for kind in ("key", "csr", "pem"))
        run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", "/CN=ignored",
        )  # fmt: skip
        issued = self.product.json("mtls", "identity", "issue", f"service:{name}@{self.name}", "--csr", request)
        certificate.write_text(issued["certificate"] + "".join(issued["chain"]))
        return Credential(key, certificate, issued["serial"])

    def revoke(self, credential: Credential) -> None:
        self.product.run("mtls", "revoke", "--serial", credential.serial, "--reason", "keyCompromise", "--yes")

    def roots(self, folder: Path) -> Path:
        """The trust anchors, as clients of the server have them."""
        found = sorted((self.folder / "bundle").glob("*.pem")) if (self.folder / "bundle").is_dir() else []
        text = "".join(path.read_text() for path in found) or (self.folder / "bundle").read_text()
        path = folder / "anchors.pem"
        path.write_text(text)
        return path

    @property
    def decisions(self) -> str:
        return f"http://127.0.0.1:{self.product.runtime.port('access')}"


@cache
def domain_of(product: Product) -> Domain:
    """The one trust domain of a product that ingresses are tried with."""
    return Domain.create(product)


@dataclass
class Ingress:
    """A registered ingress of some type and its rendered files in ``folder``, with a service behind."""

    domain: Domain
    type: str
    name: str
    folder: Path
    port: int
    upstream: Upstream
    process: subprocess.Popen[bytes] | None = None
    commands: dict[str, str] = field(default_factory=dict)

    def get(self, credential: Credential | None, *options: str | Path, path: str = "/") -> Outcome:
        """What curl gets with a certificate, or without one."""
        with_it = () if credential is None else ("--cert", credential.certificate, "--key", credential.key)
        return attempt(
            "curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert",
            self.domain.roots(self.folder), *with_it, *options, f"https://localhost:{self.port}{path}",
        )  # fmt: skip

    def status(self, credential: Credential | None, *options: str | Path, path: str = "/") -> int:
        """The HTTP status, 0 when there was none because the handshake failed."""
        return int(self.get(credential, *options, path=path).stdout.rpartition(b"\n")[2] or b"0")

    def passes(self, credential: Credential | None, *options: str | Path, path: str = "/") -> bool:
        """Whether a request reaches the service behind."""
        return self.get(credential, *options, path=path).stdout.startswith(b'{"seen":')

    def seen(self, credential: Credential | None, *options: str | Path, path: str = "/") -> Mapping[str, Any]:
        """The headers the service behind saw, names in lower case."""
        outcome = self.get(credential, *options, path=path)
        body = outcome.stdout.rpartition(b"\n")[0]
        assert body.startswith(b'{"seen":'), outcome.output
        return dict(json.loads(body)["seen"])

    def refresh(self, **environment: str) -> Outcome:
        """Run what the timer runs."""
        return attempt(str(self.folder / "refresh"), environment={**self.commands, **environment})

    def ca_names(self) -> str:
        """The acceptable client CAs as openssl sees them in the handshake."""
        return attempt("openssl", "s_client", "-connect", f"localhost:{self.port}", "-servername", "localhost").output

    def stapled(self) -> bool:
        """Whether the server staples an OCSP answer."""
        where = ("-connect", f"localhost:{self.port}", "-servername", "localhost")
        return "OCSP Response Status: successful" in attempt("openssl", "s_client", *where, "-status").output

    def latency(self) -> dict[str, Any]:
        return dict(self.domain.product.json("mtls", "render", "latency", f"edge~{self.name}"))


class Upstream:
    """A service that answers with the headers it was asked with, on a port of its own."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"seen": {name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def rendered(
    domain: Domain, type: str, folder: Path, *options: str, revocation: str = "crl", mode: str = "enforce"
) -> Iterator[Ingress]:
    """An ingress of this type, registered and rendered into ``folder``, with a certificate for the server."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    name = f"{type}-{folder.parent.name[-12:].strip('-_0').replace('_', '-') or 'x'}-{free_port()}"
    port, upstream = free_port(), Upstream()
    run_product = domain.product.run
    run_product(
        "mtls", "ingress", "add", name, "--org", "edge", "--domain", domain.name, "--type", type, "--mode", mode,
        "--listener", f"127.0.0.1:{port}", "--host", "localhost", "--revocation", revocation, "--refresh", "10",
        "--out", folder / "token", *options,
    )  # fmt: skip
    with_token = ("--ingress-token", folder / "token") if revocation == "live" else ()
    run_product(
        "mtls", "render", "ingress", f"edge~{name}", "--out", folder, "--folder", folder, "--upstream", upstream.url,
        "--decisions", domain.decisions, "--force", *with_token,
    )  # fmt: skip
    domain.issue("server", folder)
    made = Ingress(domain, type, name, folder, port, upstream)
    try:
        yield made
    finally:
        upstream.close()


@contextlib.contextmanager
def running(ingress: Ingress, command: Sequence[str | Path], **environment: str) -> Iterator[Ingress]:
    """The server, started with ``command``, until the end of the block."""
    log = ingress.folder / "server.log"
    with open(log, "wb") as opened:
        ingress.process = subprocess.Popen(
            [program(str(command[0])), *map(str, command[1:])], stdout=opened, stderr=opened, cwd=ingress.folder,
            env={**os.environ, **environment},
        )  # fmt: skip
    process = ingress.process
    try:
        eventually(
            lambda: process.poll() is not None or listens(ingress.port), what=lambda: f"it starts: {log.read_text()}"
        )
        assert process.poll() is None, log.read_text()
        yield ingress
    finally:
        ingress.process.terminate()
        ingress.process.wait()


def refused_soon(ingress: Ingress, credential: Credential, refresh: Callable[[], object]) -> None:
    """Wait until a revoked certificate is refused; ``refresh`` is what a timer would do meanwhile."""

    def is_refused() -> bool:
        refresh()
        return not ingress.passes(credential)

    eventually(is_refused, what="the revoked certificate is refused")


def free_port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def forged_headers() -> Iterator[list[str]]:
    """Options for curl that say who is calling in every spelling, as many headers at once as all servers take."""
    names = [spelling for name in OURS for spelling in spellings(name)]
    for first in range(0, len(names), 60):
        yield [option for name in names[first : first + 60] for option in ("-H", f"{name}: forged")]
