"""One connection at a time, in this process: slow, broken and hostile clients."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.server import certificates
from uvicorn.config import Config
from uvicorn.server import ServerState

from intaglio.server import protocol
from intaglio.server.http_listener import HttpListener
from intaglio.server.listeners import KINDS, Sockets
from intaglio.server.protocol import HEAD_LIMIT, HttpProtocol
from intaglio.transport import tls_stream
from intaglio.transport.contexts import ServerIdentity, server_context
from intaglio.transport.observing import ObservingContext
from intaglio.transport.tls_stream import SslEngine, TlsEngine, TlsStream

Open = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_AUTHORITY = certificates.authority("authority")
_IDENTITY = certificates.server(_AUTHORITY)
_CONTEXT = server_context(ServerIdentity(_IDENTITY.pem, _IDENTITY.key_pem))
_OBSERVING = ObservingContext(ServerIdentity(_IDENTITY.pem, _IDENTITY.key_pem), trusted=())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body it got."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest_asyncio.fixture
async def plain() -> AsyncIterator[Open]:
    async for opened in _listening(None):
        yield opened


@pytest_asyncio.fixture
async def secure() -> AsyncIterator[Open]:
    async for opened in _listening(_CONTEXT):
        yield opened


async def _listening(context: ssl.SSLContext | None) -> AsyncIterator[Open]:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    port = bound.getsockname()[1]
    kind = KINDS["public" if context is None else "gateway"]
    source = (lambda: context) if context is not None else None
    listener = HttpListener(Sockets(kind, (bound,)), echo, context=source)
    listener.start()

    async def opened(**options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, **options)

    yield opened
    await listener.drain(5)


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return b""


async def test_slow_head_is_dropped(plain: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.1)
    reader, writer = await plain()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    assert await _until_closed(reader) == b""


async def test_connection_without_a_request_is_dropped(plain: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.1)
    reader, _ = await plain()
    assert await _until_closed(reader) == b""


async def test_slow_second_head_is_dropped_after_the_first_answer(
    plain: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.1)
    reader, writer = await plain()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET / HT")
    assert await _until_closed(reader) == b""


async def test_slow_handshake_is_dropped(secure: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_stream, "HANDSHAKE_TIMEOUT", 0.1)
    reader, _ = await secure()
    assert await _until_closed(reader) == b""


async def test_pipelined_requests_are_answered_in_order(plain: Open) -> None:
    reader, writer = await plain()
    for number in range(5):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % number)
    bodies = []
    for _ in range(5):
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readexactly(1))
    assert bodies == [b"0", b"1", b"2", b"3", b"4"]


async def test_plain_http_on_a_tls_port_is_refused(secure: Open) -> None:
    reader, writer = await secure()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await _until_closed(reader)
    assert answer[:1] in (b"\x15", b"")  # a TLS alert, never an HTTP answer


async def test_large_bodies_pass_through_tls_unchanged(secure: Open) -> None:
    context = ssl.create_default_context(cadata=_AUTHORITY.pem.decode())
    reader, writer = await secure(ssl=context, server_hostname="localhost")
    body = bytes(range(256)) * 8192
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(len(body)) == body
    writer.close()
    await writer.wait_closed()


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_no_octets_bring_the_http_protocol_down(parts: list[bytes]) -> None:
    answer = asyncio.run(_fed(parts))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")


@given(st.sampled_from([b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n"]), st.binary(max_size=300))
def test_no_header_brings_the_http_protocol_down(start: bytes, rest: bytes) -> None:
    answer = asyncio.run(_fed([start + rest + b"\r\n\r\n"]))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")


def test_head_beyond_the_limit_is_refused_in_json() -> None:
    answer = asyncio.run(_fed([b"GET / HTTP/1.1\r\n", *[b"x: " + b"y" * 8000 + b"\r\n"] * (HEAD_LIMIT // 8000 + 1)]))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    assert json.loads(body)["code"] == "head-too-large"


_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_endless_trailers_end_the_connection() -> None:
    trailers = [b"x: " + b"y" * 1000 + b"\r\n"] * (HEAD_LIMIT // 500)
    for parts in (trailers, [b"x: ", *[b"y" * 1000] * (HEAD_LIMIT // 500)]):
        assert asyncio.run(_cut_off(_CHUNKED + b"1\r\nx\r\n0\r\n", parts, echo))


def test_a_head_behind_a_request_under_way_has_its_limit_too() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    headers = [b"x: " + b"y" * 1000 + b"\r\n"] * (HEAD_LIMIT // 500)
    assert asyncio.run(_cut_off(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n", headers, slow))


async def _cut_off(start: bytes, parts: list[bytes], app: ASGIApp) -> bool:
    """Whether the connection is given up before all parts are taken."""
    config = Config(app, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False)
    wire, connection = _Wire(), HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    connection.connection_made(wire)
    for part in [start, *parts]:
        if wire.closed:
            break
        connection.data_received(part)
    closed = wire.closed
    connection.connection_lost(None)
    for task in connection.tasks:
        task.cancel()
    return closed


_LARGE = 10 << 20


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        pytest.param([_LARGE] * 4, False, id="takes nothing"),
        pytest.param([_LARGE - octets for octets in range(0, 400, 100)], False, id="takes a few octets"),
        pytest.param([_LARGE - octets for octets in range(0, 4 << 20, 1 << 20)], True, id="takes it slowly"),
        pytest.param([1000, 0, 1000, 0], True, id="takes all"),
    ],
)
async def test_answer_that_is_not_taken_is_not_kept_for_ever(left: list[int], kept: bool) -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(_LARGE)})

    config = Config(large, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False)
    wire, connection = _Wire(), HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    connection.connection_made(wire)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(wire.written) > _LARGE
    for number, wire.waiting in enumerate(left):
        connection.close_if_slow(number * protocol.TAKE_TIMEOUT * 0.6)
    assert wire.closed is not kept
    connection.connection_lost(None)


async def test_a_trailer_is_no_header() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await echo(scope, receive, send)
        seen.append(scope)

    answer = await _fed([_CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer a\r\n\r\n"], app)
    assert answer.startswith(b"HTTP/1.1 200")
    assert [name for name, _ in seen[0]["headers"]] == [b"host", b"transfer-encoding"]


async def test_a_body_in_chunks_of_one_octet_is_read(plain: Open) -> None:
    reader, writer = await plain()
    writer.write(_CHUNKED + b"1\r\nx\r\n" * HEAD_LIMIT + b"0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(HEAD_LIMIT) == b"x" * HEAD_LIMIT
    writer.close()


@pytest.mark.parametrize("make", [lambda: SslEngine(_CONTEXT), lambda: _OBSERVING.engine()])
@given(data=st.binary(min_size=1, max_size=600))
def test_no_octets_bring_the_tls_stream_down(make: Callable[[], TlsEngine], data: bytes) -> None:
    assert asyncio.run(_shaken(data, make())) in (["protocol-error"], ["abandoned"])


_UPGRADE = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
_INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_INNER), _INNER)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d\r\n" % len(_INNER), _INNER),
        (b"Transfer-Encoding: chunked\r\n", _CHUNKS),
        (b"Content-Length: 0\r\n", b""),
        (b"", b""),
    ],
)
async def test_body_of_a_request_that_asks_for_another_protocol_is_its_body(
    framing: bytes, body: bytes, apart: bool
) -> None:
    head, second = _UPGRADE + framing + b"\r\n", _UPGRADE + b"Content-Length: 2\r\n\r\n"
    seen = await _seen([head, body, second, b"no"] if apart else [head + body + second + b"no"])
    assert seen == [("POST", "/", _INNER if body else b""), ("POST", "/", b"no")]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ],
)
async def test_head_that_another_server_may_read_differently_is_refused(head: bytes) -> None:
    answer = await _fed([head + b"\r\n" + _CHUNKS])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await _seen([head + b"\r\n" + _CHUNKS]) == []


async def test_old_client_without_host_is_served() -> None:
    assert await _seen([b"GET / HTTP/1.0\r\n\r\n"]) == [("GET", "/", b"")]


async def _seen(parts: list[bytes]) -> list[tuple[str, str, bytes]]:
    """Method, path and body of the requests that reach the application."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen.append((scope["method"], scope["path"], body))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await _fed(parts, app)
    return seen


