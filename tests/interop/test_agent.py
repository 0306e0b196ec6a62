"""The agent as its users run it: nginx under load, a server that goes away, a clock that is wrong, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest
from tests.interop.automation import Domain, arguments, once, running
from tests.support.folders import fast_folder
from tests.support.product import Product, eventually
from tests.support.programs import program, run

_MEBI = 1 << 20
_NGINX = """
daemon off; worker_processes 2; error_log stderr error; pid nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen unix:{folder}/nginx.sock ssl;
        ssl_certificate {out}/current/tls.crt;
        ssl_certificate_key {out}/current/tls.key;
        ssl_client_certificate {out}/current/ca.crt;
        ssl_verify_client on; ssl_verify_depth 3;
        location / {{ return 200 "hello $ssl_client_s_dn\\n"; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def domain(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return Domain.create(product, "agents", tmp_path_factory.mktemp("agents"))


def test_nginx_is_reloaded_over_and_over_without_a_failed_request(domain: Domain, tmp_path: Path) -> None:
    server = domain.service("web", "--dns", "web.agents.example")
    client = domain.service("caller")
    out, folder, called = tmp_path / "web", tmp_path / "nginx", tmp_path / "caller"
    folder.mkdir()
    done = once(domain, called, "--token-file", domain.token(client, tmp_path / "caller-token"))
    assert done.returncode == 0, done.stderr
    token = domain.token(server, tmp_path / "token")
    assert once(domain, out, "--token-file", token).returncode == 0
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, out=out))
    nginx = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with open(folder / "nginx.log", "wb") as log:
        process = subprocess.Popen(nginx, stdout=log, stderr=log)
    try:
        eventually((folder / "nginx.sock").exists, what=lambda: (folder / "nginx.log").read_text())
        reload = " ".join([*nginx, "-s", "reload"])
        load = _load(folder / "nginx.sock", called / "current")
        with load as seen, running(domain, out, "--reload", reload) as agent:
            for _ in range(4):
                before = len(seen.serials)
                agent.renew()
                serial = agent.serial
                eventually(lambda s=serial: s in seen.serials, what=f"nginx serves {serial}")  # type: ignore[misc]
                assert len(seen.serials) > before
            assert agent.said("reloaded") >= 4
            assert agent.resident() < 60 * _MEBI
        assert seen.failures == []
        assert seen.requests > 50
    finally:
        process.terminate()
        process.wait()


class _Seen:
    def __init__(self) -> None:
        self.requests, self.failures, self.serials = 0, list[str](), set[str]()


class _load:
    """Clients that connect over and over, each with a handshake of its own, and note what the server showed."""

    def __init__(self, path: Path, credential: Path) -> None:
        self._path, self._stop, self.seen = path, threading.Event(), _Seen()
        self._context = ssl.create_default_context(cafile=str(credential / "ca.crt"))
        self._context.load_cert_chain(credential / "tls.crt", credential / "tls.key")
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]

    def __enter__(self) -> _Seen:
        for thread in self._threads:
            thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            self.seen.requests += 1
            try:
                with socket.socket(socket.AF_UNIX) as plain:
                    plain.settimeout(20)
                    plain.connect(str(self._path))
                    with self._context.wrap_socket(plain, server_hostname="web.agents.example") as secure:
                        secure.sendall(b"GET / HTTP/1.0\r\nHost: web.agents.example\r\n\r\n")
                        answer = b"".join(iter(lambda: secure.recv(4096), b""))
                        shown = secure.getpeercert()
                if b"hello" not in answer or b"CN=caller" not in answer:
                    self.seen.failures.append(repr(answer[:200]))
                assert shown is not None
                self.seen.serials.add(str(shown["serialNumber"]).rjust(40, "0"))
            except OSError as error:
                self.seen.failures.append(repr(error))


def test_a_folder_has_all_that_openssl_needs(domain: Domain, tmp_path: Path) -> None:
    service, out = domain.service("openssl", "--dns", "openssl.agents.example"), tmp_path / "out"
    token = domain.token(service, tmp_path / "token")
    options = ("--identity", service, "--token-file", token, "--combined", "--lifetime", "PT6H")
    assert once(domain, out, *options, "--dns", "a.openssl.agents.example").returncode == 0
    current = out / "current"
    leaf, trust = current / "tls.crt", current / "ca.crt"
    assert "OK" in run("openssl", "verify", "-CAfile", trust, "-untrusted", leaf, leaf)
    public = run("openssl", "x509", "-in", current / "tls.crt", "-noout", "-pubkey")
    assert run("openssl", "pkey", "-in", current / "tls.key", "-pubout") == public
    assert "DNS:a.openssl.agents.example" in run(
        "openssl", "x509", "-in", current / "tls.crt", "-noout", "-ext", "subjectAltName"
    )
    assert "PRIVATE KEY" in (current / "tls.pem").read_text()
    told = domain.product.json("mtls", "agent", "status", "--out", out)
    assert (told["health"], told["failures_in_a_row"]) == ("good", 0)
    before = (current / "tls.crt").read_bytes()
    assert once(domain, out, *options).returncode == 0  # it is fresh: nobody is asked
    assert (current / "tls.crt").read_bytes() == before


