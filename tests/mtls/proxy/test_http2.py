"""HTTP/2 at the gateway, with a client that may misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mtls.proxy.running import RunningGateway
from tests.server.certificates import Credential

from intaglio.mtls.proxy.limits import Limits

NewGateway = Callable[..., RunningGateway]


class Client:
    """One HTTP/2 connection to a gateway. It checks nothing of what it sends."""

    def __init__(self, gateway: RunningGateway, credential: Credential | None) -> None:
        self.socket = gateway.connect(credential, ["h2"])
        assert self.socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            client_side=True,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            header_encoding="latin-1",
        )
        self.state = h2.connection.H2Connection(config)
        self.state.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.state.data_to_send())

    def head(self, *headers: tuple[str, str], end: bool = True, **pseudo: str) -> int:
        """Send the head of a request; its stream."""
        found = {"method": "GET", "path": "/", "scheme": "https", "authority": "localhost", **pseudo}
        stream = self.state.get_next_available_stream_id()
        fields = [*((f":{name}", value) for name, value in found.items()), *headers]
        self.state.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def events(self) -> Iterator[Any]:
        """What the gateway sends, until it ends the connection."""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            found = self.state.receive_data(data)
            for event in found:
                if isinstance(event, h2.events.DataReceived):
                    self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.flush()
            yield from found

    def answer(self, stream: int) -> tuple[int, bytes]:
        """Status and body of the answer on a stream; status 0 when it was reset, -1 when the connection ended."""
        status, body = -1, b""
        for event in self.events():
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                status = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamReset):
                return 0, body
            elif isinstance(event, h2.events.StreamEnded):
                return status, body
        return status, body


@contextmanager
def _client(gateway: RunningGateway, credential: Credential | None = None) -> Iterator[Client]:
    client = Client(gateway, credential or gateway.pki.client())
    try:
        yield client
    finally:
        client.socket.close()


def test_streams_are_answered_side_by_side(new_gateway: NewGateway) -> None:
    gateway = new_gateway(patience=1.0)
    with _client(gateway) as client:
        slow = client.head(path="/silent")
        quick = client.head(path="/quick")
        assert client.answer(quick)[0] == 200
        assert client.answer(slow)[0] == 504


def test_cookies_are_joined_and_forged_fields_dropped(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        forged = [("client_cert", "forged"), ("x-ssl-client-cert", "forged")]
        _, body = client.answer(client.head(("cookie", "a=1"), ("cookie", "b=2"), *forged))
    headers = json.loads(body)["headers"]
    assert ["cookie", "a=1; b=2"] in headers
    assert "forged" not in body.decode()
    assert len([name for name, _ in headers if name == "client-cert"]) == 1


@pytest.mark.parametrize(
    ("pseudo", "headers", "status"),
    [
        ({"path": "/a/../b"}, [], 400),
        ({"path": "/a%2fb"}, [], 400),
        ({"method": "TRACE"}, [], 405),
        ({"authority": "a b"}, [], 400),
    ],
)
def test_ambiguous_request_is_refused_on_its_stream_alone(
    gateway: RunningGateway, pseudo: dict[str, str], headers: list[tuple[str, str]], status: int
) -> None:
    with _client(gateway) as client:
        assert client.answer(client.head(*headers, **pseudo))[0] == status
        assert client.answer(client.head())[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("x", "a\r\nb: c")],
        [("Upper", "x")],
        [("host", "other")],
    ],
)
def test_malformed_head_never_reaches_the_service(gateway: RunningGateway, headers: list[tuple[str, str]]) -> None:
    before = len(gateway.service.requests)
    with _client(gateway) as client:
        assert client.answer(client.head(*headers, path="/malformed"))[0] != 200
    assert len(gateway.service.requests) == before


def test_body_is_passed_on_within_the_window(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        stream = client.head(method="POST", end=False)
        left = 300_000
        while left:
            room = min(client.state.local_flow_control_window(stream), client.state.max_outbound_frame_size, left)
            if room <= 0:
                client.state.receive_data(client.socket.recv(65536))
                continue
            client.state.send_data(stream, b"x" * room)
            left -= room
            client.flush()
        client.state.end_stream(stream)
        client.flush()
        assert json.loads(client.answer(stream)[1])["octets"] == 300_000


def test_answer_that_takes_many_windows_arrives_whole(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        client.state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1})
        client.flush()
        stream, body = client.head(("x-long", "y" * 1500)), b""
        for event in client.events():
            if isinstance(event, h2.events.DataReceived):
                body += event.data
                if not event.stream_ended:
                    client.state.increment_flow_control_window(1, stream)
                    client.flush()
            elif isinstance(event, h2.events.StreamEnded):
                break
        assert "y" * 1500 in body.decode()


def test_body_over_the_limit_is_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(body=100))
    with _client(gateway) as client:
        stream = client.head(method="POST", end=False)
        client.state.send_data(stream, b"x" * 200)
        client.flush()
        status, body = client.answer(stream)
        assert (status, json.loads(body)["code"]) == (413, "too-large")


def test_wrong_content_length_never_makes_a_request(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        stream = client.head(("content-length", "10"), method="POST", end=False)
        client.state.send_data(stream, b"abc", end_stream=True)
        client.flush()
        assert client.answer(stream)[0] != 200


def test_client_that_only_resets_is_sent_away(gateway: RunningGateway) -> None:
    """CVE-2023-44487: streams that cost the server work and the client nothing."""
    with _client(gateway) as client:
        try:
            for _ in range(1000):
                stream = client.head(path="/silent")
                client.state.reset_stream(stream)
                client.flush()
        except OSError:
            return  # sent away while still at it
        _assert_sent_away(client)


def test_client_that_only_pings_is_sent_away(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        try:
            for _ in range(3000):
                client.state.ping(b"12345678")
                client.flush()
            client.socket.settimeout(5)
            while client.socket.recv(65536):
                pass
        except TimeoutError:
            pytest.fail("the gateway goes on answering pings")
        except OSError:
            return


def test_client_that_sends_nothing_but_empty_parts_of_a_body_is_sent_away(gateway: RunningGateway) -> None:
    with _client(gateway) as client:
        stream = client.head(end=False, method="POST")
        client.socket.settimeout(5)
        try:
            for _ in range(3000):
                client.state.send_data(stream, b"")
                client.flush()
            while client.socket.recv(65536):
                pass
        except TimeoutError:
            pytest.fail("the gateway goes on keeping empty frames")
        except OSError:
            return


def _assert_sent_away(client: Client) -> None:
    """The connection ends. The reason may be lost on a client that is still sending: the kernel resets it then."""
    ended = [event for event in client.events() if isinstance(event, h2.events.ConnectionTerminated)]
    assert {event.error_code for event in ended} <= {h2.errors.ErrorCodes.ENHANCE_YOUR_CALM}


def test_idle_connection_is_ended(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(idle=0.2))
    with _client(gateway) as client:
        assert any(isinstance(event, h2.events.ConnectionTerminated) for event in client.events())


def test_every_request_is_decided(new_gateway: NewGateway) -> None:
    gateway = new_gateway(refuse_in_handshake=False)
    credential = gateway.pki.client()
    with _client(gateway, credential) as client:
        assert client.answer(client.head())[0] == 200
        gateway.pki.revoke(credential)
        assert gateway.refusal_of(credential) == "revoked"
        assert list(client.events()) is not None  # and the connection is cut, or this would not return


@given(data=st.binary(min_size=1, max_size=300))
@settings(max_examples=30)
def test_no_octets_bring_the_gateway_down(gateway: RunningGateway, data: bytes) -> None:
    for alpn, preface in ((["h2"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (["http/1.1"], b"GET / HTTP/1.1\r\n")):
        with gateway.connect(gateway.pki.client(), alpn) as connection:
            connection.sendall(preface + data + b"\r\n\r\n")
    assert gateway.get(gateway.pki.client()).status_code == 200
