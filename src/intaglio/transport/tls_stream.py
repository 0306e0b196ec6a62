"""TLS between a socket and an HTTP protocol.

The event loops' own TLS drops the alert of a refused handshake, so that a client with a wrong certificate sees nothing
but a closed connection. Here the alert is delivered, the reason is reported, and every connection takes the newest
context, which is how certificates and trust stores change without a restart. What does the cryptography is an engine:
the standard library's (:class:`SslEngine`), or the one that observes client certificates (``transport.observing``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

HANDSHAKE_TIMEOUT = 10.0  # seconds a handshake may take
_LINGER = 2.0  # seconds the peer has to read an alert before the connection is dropped
_CHUNK = 1 << 16
_UNHEARD = 1 << 16  # octets that TLS itself may say to a client who does not listen
_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

HandshakeResult = Literal["accepted", "certificate-refused", "protocol-error", "timeout", "abandoned"]
Report = Callable[[HandshakeResult, str, tuple[Any, ...] | None], None]


@dataclass(frozen=True)
class PeerCertificate:
    """What the other side of a finished handshake presented. That it holds the private key is proven by TLS.

    ``chain`` are DER certificates, leaf first; empty when there was none. ``error`` is OpenSSL's name of what is wrong
    with them (``CERT_HAS_EXPIRED``), None when the chain was verified; ``errors`` are all of them.
    """

    chain: tuple[bytes, ...] = ()
    error: str | None = None
    errors: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether there is a certificate and it was verified against the trust store of the context."""
        return bool(self.chain) and self.error is None


class TlsEngine(Protocol):
    """One TLS connection without a socket. Raises the exceptions of ``ssl``, ``SSLWantReadError`` among them."""

    @property
    def context(self) -> object: ...
    def feed(self, data: bytes, /) -> object:
        """Take octets that arrived."""

    def drain(self) -> bytes:
        """The octets to be sent; empty when there are none."""

    def do_handshake(self) -> None: ...
    def read(self, size: int, /) -> bytes: ...
    def write(self, data: memoryview, /) -> int: ...
    def unwrap(self) -> object: ...
    def version(self) -> str | None: ...
    def cipher_name(self) -> str | None: ...
    def selected_alpn_protocol(self) -> str | None: ...
    def peer(self) -> PeerCertificate: ...
    def channel_bindings(self) -> tuple[bytes, ...]: ...


class SslEngine:
    """The standard library's TLS, for who asks for no client certificates."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(incoming, outgoing, server_side=True)
        self._connection = connection
        self.feed, self.drain = incoming.write, outgoing.read
        self.do_handshake, self.read, self.write = connection.do_handshake, connection.read, connection.write
        self.unwrap, self.version = connection.unwrap, connection.version
        self.selected_alpn_protocol = connection.selected_alpn_protocol

    def cipher_name(self) -> str | None:
        cipher = self._connection.cipher()
        return cipher[0] if cipher else None

    def peer(self) -> PeerCertificate:
        return PeerCertificate()

    def channel_bindings(self) -> tuple[bytes, ...]:
        return ()


class TlsStream(asyncio.Protocol):
    """The server side of one TLS connection.

    Arguments: ``engine`` for this connection; ``make_protocol`` makes what gets the plaintext once the handshake is
    done; ``report`` is told how the handshake ended, with a reason and the peer address.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: TlsEngine,
        make_protocol: Callable[[], asyncio.Protocol],
        report: Report,
    ) -> None:
        self._loop = loop
        self.engine = engine
        self._make_protocol = make_protocol
        self._report = report
        self._transport: asyncio.Transport
        self._plain: TlsTransport | None = None
        self._protocol: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._unheard = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self._handshake_timed_out)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self.engine.feed(data)
        if self._protocol is None and not self._handshake():
            return
        self._read()

    def eof_received(self) -> bool:
        if self._protocol is not None:
            self._protocol.eof_received()
        return False  # close: a half-open TLS connection carries no requests

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        elif not self._refused:
            self._report("abandoned", "the client closed the connection during the handshake", self._peer)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. What is written after the connection ended is dropped, as on any transport."""
        view = memoryview(data)
        try:
            while view:
                view = view[self.engine.write(view) :]
        except ssl.SSLError:
            self._transport.abort()
            return
        self._flush()

    def finish(self) -> None:
        """Send close_notify (RFC 8446 section 6.1), then close once everything written has left."""
        with contextlib.suppress(ssl.SSLError, ValueError):  # the peer's close_notify is not waited for
            self.engine.unwrap()
        self._flush()
        self._transport.close()

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    @property
    def _peer(self) -> tuple[Any, ...] | None:
        return self._transport.get_extra_info("peername")  # type: ignore[no-any-return]

    def _handshake(self) -> bool:
        """Continue the handshake. Returns whether it is done."""
        try:
            self.engine.do_handshake()
        except _WANTS:
            self._flush()
            return False
        except ssl.SSLCertVerificationError as error:
            self._refuse("certificate-refused", error.verify_message)
            return False
        except ssl.SSLError as error:
            self._refuse("protocol-error", getattr(error, "reason", None) or str(error))
            return False
        self._stop_timer()
        self._flush()
        self._report("accepted", "", self._peer)
        self._plain = TlsTransport(self)
        self._protocol = self._make_protocol()
        self._protocol.connection_made(self._plain)
        return True

    def _read(self) -> None:
        assert self._protocol is not None
        assert self._plain is not None
        while not self._plain.is_closing():
            try:
                data = self.engine.read(_CHUNK)
            except _WANTS:
                break
            except ssl.SSLZeroReturnError:
                self._plain.close()
                break
            except ssl.SSLError:
                self._flush()
                self._transport.abort()
                break
            if not data:
                self._plain.close()
                break
            self._protocol.data_received(data)
        self._speak()

    def _speak(self) -> None:
        """Send what TLS itself has to say, such as answers to key updates: no protocol above holds that back while the
        client asks for more and takes nothing."""
        waiting = self._transport.get_write_buffer_size() > _UNHEARD
        data = self.engine.drain()
        self._unheard = self._unheard + len(data) if waiting else 0
        if self._unheard > _UNHEARD:
            self._transport.abort()
        elif data and not self._transport.is_closing():
            self._transport.write(data)

    def _flush(self) -> None:
        if (data := self.engine.drain()) and not self._transport.is_closing():
            self._transport.write(data)

    def _refuse(self, result: HandshakeResult, reason: str) -> None:
        # A client that has sent more than we read would get a reset, which may overtake the alert; so only our side is
        # closed, and the client has a moment to read it.
        self._refused = True
        self._stop_timer()
        self._report(result, reason, self._peer)
        self._flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self._timer = self._loop.call_later(_LINGER, self._transport.abort)
        else:
            self._transport.close()

    def _handshake_timed_out(self) -> None:
        self._refused = True
        self._report("timeout", f"no handshake within {HANDSHAKE_TIMEOUT:g} seconds", self._peer)
        self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TlsTransport(asyncio.Transport):
    """What an HTTP protocol writes plaintext to."""

    def __init__(self, stream: TlsStream) -> None:
        super().__init__()
        self._stream = stream
        self._lower = stream.transport
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._stream.engine
        if name == "sslcontext":
            return self._stream.engine.context
        return self._lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._stream.write(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._stream.finish()

    def abort(self) -> None:
        self._closing = True
        self._lower.abort()

    def is_closing(self) -> bool:
        return self._closing or self._lower.is_closing()

    def pause_reading(self) -> None:
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        self._lower.resume_reading()

    def is_reading(self) -> bool:
        return self._lower.is_reading()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._lower.get_write_buffer_size()