def test_a_spent_or_foreign_token_is_refused_clearly(domain: Domain, tmp_path: Path) -> None:
    service, other = domain.service("spender"), domain.service("other")
    token = domain.token(service, tmp_path / "token")
    foreign = once(domain, tmp_path / "foreign", "--identity", other, "--token-file", token)
    assert foreign.returncode == 1
    assert "identity-foreign" in foreign.stderr
    assert not (tmp_path / "foreign" / "current").exists()
    again = once(domain, tmp_path / "again", "--token-file", token)
    assert again.returncode == 1
    assert "The bootstrap token was used" in again.stderr
    nothing = once(domain, tmp_path / "nothing")
    assert "nothing else to prove who this is" in nothing.stderr
    assert domain.product.attempt("mtls", "agent", "status", "--out", tmp_path / "nothing").status == 3


def test_a_revoked_certificate_begins_anew_only_with_a_new_token(domain: Domain, tmp_path: Path) -> None:
    service, out = domain.service("lost"), tmp_path / "out"
    token = domain.token(service, tmp_path / "token")
    with running(domain, out, "--token-file", token) as agent:
        eventually(lambda: agent.said("certificate in place"), what=lambda: agent.log.read_text())
        serial = agent.serial
    domain.product.run("mtls", "revoke", "--identity", service, "--yes")
    with running(domain, out, "--token-file", token, refused=1) as agent:
        agent.process.send_signal(signal.SIGHUP)
        assert agent.process.wait(60) == 1
        assert '"code": "revoked"' in agent.log.read_text()
    assert domain.product.attempt("mtls", "agent", "status", "--out", out).status == 2
    spent = once(domain, out, "--token-file", token)
    assert "bootstrap-token-used" in spent.stderr
    fresh = once(domain, out, "--token-file", domain.token(service, tmp_path / "new-token"))
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads((out / "current" / "about.json").read_text())["serial"] != serial


def test_a_failing_reload_is_told_and_tried_again(domain: Domain, tmp_path: Path) -> None:
    service, out, flag = domain.service("reloaded"), tmp_path / "out", tmp_path / "flag"
    script = tmp_path / "reload"
    told = tmp_path / "told"
    script.write_text(
        f'#!/bin/sh\necho "$INTAGLIO_CERTIFICATE" >> {told}\ntest -e {flag} || {{ echo not yet; exit 3; }}\n'
    )
    script.chmod(0o755)
    token = domain.token(service, tmp_path / "token")
    with running(domain, out, "--token-file", token, "--reload", str(script)) as agent:
        eventually(lambda: agent.said("the reload failed"), what=lambda: agent.log.read_text())
        failed = next(each for each in agent.events if each["event"] == "the reload failed")
        assert "status 3: not yet" in failed["reason"]
        assert domain.product.attempt("mtls", "agent", "status", "--out", out).status == 1
        flag.touch()
        eventually(lambda: agent.said("reloaded"), what=lambda: agent.log.read_text())
        assert agent.said("certificate in place") == 1
    assert set(told.read_text().split()) == {str(out / "current" / "tls.crt")}
    slow = once(domain, tmp_path / "slow", "--token-file", domain.token(service, tmp_path / "t2"), "--reload",
                "sleep 600", "--reload-timeout", "0.3")  # fmt: skip
    assert slow.returncode == 1
    assert "took longer" in slow.stderr


def test_two_agents_on_one_folder_are_refused(domain: Domain, tmp_path: Path) -> None:
    service, out = domain.service("single"), tmp_path / "out"
    with running(domain, out, "--token-file", domain.token(service, tmp_path / "token")) as agent:
        eventually(lambda: agent.said("certificate in place"), what=lambda: agent.log.read_text())
        second = once(domain, out)
        assert second.returncode == 1
        assert "Another agent keeps" in second.stderr


