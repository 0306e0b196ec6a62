"""A service that answers what nobody asked, or so that two readers differ: no client gets what is meant for another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping

import h11
import pytest
from tests.mtls.proxy.running import Pki, RunningGateway
from tests.mtls.proxy.scripted import OK, ScriptedService
from tests.mtls.proxy.test_http2 import Client

from intaglio.mtls.proxy.upstream import Upstream, UpstreamConnection, address, request_event

NewGateway = Callable[..., RunningGateway]
NewPair = Callable[..., tuple[RunningGateway, ScriptedService]]

_POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_PROOF = base64.b64encode(hashlib.sha1(f"{_KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()


@pytest.fixture
def before(new_gateway: NewGateway) -> Iterator[NewPair]:
    """Makes a gateway before a scripted service."""
    made: list[ScriptedService] = []

    def new(script: Mapping[str, bytes] | None = None, *, lax: bool = False) -> tuple[RunningGateway, ScriptedService]:
        made.append(ScriptedService(script, lax=lax))
        return new_gateway(upstream=made[-1].url), made[-1]

    yield new
    for each in made:
        each.close()


def test_second_answer_nobody_asked_for_reaches_nobody(before: NewPair) -> None:
    gateway, service = before({"/two": OK + _POISON})
    with gateway.http(gateway.pki.client("attacker")) as attacker, gateway.http(gateway.pki.client("victim")) as victim:
        assert attacker.get(gateway.url("/two")).text == "ok"
        assert [victim.get(gateway.url(f"/{number}")).text for number in range(3)] == ["ok"] * 3
    assert [each.target for each in service.received] == ["/two", "/0", "/1", "/2"]


async def test_idle_connection_that_speaks_unasked_is_not_used_again() -> None:
    later = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await later.wait()
        writer.write(_POISON)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream(address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    first = await upstream.connection()
    await _ask(first)
    upstream.release(first)
    assert first.alive()
    later.set()
    for _ in range(1000):
        if not first.alive():
            break
        await asyncio.sleep(0.01)
    second = await upstream.connection()
    assert second is not first
    second.close()
    server.close()


async def _ask(connection: UpstreamConnection) -> None:
    await connection.send(request_event(b"GET", b"/", [(b"host", b"localhost")]))
    await connection.send(h11.EndOfMessage())
    await connection.head()
    assert b"".join([part async for part in connection.body()]) == b"ok"


_ODD = {
    f"/odd/{number}": answer
    for number, answer in enumerate(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 6\r\n\r\npoison",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
            b"HTTP/1.1 099 Odd\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + OK,
            b"\x15\x03\x01\x00\x02\x02\x46",
        ]
    )
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway before a service that answers in odd ways."""
    service = ScriptedService(_ODD)
    running = RunningGateway(Pki(tmp_path_factory.mktemp("odd")), upstream=service.url)
    yield running
    running.close()
    service.close()


@pytest.mark.parametrize("path", _ODD)
def test_answer_with_two_readings_becomes_an_error(odd: RunningGateway, path: str) -> None:
    found = odd.get(odd.pki.client(), path)
    assert (found.status_code, found.json()["code"]) == (502, "upstream-failed")
    assert odd.get(odd.pki.client(), "/").text == "ok"


@pytest.mark.parametrize("path", _ODD)
def test_answer_with_two_readings_becomes_an_error_in_http2(odd: RunningGateway, path: str) -> None:
    client = Client(odd, odd.pki.client())
    status, body = client.answer(client.head(path=path))
    client.socket.close()
    assert (status, json.loads(body)["code"]) == (502, "upstream-failed")


def test_answers_without_body_end_where_their_head_ends(before: NewPair) -> None:
    gateway, _ = before(
        {
            "/none": b"HTTP/1.1 204 No Content\r\nContent-Length: 30\r\n\r\n",
            "/same": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 30\r\n\r\n",
        }
    )
    requests = b"".join(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in (b"/none", b"/same"))
    last = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    first, second, third = gateway.raw(gateway.pki.client(), requests + last).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"204 ")
    assert b"content-length" not in first.lower()
    assert second.startswith(b"304 ")
    assert third.endswith(b"\r\n\r\nok")


def test_line_break_in_an_answer_makes_no_field(before: NewPair) -> None:
    gateway, _ = before({"/split": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: a\rSet-Cookie: evil=1\r\n\r\nok"})
    found = gateway.get(gateway.pki.client(), "/split")
    assert "set-cookie" not in found.headers


def test_body_that_a_careless_service_does_not_read_is_no_request(before: NewPair) -> None:
    gateway, service = before(lax=True)
    smuggled = b"GET /admin HTTP/1.1\r\nHost: localhost\r\nX-Intaglio-Identity: admin\r\n\r\n"
    client = gateway.pki.client()
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    assert b" 200 " in gateway.raw(client, head % len(smuggled) + smuggled)
    with gateway.http(client) as http:
        assert http.request("GET", gateway.url("/chunks"), content=iter([smuggled])).status_code == 200
        assert http.get(gateway.url("/after")).text == "ok"
    assert [each.target for each in service.received] == ["/", "/chunks", "/after"]


@pytest.mark.parametrize("scheme", ["NTLM", "negotiate"])
def test_connection_that_was_authenticated_is_not_given_to_others(before: NewPair, scheme: str) -> None:
    gateway, service = before()
    with gateway.http(gateway.pki.client()) as http:
        http.get(gateway.url("/mine"), headers={"authorization": f"{scheme} dG9rZW4="})
    gateway.get(gateway.pki.client("other"), "/theirs")
    mine, theirs = service.received
    assert mine.connection != theirs.connection


def _switch(key: str = _KEY, protocol: str = "websocket", version: str = "1.1") -> bytes:
    return (
        f"GET /ws HTTP/{version}\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def _switched(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "answer",
    [
        _switched(),
        _switched("Connection: Upgrade"),
        _switched("Connection: Upgrade", "Upgrade: websocket"),
        _switched("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: AAAA"),
        _switched("Connection: Upgrade", "Upgrade: echo", f"Sec-WebSocket-Accept: {_PROOF}"),
    ],
)
def test_switch_the_service_did_not_mean_opens_no_tunnel(before: NewPair, answer: bytes) -> None:
    gateway, service = before({"/ws": answer})
    smuggled = b"GET /admin HTTP/1.1\r\nHost: localhost\r\nX-Intaglio-Identity: admin\r\nConnection: close\r\n\r\n"
    assert gateway.raw(gateway.pki.client(), _switch() + smuggled).startswith(b"HTTP/1.1 502 ")
    assert all(each.values("x-intaglio-identity") == ["spiffe://example/svc/orders"] for each in service.received)


def test_websocket_that_is_meant_is_opened(before: NewPair) -> None:
    agreed = _switched("Connection: Upgrade", "Upgrade: WebSocket", f"Sec-WebSocket-Accept: {_PROOF}")
    gateway, _ = before({"/ws": agreed})
    with gateway.connect(gateway.pki.client()) as client:
        client.sendall(_switch())
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(("protocol", "version"), [("h2c", "1.1"), ("h2", "1.1"), ("websocket", "1.0")])
def test_switch_that_is_none_is_not_asked_for(before: NewPair, protocol: str, version: str) -> None:
    gateway, service = before()
    with gateway.connect(gateway.pki.client()) as client:
        client.sendall(_switch(protocol=protocol, version=version))
        assert b" 200 " in client.recv(65536)
    assert service.received[0].values("upgrade") == []
