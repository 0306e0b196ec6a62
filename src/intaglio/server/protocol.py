"""HTTP/1.1 for every listener: uvicorn's protocol, plus what it lacks.

The client certificate (ASGI TLS extension) or the peer of the Unix socket is handed to the application, heads have a
time and a size limit, and a request that is not HTTP is answered in JSON. To be replaced by uvicorn's own means when it
ships the TLS extension.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable
from typing import Any, cast

import httptools
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from intaglio.server.coalescing import CoalescingTransport
from intaglio.server.prompt import at_once_of, encoded
from intaglio.server.unix_socket import admitted, peer_of
from intaglio.transport.tls_stream import TlsEngine, TlsTransport

HEAD_TIMEOUT = 10.0  # seconds from the first octet of a request (or the connection) to the end of its head
HEAD_LIMIT = 1 << 16  # octets of request line and headers
TAKE_TIMEOUT = 60.0  # seconds a client has to take the next part of an answer
_TAKE = 1 << 16  # octets of such a part, or what is left
_FRAMING = 16  # octets of chunk sizes and extensions that may come with an octet of the body

_TLS_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    ``scope["extensions"]`` is made once per connection and shared by its requests:

    - ``"tls"`` on TLS listeners: the members of the ASGI TLS extension, and besides them ``client_cert_der`` (the
      client's certificate as DER octets, None without one) and ``client_chain_der`` (leaf first, as far as known).
      What is there was verified in the handshake against the listener's trust store: signature, validity and purpose.
      Whether it was revoked is for the application to check, per request. A listener that observes certificates sets
      ``observed_cert_der`` and ``observed_chain_der`` (leaf first, nothing of it verified) instead when verification
      failed, and ``client_cert_error`` to OpenSSL's name of the reason. ``channel_bindings`` is a function that gives
      the values by which this connection can be named (RFC 9266, RFC 5929).
    - ``"peer"`` on the admin socket: process, user and group id of the client.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.head_since: float | None = None
        self._head_octets = 0
        self._arrived = 0  # octets of the segment that is being parsed
        self._surplus = 0  # octets since the head that were no body, less what chunks may cost
        self._extensions: dict[str, Any] = {}
        self._body_framing = b""  # the field that says where the body of the current request ends
        self._resuming = False
        self._taken: tuple[float, int] | None = None  # when, how many octets; None while nothing waits to be taken
        self._at_once = at_once_of(self.app)
        self._idle_since: float | None = None  # when the last answer was complete; None while there is a request
        self._may_hold = False  # whether a request that begins now may be held back until its body is there
        self._held: tuple[RequestResponseCycle, ASGI3Application] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._out = CoalescingTransport(transport, self.loop)
        super().connection_made(self._out)
        self.head_since = self.loop.time()
        if isinstance(transport, TlsTransport):
            self._extensions["tls"] = tls_extension(transport.get_extra_info("ssl_object"))
        elif self.client is None:
            peer = peer_of(transport.get_extra_info("socket"))
            if not admitted(peer):
                transport.abort()
            self._extensions["peer"] = peer

    def data_received(self, data: bytes) -> None:
        if self.parser is None:  # the connection was refused or is gone
            return
        self._idle_since = None
        if self.head_since is None and (self.cycle is None or self.cycle.response_complete):
            self.head_since = self.loop.time()
        self._arrived = len(data)
        self._may_hold = self._at_once is not None
        self._parse(data)
        self._may_hold = False
        if self._held is not None:
            self._call_application()  # it reads what is still to come
        if self.head_since is not None:
            self._head_octets += len(data)
            if self._head_octets > HEAD_LIMIT:
                self._refuse(431, "head-too-large", f"The request head exceeds {HEAD_LIMIT} octets.")
            return
        self._surplus += len(data)
        if self._surplus > HEAD_LIMIT:
            # Endless trailers, chunk extensions, or the head of a request behind one that is still being answered.
            self.transport.abort()

    def _parse(self, data: bytes) -> None:
        try:
            while data:
                data = self._parse_on(data)
        except httptools.HttpParserError:
            self.send_400_response("")

    def _parse_on(self, data: bytes) -> bytes:
        """Parse, and return what is left to be parsed.

        The parser stops behind the head of a request that asks for another protocol, as if it had no body, and takes
        whatever comes next for a request. None is spoken here, so the request is one like all others (RFC 9110 section
        7.8): a new parser is made to read the body.
        """
        try:
            self.parser.feed_data(data)
            return b""
        except httptools.HttpParserUpgrade as stopped:
            left = data[stopped.args[0] :]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        if self._body_framing:
            self._resuming = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % self._body_framing)
            self._resuming = False
        return left

    def on_message_begin(self) -> None:
        if self._resuming:
            return
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        self._body_framing = _checked_framing(self.headers, self.parser.get_http_version())
        self.head_since, self._head_octets = None, 0
        self._surplus = -self._arrived
        # A copy, because the parser adds trailers to its own list: they must not pass for headers (RFC 9110 section
        # 6.5.1), and nothing here uses them.
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._surplus -= _FRAMING * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not (self._body_framing and self.parser.should_upgrade()):
            super().on_message_complete()
            if self._held is not None:
                self._answer_at_once()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Called when the head of a request is there: call the application then, or with the whole request."""
        if self.transport.is_closing():  # nobody is listening behind the last answer of a connection
            return
        self._idle_since = None
        usual = not self.expect_100_continue and not self.parser.should_upgrade() and cycle.scope["method"] != "HEAD"
        if self._may_hold and usual:
            self._held = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _answer_at_once(self) -> None:
        """Answer the request that was held back, which is complete. Once per segment: a client that sends many requests
        together does not keep the others waiting."""
        if self._held is None or self._at_once is None:
            return
        cycle = self._held[0]
        answer = None if self.flow.write_paused else self._at_once(cast("Scope", cycle.scope), bytes(cycle.body))
        if answer is None:
            self._call_application()
            return
        self._held, self._may_hold = None, False
        cycle.response_started = cycle.response_complete = True
        # Sent at the end of the turn, with the answers to others: a client that is woken by each of them one by one
        # takes the processor away in between.
        self.transport.write(encoded(answer, self.server_state.default_headers, close=not cycle.keep_alive))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
        cycle.on_response = _nothing  # or connection and cycle would keep each other

    def _call_application(self) -> None:
        """Call the application about the request that was held back."""
        if self._held is not None:
            (cycle, app), self._held, self._may_hold = self._held, None, False
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """What uvicorn does, without its timer for every connection that is idle; see :meth:`close_if_slow`."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "not-http", "The request is not valid HTTP/1.1.")

    def close_if_slow(self, now: float) -> None:
        """Drop the connection when the head of a request has been under way for too long (slow-loris clients), or the
        client does not take its answer: one that waits is memory, and large ones are there for anybody to ask for. One
        that is idle is closed after its time."""
        if self._idle_since is not None and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()
        if self.head_since is not None and now - self.head_since > HEAD_TIMEOUT:
            self.transport.abort()
        waiting = self._out.get_write_buffer_size()
        taken = self._out.written - waiting
        if not waiting:
            self._taken = None
        elif self._taken is None or taken - self._taken[1] >= _TAKE:
            self._taken = now, taken
        elif now - self._taken[0] > TAKE_TIMEOUT:
            self.transport.abort()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer without an application and close; nothing can be read after a broken head."""
        if self.transport.is_closing():
            return
        reason = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}[status]
        problem = {"type": "about:blank", "title": reason.decode(), "status": status, "detail": detail, "code": code}
        body = json.dumps(problem).encode()
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\n" % (status, reason)
            + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()