def test_an_untrusted_server_is_asked_nothing(domain: Domain, tmp_path: Path) -> None:
    service = domain.service("careful")
    token = domain.token(service, tmp_path / "token")
    command = arguments(domain, tmp_path / "out", "--once", "--token-file", token)
    position = command.index("--ca-file")
    del command[position : position + 2]
    done = subprocess.run(
        command, env=domain.product.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "does not prove who it is" in done.stderr
    assert once(domain, tmp_path / "out", "--token-file", token).returncode == 0  # the token was not spent


def test_metrics_are_read_from_loopback_and_from_a_file(domain: Domain, tmp_path: Path) -> None:
    service, out, file = domain.service("measured"), tmp_path / "out", tmp_path / "agent.prom"
    token = domain.token(service, tmp_path / "token")
    options = ("--token-file", token, "--metrics", "127.0.0.1:0", "--metrics-file", file)
    with running(domain, out, *options) as agent:
        eventually(lambda: agent.said("certificate in place") and file.exists(), what=lambda: agent.log.read_text())
        address = next(each["address"] for each in agent.events if "address" in each)
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            text = answer.read().decode()
        for each in (text, file.read_text()):
            assert 'intaglio_agent_certificate_health{identity="spiffe://agents.example/' in each
            left = re.search(r"certificate_left_seconds\{[^}]*\} (\S+)", each)
            assert left is not None
            assert 3600 < float(left[1]) < 73 * 3600


def test_the_service_manager_is_told(domain: Domain, tmp_path: Path) -> None:
    service = domain.service("managed")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{short}/notify")
        manager.settimeout(60)
        token, heard = domain.token(service, tmp_path / "token"), ""
        with running(domain, tmp_path / "out", "--token-file", token, NOTIFY_SOCKET=f"{short}/notify"):
            while "READY=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
    assert "WATCHDOG=1" in heard
    assert "STATUS=certificate good" in heard


# A disk of 64 KiB, in memory, that only the agent sees; who is not root becomes so in a user namespace.
_SMALL_DISK = ["sh", "-ec", 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0"; exec "$@"']
_UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def test_a_full_disk_leaves_the_certificate_and_is_overcome(domain: Domain, tmp_path: Path) -> None:
    service, disk = domain.service("full"), tmp_path / "small"
    disk.mkdir()
    options = ("--token-file", domain.token(service, tmp_path / "token"), "--memory")
    with running(domain, disk / "out", *options, launcher=[*_UNSHARE, *_SMALL_DISK, str(disk)]) as agent:
        eventually(lambda: agent.said("certificate in place"), what=lambda: agent.log.read_text())
        inside = Path(f"/proc/{agent.process.pid}/root/{disk}")
        certificate = inside / "out" / "current" / "tls.crt"
        before = certificate.read_bytes()
        _fill(inside / "ballast")
        agent.process.send_signal(signal.SIGHUP)
        eventually(lambda: agent.said("no certificate"), what=lambda: agent.log.read_text())
        assert certificate.read_bytes() == before
        (inside / "ballast").unlink()
        eventually(lambda: agent.said("certificate in place") == 2, what=lambda: agent.log.read_text())
        assert certificate.read_bytes() != before


def _fill(ballast: Path) -> None:
    """Take all the room that is left."""
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def test_memory_is_demanded_where_it_was_asked_for(domain: Domain) -> None:
    folder = Path(tempfile.mkdtemp(dir=Path(sys.prefix)))
    try:
        done = once(domain, folder / "out", "--memory")
        assert "not in memory" in done.stderr
    finally:
        shutil.rmtree(folder)


def test_the_last_good_certificate_outlives_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory(prefix="intaglio-agent-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o711)
        own = Product(place)
        own.run("init")
        own.start()
        try:
            there = Domain.create(own, "outage", place / "work")
            service, out = there.service("patient"), place / "work" / "out"
            token = there.token(service, place / "work" / "token")
            with running(there, out, "--token-file", token) as agent:
                eventually(lambda: agent.said("certificate in place"), what=lambda: agent.log.read_text())
                before = agent.serial
                own.stop()
                agent.process.send_signal(signal.SIGHUP)
                eventually(lambda: agent.said("no certificate") >= 2, what=lambda: agent.log.read_text())
                assert agent.serial == before
                waits = [each["again_in_seconds"] for each in agent.events if each["event"] == "no certificate"]
                assert waits[1] > 1
                own.start()
                eventually(lambda: agent.said("certificate in place") == 2, what=lambda: agent.log.read_text())
                assert agent.serial != before
        finally:
            own.stop()
