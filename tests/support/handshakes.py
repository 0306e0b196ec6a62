"""TLS handshakes in memory: a client of the standard library against an engine of ours."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from intaglio.transport.tls_stream import PeerCertificate, TlsEngine


@dataclass
class Outcome:
    """How a handshake ended, as both sides see it."""

    client: ssl.SSLObject
    engine: TlsEngine
    to_client: ssl.MemoryBIO
    to_server: ssl.MemoryBIO
    server_error: ssl.SSLError | None = None
    client_error: ssl.SSLError | None = None
    finished: bool = False

    @property
    def peer(self) -> PeerCertificate:
        return self.engine.peer()

    @property
    def protocol(self) -> str | None:
        return self.client.selected_alpn_protocol()

    @property
    def session(self) -> ssl.SSLSession | None:
        return self.client.session

    @property
    def resumed(self) -> bool | None:
        return self.client.session_reused

    def exchange(self, data: bytes) -> bytes:
        """Send ``data`` to the server and back."""
        self.client.write(data)
        self.engine.feed(self.to_server.read())
        arrived = _all(self.engine.read)
        view = memoryview(arrived)
        while view:
            view = view[self.engine.write(view) :]
        self.to_client.write(self.engine.drain())
        return _all(self.client.read)


def shake(
    client: ssl.SSLContext, engine: TlsEngine, *, session: ssl.SSLSession | None = None, tamper: bool = False
) -> Outcome:
    """Run a handshake until it ends. With ``tamper``, the last octet of what the client sends secondly is changed."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    outcome = Outcome(near, engine, to_client, to_server)
    client_done = server_done = False
    for flight in range(10):
        if not client_done:
            try:
                near.do_handshake()
                client_done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                outcome.client_error = error
        sent = to_server.read()
        if tamper and flight == 1:
            sent = sent[:-1] + bytes([sent[-1] ^ 1])
        engine.feed(sent)
        if not server_done and outcome.server_error is None:
            try:
                engine.do_handshake()
                server_done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                outcome.server_error = error
        to_client.write(engine.drain())
        if outcome.client_error is not None:
            break
        if outcome.server_error is not None and client_done:  # TLS 1.3: the client hears of it when it reads
            try:
                near.read(1)
            except ssl.SSLError as error:
                outcome.client_error = error
            break
        if server_done and client_done:
            outcome.finished = True
            _read_tickets(near)
            break
    return outcome


def _read_tickets(client: ssl.SSLObject) -> None:
    try:
        client.read(1)
    except ssl.SSLWantReadError:
        return


def _all(read: object) -> bytes:
    data = b""
    while True:
        try:
            data += read(1 << 16)  # type: ignore[operator]
        except ssl.SSLWantReadError:
            return data