class _Talkative:
    """TLS that answers everything with a kilobyte, as it answers key updates (RFC 8446 section 4.6.3)."""

    context: object = None

    def feed(self, data: bytes, /) -> object:
        return None

    def drain(self) -> bytes:
        return bytes(1024)

    def do_handshake(self) -> None:
        """Done at once."""

    def read(self, size: int, /) -> bytes:
        raise ssl.SSLWantReadError


async def test_client_that_makes_tls_talk_and_does_not_listen_is_cut_off() -> None:
    for waiting, cut in ((0, False), (1 << 20, True)):
        wire, engine = _Wire(), cast(TlsEngine, _Talkative())
        stream = TlsStream(asyncio.get_running_loop(), engine, asyncio.Protocol, lambda *_: None)
        stream.connection_made(wire)
        wire.waiting = waiting
        for _ in range(1000):
            stream.data_received(b"key update")
        assert wire.closed is cut
        stream.connection_lost(None)


class _Wire(asyncio.Transport):
    """A connection that remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.waiting = 0  # octets the client has not taken

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing reads here."""

    resume_reading = pause_reading


async def _fed(parts: list[bytes], app: ASGIApp = echo) -> bytes:
    config = Config(app, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False)
    wire, connection = _Wire(), HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    connection.connection_made(wire)
    for part in parts:
        if not wire.closed:
            connection.data_received(part)
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    for task in connection.tasks:
        task.cancel()
    return wire.written


async def _shaken(data: bytes, engine: TlsEngine) -> list[str]:
    results: list[str] = []
    stream = TlsStream(
        asyncio.get_running_loop(),
        engine,
        asyncio.Protocol,
        lambda result, reason, peer: results.append(result),
    )
    stream.connection_made(_Wire())
    stream.data_received(data)
    stream.connection_lost(None)
    return results
