"""tls-alpn-01 against servers with right and wrong certificates."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from intaglio.asn1 import der
from intaglio.core import clock
from intaglio.core.outgoing import PUBLIC_ONLY, Guard
from intaglio.enrollment.acme.validation import Target, ValidationFailed, ValidationOptions, Validator

_LOCAL = Guard.of(["127.0.0.0/8"])
_KEY_AUTHORIZATION = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
_TARGET = Target(
    "ip", "127.0.0.1", False, "token", _KEY_AUTHORIZATION, "https://acme.example/acct/1", "tls-alpn-01"
)
_IP = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def _certificate(
    folder: Path,
    *,
    names: tuple[x509.GeneralName, ...] = (_IP,),
    digest: bytes = _TARGET.digest,
    critical: bool = True,
    identifier: bool = True,
    self_signed: bool = True,
) -> Path:
    """Certificate and key of a challenge in one file."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = clock.now()
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if identifier:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"), der.octet_string(digest))
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(key if self_signed else other, hashes.SHA256())
    path = folder / "challenge.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@contextlib.asynccontextmanager
async def _serving(certificate: Path, *, alpn: str | None = "acme-tls/1") -> AsyncIterator[tuple[int, list[str]]]:
    """A TLS server; its port, and the names it was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    asked: list[str] = []
    context.sni_callback = lambda connection, name, _: asked.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def _prove(port: int, target: Target = _TARGET, guard: Guard = _LOCAL) -> None:
    await Validator(ValidationOptions(tls_port=port, tls_timeout=3), guard).validate(target)


async def _failing(port: int, target: Target = _TARGET, guard: Guard = _LOCAL) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        await _prove(port, target, guard)
    return caught.value


async def test_the_certificate_of_the_challenge_is_taken(tmp_path: Path) -> None:
    async with _serving(_certificate(tmp_path)) as (port, asked):
        await _prove(port)
    assert asked == ["1.0.0.127.in-addr.arpa"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"digest": bytes(32)}, "another challenge"),
        ({"critical": False}, "no critical acmeIdentifier"),
        ({"identifier": False}, "no critical acmeIdentifier"),
        ({"names": (x509.DNSName("127.0.0.1"),)}, "other names"),
        ({"names": (_IP, x509.DNSName("www.example.test"))}, "other names"),
        ({"self_signed": False}, "not self-signed"),
    ],
)
async def test_other_certificates_are_unauthorized(tmp_path: Path, wrong: dict[str, object], why: str) -> None:
    async with _serving(_certificate(tmp_path, **wrong)) as (port, _):  # type: ignore[arg-type]
        error = await _failing(port)
    assert error.problem == "unauthorized"
    assert why in error.detail


@pytest.mark.parametrize("alpn", [None, "h2"])
async def test_a_server_that_does_not_know_the_challenge_is_a_tls_problem(tmp_path: Path, alpn: str | None) -> None:
    async with _serving(_certificate(tmp_path), alpn=alpn) as (port, _):
        assert (await _failing(port)).problem == "tls"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\xff\xff" + bytes(200_000)])
async def test_what_is_no_tls_is_a_tls_problem(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(100)
            writer.write(said)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        assert (await _failing(server.sockets[0].getsockname()[1])).problem == "tls"


async def test_silence_ends_in_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1000):
                pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        validator = Validator(ValidationOptions(tls_port=server.sockets[0].getsockname()[1], tls_timeout=0.3), _LOCAL)
        with pytest.raises(ValidationFailed, match=r"within 0\.3 s"):
            await validator.validate(_TARGET)


async def test_wildcards_cannot_be_proven() -> None:
    target = replace(_TARGET, kind="dns", value="example.test", wildcard=True)
    assert (await _failing(443, target)).problem == "malformed"


async def test_private_addresses_are_not_asked() -> None:
    assert "not at a public address" in (await _failing(443, guard=PUBLIC_ONLY)).detail
