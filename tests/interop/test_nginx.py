"""nginx as a server that lets clients in by our CA and keeps them out by our CRL, or by OCSP."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop.conftest import Leaf, Pki
from tests.support.product import eventually
from tests.support.programs import Outcome, attempt, program

_CONFIGURATION = """
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
        listen unix:{folder}/nginx.sock ssl;
        ssl_certificate server-chain.pem;
        ssl_certificate_key {server.key};
        ssl_client_certificate {chain};
        ssl_verify_client on;
        ssl_verify_depth 2;
        {revocation}
        location / {{ return 200 "hello $ssl_client_s_dn\\n"; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx on a socket in its own folder."""

    pki: Pki
    folder: Path
    process: subprocess.Popen[bytes]

    def get(self, client: Leaf | None) -> Outcome:
        credential = () if client is None else ("--cert", client.certificate, "--key", client.key)
        return attempt(
            "curl", "--silent", "--show-error", "--unix-socket", self.folder / "nginx.sock",
            "--cacert", self.pki.folder / "root.pem", *credential, "https://www.demo.example/",
        )  # fmt: skip

    def fetch_crls(self) -> None:
        """What a timer on the server does: download the CRLs and have nginx read them."""
        lists = [self.pki.crl(self.folder, ca).read_text() for ca in ("issuing", "root")]
        (self.folder / "crls.pem").write_text("".join(lists))
        before = self._workers()
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: not before & self._workers(), what="the workers with the old CRLs are gone")

    def _workers(self) -> set[str]:
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.fixture
def nginx(pki: Pki, tmp_path: Path) -> Iterator[Nginx]:
    """A server that looks into the CRLs of the chain."""
    lists = [pki.crl(tmp_path, ca).read_text() for ca in ("issuing", "root")]
    (tmp_path / "crls.pem").write_text("".join(lists))
    with _running(pki, tmp_path, "ssl_crl crls.pem;") as running:
        yield running


@pytest.fixture
def asking_nginx(pki: Pki, tmp_path: Path) -> Iterator[Nginx]:
    """A server that asks about every certificate of the chain; any responder address knows all CAs."""
    responder = f"http://127.0.0.1:{pki.product.runtime.port('public')}/ocsp"
    with _running(pki, tmp_path, f"ssl_ocsp on; ssl_ocsp_responder {responder};") as running:
        yield running


@contextmanager
def _running(pki: Pki, tmp_path: Path, revocation: str) -> Iterator[Nginx]:
    server = pki.enroll(tmp_path, "www.demo.example")
    (tmp_path / "server-chain.pem").write_text(
        server.certificate.read_text() + (pki.folder / "issuing.pem").read_text()
    )
    chain = pki.folder / "chain.pem"
    configuration = _CONFIGURATION.format(folder=tmp_path, server=server, chain=chain, revocation=revocation)
    (tmp_path / "nginx.conf").write_text(configuration)
    with _process(tmp_path) as process:
        yield Nginx(pki, tmp_path, process)


@contextmanager
def _process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(folder / "nginx.log", "wb") as log:
        process = subprocess.Popen(
            [program("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"], stdout=log, stderr=log
        )
    try:
        eventually(
            lambda: (folder / "nginx.sock").exists() or process.poll() is not None,
            what=lambda: f"nginx starts: {(folder / 'nginx.log').read_text()}",
        )
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait()


def test_a_client_is_let_in_until_the_crl_names_it(pki: Pki, nginx: Nginx, tmp_path: Path) -> None:
    alice, mallory = (pki.enroll(tmp_path, name, "privatessl-tls-client") for name in ("alice", "mallory"))
    assert "hello CN=alice" in nginx.get(alice).output
    assert "hello CN=mallory" in nginx.get(mallory).output
    pki.revoke(mallory, tmp_path)
    nginx.fetch_crls()
    assert "The SSL certificate error" in nginx.get(mallory).output
    assert "hello CN=alice" in nginx.get(alice).output


def test_a_client_is_let_in_until_ocsp_says_revoked(pki: Pki, asking_nginx: Nginx, tmp_path: Path) -> None:
    alice, mallory = (pki.enroll(tmp_path, name, "privatessl-tls-client") for name in ("alice", "mallory"))
    assert "hello CN=alice" in asking_nginx.get(alice).output
    pki.act(mallory, "RevokeAction", reason="keyCompromise")
    eventually(
        lambda: "The SSL certificate error" in asking_nginx.get(mallory).output, what="nginx hears of the revocation"
    )
    assert "hello CN=alice" in asking_nginx.get(alice).output


def test_strangers_are_kept_out(pki: Pki, nginx: Nginx) -> None:
    assert "No required SSL certificate was sent" in nginx.get(None).output
    gateway_client = pki.folder / "alice.pem"
    stranger = Leaf(gateway_client, gateway_client, "")
    assert "The SSL certificate error" in nginx.get(stranger).output
