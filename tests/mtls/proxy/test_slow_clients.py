"""Clients that hold what they use as long as they can."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.mtls.proxy.running import PATIENCE, Pki, RunningGateway
from tests.mtls.proxy.scripted import ScriptedService
from tests.mtls.proxy.test_http2 import Client

from intaglio.mtls.proxy.limits import Limits
from intaglio.transport import tls_stream

_LARGE = 64 << 20


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that waits half a second, before a service with a large answer."""
    service = ScriptedService({"/large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _LARGE + bytes(_LARGE)})
    limits = Limits(stall=0.5, idle=0.5, head_time=0.5)
    running = RunningGateway(Pki(tmp_path_factory.mktemp("slow")), upstream=service.url, limits=limits)
    yield running
    running.close()
    service.close()


def _is_ended(gateway: RunningGateway) -> None:
    gateway.until(lambda: len(gateway.proxy.connections) == 1)
    gateway.until(lambda: len(gateway.proxy.connections) == 0)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", id="half a body"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", id="half a chunk"),
        pytest.param(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", id="answer not read"),
    ],
)
def test_client_that_goes_no_further_is_let_go(impatient: RunningGateway, octets: bytes) -> None:
    with impatient.connect(impatient.pki.client()) as client:
        client.sendall(octets)
        _is_ended(impatient)


def test_window_that_stays_shut_is_let_go(impatient: RunningGateway) -> None:
    client = Client(impatient, impatient.pki.client())
    client.head(path="/large")
    _is_ended(impatient)
    client.socket.close()


def test_handshake_octet_by_octet_has_one_time_limit(
    new_gateway: Callable[..., RunningGateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_stream, "HANDSHAKE_TIMEOUT", 0.5)
    gateway = new_gateway()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.05) as client:
        for octet in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)):
            try:
                client.sendall(bytes([octet]))
                if not client.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("the handshake may take for ever")


def test_one_address_does_not_take_all_connections(new_gateway: Callable[..., RunningGateway]) -> None:
    gateway = new_gateway(limits=Limits(connections=100, connections_per_address=3))
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
        gateway.until(lambda: gateway.proxy.handshakes == 3)
        refused = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
        assert _is_closed(refused)
        with gateway.http(gateway.pki.client(), source="127.0.0.2") as other:
            assert other.get(gateway.url()).status_code == 200
    gateway.until(lambda: gateway.get(gateway.pki.client()).status_code == 200)
