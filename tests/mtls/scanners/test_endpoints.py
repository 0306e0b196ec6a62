"""What endpoints show, watched in handshakes with `openssl s_server`."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.programs import program, run

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.mtls.posture.scanners.endpoints import Endpoint, scan_endpoints
from intaglio.x509.certificates import read_certificates

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, a server certificate for localhost, and a self-signed one."""
    folder = tmp_path_factory.mktemp("pki")
    root = ("-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Root", "-days", "30")
    run("openssl", "req", "-x509", *_EC, *root, cwd=folder)
    run(
        "openssl", "req", "-x509", *_EC, "-keyout", "localhost.key", "-out", "localhost.pem", "-subj", "/CN=localhost",
        "-CA", "root.pem", "-CAkey", "root.key", "-addext", "subjectAltName=DNS:localhost",
        "-addext", "basicConstraints=CA:FALSE", "-days", "30", cwd=folder,
    )  # fmt: skip
    alone = ("-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=self", "-days", "1")
    run("openssl", "req", "-x509", *_EC, *alone, cwd=folder)
    return folder


@contextlib.contextmanager
def serving(pki: Path, name: str, *options: str) -> Iterator[int]:
    """`openssl s_server` on a free port."""
    command = [
        program("openssl"), "s_server", "-accept", "127.0.0.1:0", "-key", f"{name}.key", "-cert", f"{name}.pem",
        "-CAfile", "root.pem", *options,
    ]  # fmt: skip
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=pki, stdout=pipe, stderr=subprocess.STDOUT, stdin=pipe)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"ACCEPT"):
                yield int(line.rpartition(b":")[2])
                break
    finally:
        process.kill()
        process.communicate()


def _scan(pki: Path, port: int, **options: object) -> tuple[set[str], str]:
    trusted = read_certificates((pki / "root.pem").read_bytes())
    endpoint = Endpoint("127.0.0.1", port, "localhost")
    report, (seen,) = scan_endpoints([endpoint], trusted=trusted, timeout=20, **options)  # type: ignore[arg-type]
    return {each.rule.id for each in report.findings}, seen.client_certificate


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_good_endpoint_that_demands_a_client_certificate_has_no_findings(pki: Path, version: str) -> None:
    with serving(pki, "localhost", "-Verify", "1", "-verify_return_error", version) as port:
        assert _scan(pki, port) == (set(), "required")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_an_endpoint_that_asks_nobody_is_found(pki: Path, version: str) -> None:
    with serving(pki, "localhost", version) as port:
        assert _scan(pki, port) == ({"endpoint-no-client-certificate"}, "not-requested")
        assert _scan(pki, port, expect_client_certificate=False)[0] == set()


def test_a_self_signed_certificate_is_found(pki: Path) -> None:
    with serving(pki, "self", "-verify", "1") as port:
        found, asked = _scan(pki, port, notice=timedelta(hours=1))
        assert found == {"endpoint-self-signed"}
        assert asked == "requested"
        assert _scan(pki, port)[0] == {"endpoint-self-signed", "endpoint-expires-soon"}


def test_an_unknown_ca_a_wrong_name_and_an_end_are_found(pki: Path) -> None:
    with serving(pki, "localhost", "-verify", "1") as port:
        stranger = read_certificates((pki / "self.pem").read_bytes())
        report, _ = scan_endpoints([Endpoint("127.0.0.1", port, "localhost")], trusted=stranger, timeout=20)
        assert [each.rule.id for each in report.findings] == ["endpoint-untrusted"]
        trusted = read_certificates((pki / "root.pem").read_bytes())
        report, _ = scan_endpoints([Endpoint("127.0.0.1", port, "www.example")], trusted=trusted, timeout=20)
        assert [each.rule.id for each in report.findings] == ["endpoint-wrong-name"]
        with clock.frozen(clock.now() + timedelta(days=60)):
            assert "endpoint-expired" in _scan(pki, port)[0]


def test_an_endpoint_nobody_listens_at_is_told(pki: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert _scan(pki, port)[0] == {"endpoint-unreachable"}


def test_a_host_that_can_be_none_is_told(pki: Path) -> None:
    report, _ = scan_endpoints([Endpoint(f"{'a' * 70}.example", 443, "a")], timeout=5)
    assert [each.rule.id for each in report.findings] == ["endpoint-unreachable"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", ("a.example", 443)), ("a.example:8443", ("a.example", 8443)), ("[::1]:8443", ("::1", 8443)),
        ("::1", ("::1", 443)), ("https://a.example/path", ("a.example", 443)), ("192.0.2.1:1", ("192.0.2.1", 1)),
    ],
)  # fmt: skip
def test_addresses_are_read(text: str, expected: tuple[str, int]) -> None:
    found = Endpoint.parse(text)
    assert (found.host, found.port) == expected


@pytest.mark.parametrize("text", ["", "a:0", "a:99999", "a:b", ":443"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Endpoint.parse(text)
