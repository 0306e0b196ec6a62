"""Measuring how long an ingress takes to refuse a revoked certificate."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from intaglio.core import clock
from intaglio.core.errors import StateConflict, TimedOut, Unavailable
from intaglio.mtls.ingresses.measuring import ClientFiles, Target, attempt, measure_refusal


def _self_signed(folder: Path, name: str) -> ClientFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = clock.now()
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(names, False)
    certificate = builder.sign(key, SHA256())
    files = ClientFiles(folder / f"{name}.pem", folder / f"{name}.key")
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


class Server:
    """A TLS server that demands a certificate, and answers with a status that tests set."""

    def __init__(self, folder: Path) -> None:
        self.identity, self.client = _self_signed(folder, "localhost"), _self_signed(folder, "client")
        self.statuses: list[int] = []
        self.status = 200
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = self.statuses.pop(0) if self.statuses else self.status
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, "localhost", self.identity.certificate)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.identity.certificate, made.identity.key)
    context.load_verify_locations(made.client.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    listening = await asyncio.start_server(made.answer, "127.0.0.1", 0, ssl=context)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    await listening.wait_closed()


def revoking(server: Server, status: int) -> Callable[[], object]:
    async def revoke() -> None:
        server.status = status

    return revoke


@pytest.mark.parametrize("status", [400, 401, 403, 495])
async def test_the_time_until_the_first_of_lasting_refusals_is_told(server: Server, status: int) -> None:
    server.statuses = [200, 200, status, 200, status]  # a second process that has not heard yet
    seconds = await measure_refusal(server.target, server.client, revoking(server, status))  # type: ignore[arg-type]
    assert 0 < seconds < 60
    assert server.statuses == []


async def test_a_certificate_that_was_never_accepted_measures_nothing(server: Server) -> None:
    server.status = 403
    with pytest.raises(StateConflict) as refused:
        await measure_refusal(server.target, server.client, revoking(server, 403))  # type: ignore[arg-type]
    assert refused.value.code == "not-accepted-before"


async def test_an_ingress_that_goes_on_accepting_fails(server: Server) -> None:
    with pytest.raises(TimedOut) as failed:
        await measure_refusal(server.target, server.client, revoking(server, 200), patience=0.1)  # type: ignore[arg-type]
    assert failed.value.code == "not-refused"


async def test_a_refused_handshake_is_a_refusal(server: Server, tmp_path: Path) -> None:
    stranger = _self_signed(tmp_path, "stranger")
    answer = await attempt(server.target, stranger)
    assert not answer.accepted
    assert "unknown ca" in answer.said or "connection" in answer.said


async def test_a_server_that_cannot_be_verified_is_never_asked(server: Server) -> None:
    wrong = Target("127.0.0.1", server.port, "localhost", server.client.certificate)
    with pytest.raises(Unavailable) as failed:
        await attempt(wrong, server.client)
    assert failed.value.code == "server-unverified"


async def test_nothing_listening_is_no_refusal(server: Server) -> None:
    with pytest.raises(Unavailable) as failed:
        await attempt(Target("127.0.0.1", 1, "localhost", server.identity.certificate), server.client)
    assert failed.value.code == "target-unreachable"