def _nothing() -> None:
    return None


def _checked_framing(headers: Iterable[tuple[bytes, bytes]], version: str) -> bytes:
    """The field that says where the body ends, empty when there is none.

    Raises ValueError for a head that another server may read differently: not exactly one Host, a transfer encoding
    other than chunked, or one in HTTP/1.0 (RFC 9112 sections 3.2 and 6.1). What else there is the parser refuses.
    """
    hosts, framing = 0, b""
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length" and value != b"0":
            framing = b"content-length: " + value
        elif name == b"transfer-encoding":
            if framing or value.lower() != b"chunked" or version != "1.1":
                raise ValueError("the framing is ambiguous")
            framing = b"transfer-encoding: chunked"
    if hosts > 1 or (not hosts and version == "1.1"):
        raise ValueError("there is not exactly one Host")
    return framing


def tls_extension(engine: TlsEngine) -> dict[str, object]:
    """The ASGI TLS extension of a connection whose handshake is done.

    Source: ASGI TLS Extension 0.2. ``client_cert_name`` is left to the application, which has parsed the certificate
    anyway; ``server_cert`` is None because the event loop does not know it.
    """
    peer = engine.peer()
    verified = peer.chain if peer.verified else ()
    observed = () if peer.verified else peer.chain
    return {
        "server_cert": None,
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(c) for c in verified),
        "client_cert_name": None,
        "client_cert_error": peer.error,
        "tls_version": _TLS_VERSIONS.get(engine.version() or ""),
        "cipher_suite": None,
        "client_cert_der": verified[0] if verified else None,
        "client_chain_der": verified,
        "observed_cert_der": observed[0] if observed else None,
        "observed_chain_der": observed,
        "channel_bindings": engine.channel_bindings,
    }
