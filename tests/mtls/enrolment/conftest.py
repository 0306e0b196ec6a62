"""People who enrol: their codes, their keys and their requests."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AttributeOID, NameOID
from tests.support.authority import OPERATOR
from tests.support.identities import make_user

from intaglio.core import clock
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.codes import CreatedCode, NewCode, create_code
from intaglio.mtls.enrolment.sessions import OpenSession, Visitor, begin_session
from intaglio.mtls.identities.values import Identity, TrustDomain
from intaglio.platform import live_settings

EMAIL = "alice@example.com"
VISITOR = Visitor("192.0.2.7", "Mozilla/5.0 (test)")


@pytest_asyncio.fixture
async def alice(mtls: Mtls, trust_domain: TrustDomain) -> Identity:
    """A registered person in ``prod.example``."""
    return await make_user(mtls, EMAIL)


@pytest_asyncio.fixture
async def code(mtls: Mtls, alice: Identity) -> CreatedCode:
    """A security code for her."""
    return await create_code(mtls, OPERATOR, NewCode(alice))


async def begin(mtls: Mtls, code: CreatedCode, email: str = EMAIL, visitor: Visitor = VISITOR) -> OpenSession:
    """A session with a code."""
    assert code.text is not None
    return await begin_session(mtls, code.text, email, visitor)


async def set_live(mtls: Mtls, group: str, **values: Any) -> None:
    """Change live settings."""
    async with mtls.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, group, values)


def csr_for(opened: OpenSession, **changes: Any) -> bytes:
    """The request that the page makes in a session; ``changes`` as in :func:`csr`."""
    values = {"identity": opened.identity.name, "email": opened.email, "nonce": opened.nonce}
    return csr(**(values | changes))


def csr(identity: str, email: str | None, nonce: str | None, key: Any = None, more: Any = ()) -> bytes:
    """A request with this common name, rfc822Name and challengePassword (PEM)."""
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity), *more]))
    if email is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
    if nonce is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, nonce.encode())
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)


@dataclass
class Mailbox:
    """A mail server of the test's own on the loopback, and what it got."""

    security: str = "starttls"
    port: int = 0
    ca_file: str = ""
    messages: list[Message] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "host": "localhost",
            "port": self.port,
            "security": self.security,
            "sender": "pki@example.com",
            "ca_file": self.ca_file,
        }

    def text(self, number: int = -1) -> str:
        payload = self.messages[number].get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode().replace("\r\n", "\n")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(message_from_bytes(content))
        return "250 OK"


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data.login == b"pki" and data.password == b"correct horse"
    return AuthResult(success=good, handled=good)


class _Listener(Controller):
    """On a port that the kernel chooses."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mailbox]:
    """A mail server with STARTTLS under a certificate of its own CA, and accounts; or another kind (parameter)."""
    box = Mailbox(getattr(request, "param", "starttls"))
    certificate, key = _server_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    box.ca_file = str(certificate)
    # The library takes TLS from the first octet on for none, and would not offer accounts.
    tls: dict[str, Any] = {
        "starttls": {"tls_context": context},
        "tls": {"ssl_context": context, "auth_require_tls": False},
        "loopback": {},
    }[box.security]
    listener = _Listener(box, hostname="127.0.0.1", port=0, authenticator=_authenticate, auth_required=False, **tls)
    listener.start()
    box.port = listener.port
    yield box
    listener.stop()


def _server_certificate(folder: Path) -> tuple[Path, Path]:
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    certificate, key_file = folder / "smtp.pem", folder / "smtp.key"
    certificate.write_bytes(built.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key_file
