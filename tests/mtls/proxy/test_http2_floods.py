"""HTTP/2 clients that cost much and want nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h2.errors
import h2.events
import h2.settings
import pytest
from tests.mtls.proxy.running import RunningGateway
from tests.mtls.proxy.test_http2 import Client

from intaglio.mtls.proxy import limits as module
from intaglio.mtls.proxy.limits import Allowance, Limits

NewGateway = Callable[..., RunningGateway]
_CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


def _frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


@contextmanager
def _client(gateway: RunningGateway) -> Iterator[Client]:
    client = Client(gateway, gateway.pki.client())
    try:
        yield client
    finally:
        client.socket.close()


def _flood(client: Client, *octets: bytes) -> None:
    """Send them; the gateway may have had enough before the end."""
    try:
        for each in octets:
            client.socket.sendall(each)
    except OSError:
        pass


def _is_sent_away(client: Client, code: int = _CALM) -> bool:
    """Whether the connection ends for this reason, which is lost on a client that the kernel resets meanwhile."""
    found = set()
    try:
        while data := client.socket.recv(65536):
            events = client.state.receive_data(data)
            found |= {each.error_code for each in events if isinstance(each, h2.events.ConnectionTerminated)}
    except TimeoutError:
        return False
    except OSError:
        pass
    return found <= {code}


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(_frame(0xFA), id="unknown"),
        pytest.param(_frame(6, bytes(8), flags=1), id="ping-acknowledgement"),
        pytest.param(_frame(2, b"\0\0\0\0\0", stream=7), id="priority"),
        pytest.param(_frame(4, struct.pack("!HI", 0x1234, 1)), id="setting-unknown"),
    ],
)
def test_client_that_only_sends_useless_frames_is_sent_away(gateway: RunningGateway, frame: bytes) -> None:
    with _client(gateway) as client:
        _flood(client, *[frame * 100] * 15)
        assert _is_sent_away(client)


def test_frames_for_streams_that_are_over_count_too(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        stream = client.head()
        assert client.answer(stream)[0] == 200
        _flood(client, *[_frame(3, struct.pack("!I", 8), stream=stream) * 100] * 15)
        assert _is_sent_away(client)


def test_streams_that_the_client_makes_the_gateway_reset_count(gateway: RunningGateway) -> None:
    overflow = struct.pack("!I", (1 << 31) - 1)
    before = len(gateway.service.requests)
    with _client(gateway) as client:
        try:
            for _ in range(400):
                stream = client.head(path="/silent")
                client.socket.sendall(_frame(8, overflow, stream=stream))
        except OSError:
            pass
        assert _is_sent_away(client)
    assert len(gateway.service.requests) - before <= 300


def test_head_in_pieces_that_never_ends_is_not_kept(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        _flood(client, _frame(1, b"\x82", stream=1), *[_frame(9, bytes(16_384), stream=1)] * 60)
        assert _is_sent_away(client)


def test_octet_by_octet_of_window_is_not_borne(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        client.state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.flush()
        stream = client.head(path="/stream")
        client.socket.settimeout(5)
        try:
            for _ in range(4000):
                client.socket.sendall(_frame(8, struct.pack("!I", 1), stream=stream))
                if not client.socket.recv(65536):
                    return
        except TimeoutError:
            pass
        except OSError:
            return
    pytest.fail("every octet gets a frame of its own")


def test_pings_do_not_keep_a_connection(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(idle=0.5))
    with _client(gateway) as client:
        client.socket.settimeout(0.1)
        for _ in range(200):
            try:
                client.state.ping(b"12345678")
                client.flush()
                if _is_sent_away(client, h2.errors.ErrorCodes.NO_ERROR):
                    return
            except OSError:
                return
    pytest.fail("pings keep the connection open")


def test_gateway_remembers_no_more_fields_than_it_wants(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        client.state.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 1 << 24})
        client.flush()
        assert client.answer(client.head())[0] == 200
        assert client.answer(client.head())[0] == 200
        assert client.state.decoder.header_table_size == 4096


def test_connect_is_refused(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        stream = client.state.get_next_available_stream_id()
        client.state.send_headers(stream, [(":method", "CONNECT"), (":authority", "localhost:443")], end_stream=True)
        client.flush()
        assert client.answer(stream)[0] == 405
        assert client.answer(client.head())[0] == 200


def test_allowance_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    allowance = Allowance(10, 2)
    for _ in range(1000):
        now[0] += 0.5
        allowance.spend()
    assert not allowance.exceeded
    allowance.spend(11)
    assert allowance.exceeded
    now[0] += 5
    allowance.spend(1)
    assert not allowance.exceeded
    now[0] += 1000
    allowance.spend(11)
    assert allowance.exceeded, "nothing is saved up beyond the most"
