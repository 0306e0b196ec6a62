"""A webhook that knows which challenges are right, over TLS, with all its moods."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR
from tests.support.outgoing import list_networks
from tests.support.requests import new_key

from intaglio.core import clock
from intaglio.core.errors import InvalidInput, Unauthenticated, Unavailable
from intaglio.enrollment import challenges
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.values import Endpoint

TOKEN = "a token of enough length"


@dataclass
class Hook:
    """A server that answers with ``answer`` (status line and body), and keeps what it was asked."""

    url: str = ""
    ca: str = ""
    status: str = "200 OK"
    body: str = json.dumps({"allow": True})
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        self.asked.append(json.loads(await reader.readexactly(length)))
        self.tokens.append(head.partition("authorization: ")[2].partition("\r\n")[0])
        answer = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n{self.body}"
        writer.write(answer.encode())
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def hook(enrollment: Enrollment, tmp_path: Path) -> AsyncIterator[Hook]:
    await list_networks(enrollment.database)
    key, now = new_key(), clock.now()
    name = x509.Name.from_rfc4514_string("CN=hook")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    (tmp_path / "hook.pem").write_bytes(
        certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "hook.pem")
    made = Hook(ca=certificate.decode())
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/check"
    yield made
    server.close()


async def _endpoint(enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook, **more: Any) -> Endpoint:
    endpoint = await new_endpoint("scep")
    values = {"kind": "webhook", "name": "mdm", "url": hook.url, "ca_certificate": hook.ca, "secret": SecretStr(TOKEN)}
    await create_credential(
        enrollment, OPERATOR, endpoint.protocol, endpoint.name, NewCredential.model_validate({**values, **more})
    )
    return endpoint


async def _redeem(enrollment: Enrollment, endpoint: Endpoint) -> challenges.Redeemed:
    return await challenges.redeem(
        enrollment, endpoint, "the challenge", transaction="t-1", subject="CN=phone", source="192.0.2.1"
    )


async def test_the_webhook_is_asked_with_all_it_needs(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook
) -> None:
    endpoint = await _endpoint(enrollment, new_endpoint, hook)
    assert (await _redeem(enrollment, endpoint)).kind == "webhook"
    assert hook.tokens == [f"bearer {TOKEN}"]
    assert hook.asked == [
        {
            "endpoint": endpoint.address,
            "transaction": "t-1",
            "subject": "CN=phone",
            "challenge": "the challenge",
            "source": "192.0.2.1",
        }
    ]


@pytest.mark.parametrize(
    ("status", "body"), [("403 Forbidden", ""), ("200 OK", '{"allow": false}'), ("200 OK", '{"allow": "true"}')]
)
async def test_what_is_not_a_plain_yes_is_a_no(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook, status: str, body: str
) -> None:
    hook.status, hook.body = status, body
    endpoint = await _endpoint(enrollment, new_endpoint, hook)
    with pytest.raises(Unauthenticated):
        await _redeem(enrollment, endpoint)


@pytest.mark.parametrize(
    ("status", "body"),
    [("500 Oops", ""), ("302 Found", ""), ("200 OK", "no JSON"), ("200 OK", "[]"), ("200 OK", " " * 100_000)],
)
async def test_a_webhook_that_answers_nonsense_lets_nobody_in(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook, status: str, body: str
) -> None:
    hook.status, hook.body = status, body
    endpoint = await _endpoint(enrollment, new_endpoint, hook)
    with pytest.raises(Unavailable) as refusal:
        await _redeem(enrollment, endpoint)
    assert refusal.value.code == "challenge-webhook-failed"


async def test_a_webhook_that_cannot_be_verified_is_not_asked(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook
) -> None:
    endpoint = await _endpoint(enrollment, new_endpoint, hook, ca_certificate=None)
    with pytest.raises(Unavailable):
        await _redeem(enrollment, endpoint)
    assert hook.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://mdm.example/check"},
        {"url": "https://"},
        {"url": "https://["},
        {"url": "https://mdm.example:port/"},
        {"url": "https://user:secret@mdm.example/"},
        {"url": "https://mdm.example/\x00"},
        {"url": None},
        {"ca_certificate": "no certificate"},
    ],
)
async def test_a_webhook_that_cannot_be_asked_cannot_be_made(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, hook: Hook, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await _endpoint(enrollment, new_endpoint, hook, **wrong)
