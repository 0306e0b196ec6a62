"""The gateway says itself that its certificate is not revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.proxy.running import Pki, RunningGateway
from tests.server import certificates
from tests.server.certificates import Credential
from tests.support.programs import attempt

from intaglio.core import clock
from intaglio.mtls.proxy import stapling as module
from intaglio.mtls.proxy.stapling import Stapling


@dataclass
class Responder:
    """An OCSP responder on loopback, which says what it is told to."""

    authority: Credential
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD
    signer: Credential | None = None
    octets: bytes | None = None
    begins: timedelta = timedelta(minutes=-1)
    delegate: Credential | None = None
    asked: int = 0
    server: ThreadingHTTPServer = field(init=False)
    certificate: x509.Certificate | None = None

    def __post_init__(self) -> None:
        responder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                body = responder.answer()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                responder.asked += 1

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at what the gateway makes of it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self) -> bytes:
        if self.octets is not None:
            return self.octets
        assert self.certificate is not None
        now, signer = clock.now(), self.delegate or self.signer or self.authority
        revoked = self.status is ocsp.OCSPCertStatus.REVOKED
        building = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.certificate,
                issuer=self.authority.certificate,
                algorithm=SHA1(),
                cert_status=self.status,
                this_update=now + self.begins,
                next_update=now + timedelta(hours=2),
                revocation_time=now - timedelta(minutes=2) if revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, signer.certificate)
        )
        if self.delegate:
            building = building.certificates([self.delegate.certificate])
        built = building.sign(signer.key, SHA256())
        return built.public_bytes(Encoding.DER)


def _server(authority: Credential, responder: str) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    now = clock.now()
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder))
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=5))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.AuthorityInformationAccess([access]), False)
    )
    return Credential(builder.sign(authority.key, SHA256()), key)


@pytest.fixture
def responder() -> Iterator[Responder]:
    made = Responder(certificates.authority("server authority"))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def start(responder: Responder, tmp_path: Path) -> Iterator[Callable[[], RunningGateway]]:
    """Starts a gateway whose certificate names the responder."""
    running: list[RunningGateway] = []

    def started() -> RunningGateway:
        pki = Pki(tmp_path, server_authority=responder.authority)
        own = _server(responder.authority, responder.url)
        responder.certificate = own.certificate
        chain, _ = own.write(tmp_path, "server")
        chain.write_bytes(own.pem + responder.authority.pem)
        running.append(RunningGateway(pki))
        return running[-1]

    yield started
    for each in running:
        each.close()


def _shown(gateway: RunningGateway, version: str) -> str:
    return attempt("openssl", "s_client", "-connect", f"localhost:{gateway.port}", "-status", version).output


def test_good_answer_is_sent_in_the_handshake(start: Callable[[], RunningGateway]) -> None:
    gateway = start()
    gateway.until(lambda: "Cert Status: good" in _shown(gateway, "-tls1_3"))
    assert "Cert Status: good" in _shown(gateway, "-tls1_2")
    assert gateway.get(gateway.pki.client()).status_code == 200


@pytest.mark.parametrize("wrong", ["revoked", "unknown", "forged", "nonsense", "endless", "future"])
def test_answer_that_is_not_good_is_not_sent(
    start: Callable[[], RunningGateway], responder: Responder, wrong: str
) -> None:
    match wrong:
        case "revoked":
            responder.status = ocsp.OCSPCertStatus.REVOKED
        case "unknown":
            responder.status = ocsp.OCSPCertStatus.UNKNOWN
        case "forged":
            responder.signer = certificates.authority("server authority")
        case "nonsense":
            responder.octets = b"no OCSP"
        case "future":
            responder.begins = timedelta(minutes=30)
        case "endless":
            responder.octets = b"\x30" * (1 << 20)
    gateway = start()
    gateway.until(lambda: responder.asked > 0)
    assert gateway.get(gateway.pki.client()).status_code == 200
    assert "OCSP response: no response sent" in _shown(gateway, "-tls1_3")


async def test_good_answer_is_not_sent_any_more_once_the_issuer_says_something_else(
    stapled: Stapled, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORTEST", timedelta(milliseconds=10))
    monkeypatch.setattr(module, "_LONGEST", timedelta(milliseconds=10))
    stapling, _ = stapled
    await _until(lambda: stapling.current() != b"")
    responder.octets = b"raves"
    monkeypatch.setattr(module, "_AGAIN", timedelta(milliseconds=10))
    asked = responder.asked
    await _until(lambda: responder.asked > asked + 2)
    assert stapling.current() != b"", "noise from the network takes nothing away"
    responder.octets, responder.status = None, ocsp.OCSPCertStatus.REVOKED
    await _until(lambda: stapling.current() == b"")


async def test_answer_of_a_new_chain_is_not_sent_with_the_old_one(stapled: Stapled) -> None:
    stapling, chain = stapled
    await _until(lambda: stapling.of(chain)() != b"")
    renewed = chain + b"\n"
    old, new = stapling.of(chain), stapling.of(renewed)
    stapling.use(renewed)
    await _until(lambda: new() != b"")
    assert old() == b""


async def test_answer_ends_with_the_certificate_of_its_signer(
    stapled: Stapled, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stapling, _ = stapled
    await _until(lambda: stapling.current() != b"")
    now = clock.now()
    monkeypatch.setattr(module.clock, "now", lambda: now + timedelta(hours=1, minutes=30))
    assert stapling.current() == b""


Stapled = tuple[Stapling, bytes]


@pytest_asyncio.fixture
async def stapled(responder: Responder) -> AsyncIterator[Stapled]:
    """What fetches answers for a chain, from a responder whose certificate ends in an hour."""
    own = _server(responder.authority, responder.url)
    responder.certificate = own.certificate
    responder.delegate = _delegate(responder.authority, timedelta(hours=1))
    stapling, chain = Stapling(), own.pem + responder.authority.pem
    stapling.use(chain)
    fetching = asyncio.create_task(stapling.run())
    yield stapling, chain
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen")


def _delegate(authority: Credential, lifetime: timedelta) -> Credential:
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lifetime)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
    )
    return Credential(builder.sign(authority.key, SHA256()), key)


def test_gateway_without_responder_works_and_sends_none(tmp_path: Path) -> None:
    gateway = RunningGateway(Pki(tmp_path))
    try:
        assert "OCSP response: no response sent" in _shown(gateway, "-tls1_3")
    finally:
        gateway.close()


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: b"-----BEGIN CERTIFICATE-----\n" + b)))
def test_any_chain_is_stapled_for_or_not(chain: bytes) -> None:
    stapling = Stapling()
    stapling.use(chain)
    assert stapling.current() == b""
