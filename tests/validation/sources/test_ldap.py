"""The LDAP client against servers that are not what they should be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.support.outgoing import LOOPBACK_GUARD
from tests.support.programs import run

from intaglio.asn1 import der
from intaglio.core.errors import IntaglioError
from intaglio.validation.sources import fetching, ldap
from intaglio.validation.sources.ldap import Directory

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_SUCCESS = der.enumerated(0) + der.octet_string(b"") + der.octet_string(b"")


@asynccontextmanager
async def _server(handle: Handler) -> AsyncIterator[Directory]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    async with server:
        yield Directory("odd", f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def _read(directory: Directory, *, limit: int = 1 << 20, attribute: str = "crl;binary") -> list[bytes]:
    return await ldap.read_attribute(
        directory, LOOPBACK_GUARD, "cn=ca", attribute, timeout=timedelta(seconds=1), limit=limit
    )


async def _code(directory: Directory, **options: int) -> str:
    with pytest.raises(IntaglioError) as caught:
        await _read(directory, **options)
    return caught.value.code


def _message(number: int, tag: int, content: bytes) -> bytes:
    return der.sequence(der.integer(number), der.tlv(tag, content))


def _found(*values: bytes, name: bytes = b"crl;binary") -> bytes:
    described = der.sequence(der.octet_string(name), der.tlv(der.SET, b"".join(map(der.octet_string, values))))
    return der.octet_string(b"cn=ca") + der.sequence(described)


def _answering(*messages: bytes) -> Handler:
    """Answers a bind, then sends these messages whatever is asked."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(_message(1, 0x61, _SUCCESS))
        await reader.read(1000)
        writer.write(b"".join(messages))
        await writer.drain()
        await reader.read()

    return handle


async def test_values_are_read_whatever_the_name_comes_back_as() -> None:
    found = _message(2, 0x64, _found(b"one", b"two", name=b"CRL"))
    async with _server(_answering(found, _message(2, 0x65, _SUCCESS))) as directory:
        assert await _read(directory) == [b"one", b"two"]


async def test_a_server_that_never_comes_to_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LONGEST_FETCH", 0.3)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\x30\x84\x00\x0f\xff\xff")
        while True:  # something before every silence is long enough to be noticed
            writer.write(b"\x02")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with _server(handle) as directory:
        assert await _code(directory) == "source-timeout"


async def test_lengths_that_servers_pad_are_understood() -> None:
    content = der.integer(2) + der.tlv(0x65, _SUCCESS)
    padded = b"\x30\x84" + len(content).to_bytes(4) + content
    async with _server(_answering(_message(2, 0x64, _found(b"one")), padded)) as directory:
        assert await _read(directory) == [b"one"]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([_message(2, 0x65, _SUCCESS)], "directory-refused"),
        ([_message(7, 0x65, _SUCCESS)], "directory-refused"),
        ([_message(2, 0x61, _SUCCESS)], "directory-refused"),
        ([_message(2, 0x65, der.enumerated(32) + der.octet_string(b"") * 2)], "directory-refused"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "directory-refused"),
        ([b"\x30\x80"], "directory-refused"),
        ([b"\x30\x84\x7f\xff\xff\xff"], "source-too-large"),
        ([_message(2, 0x64, b"\x04\x05x")], "source-unreachable"),
        ([_message(2, 0x64, _found(*[b""] * 20_000))], "source-unreachable"),
        ([_message(2, 0x64, _found(bytes(600_000)))] * 3, "source-too-large"),
        ([_message(2, 0x73, b"")] * 1_100, "directory-refused"),
        ([b"\x30\x05\x02"], "source-timeout"),
        ([], "source-timeout"),
    ],
)
async def test_answers_that_are_none_end_in_one_clear_error(messages: list[bytes], code: str) -> None:
    async with _server(_answering(*messages)) as directory:
        assert await _code(directory) == code


async def test_a_server_that_says_nothing_is_left() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with _server(handle) as directory:
        assert await _code(directory) == "source-timeout"


async def test_a_server_that_hangs_up_is_reported() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with _server(handle) as directory:
        assert await _code(directory) == "source-unreachable"


async def test_values_beyond_the_limit_are_not_read() -> None:
    found = _message(2, 0x64, _found(b"0" * 200_000))
    async with _server(_answering(found)) as directory:
        assert await _code(directory, limit=100_000) == "source-too-large"


async def test_nothing_that_came_before_tls_is_believed(tmp_path: Path) -> None:
    """An answer put behind that of StartTLS by somebody on the way (as in CVE-2011-0411 for mail)."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(_message(1, 0x78, _SUCCESS) + _message(2, 0x61, _SUCCESS))
        await writer.drain()
        await reader.read()

    async with _server(handle) as plain:
        assert await _code(Directory("odd", plain.url, start_tls=True)) == "directory-refused"


async def test_a_password_is_not_sent_to_a_server_that_cannot_prove_itself(tmp_path: Path) -> None:
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", tmp_path / "key", "-out", tmp_path / "pem", "-subj", "/CN=odd",
        "-addext", "subjectAltName=DNS:elsewhere.example",
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
    heard = b""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await reader.read(1000)
        writer.write(_message(1, 0x78, _SUCCESS))
        await writer.start_tls(context)
        heard += await reader.read(1000)

    ca = (tmp_path / "pem").read_text()
    async with _server(handle) as plain:
        directory = Directory("odd", plain.url, True, ca, "cn=reader", SecretStr("very secret"))
        assert await _code(directory) == "source-unreachable"
    assert b"secret" not in heard


@given(st.binary(max_size=200))
def test_any_octets_are_elements_or_one_clear_error(data: bytes) -> None:
    try:
        elements = list(ldap._elements(data))
    except ValueError:
        return
    assert sum(len(content) for _, content in elements) <= len(data)
