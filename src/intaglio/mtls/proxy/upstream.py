"""Connections from the gateway to the service behind it.

A service behind ``https`` is verified, name and all, against the authorities it is configured with; there is no way
around that. Idle connections are kept and used again, but never one with octets on it that no request asked for: they
would be the answer to somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import h11

from intaglio.core.errors import InvalidInput
from intaglio.mtls.proxy.exchange import Header

_IDLE_MOST = 64
_IDLE_SECONDS = 15.0
_HEAD_LIMIT = 1 << 16
_READ = 1 << 16
_INTERIM_MOST = 10  # informational answers before the final one


class UpstreamFailed(Exception):
    """The service cannot be reached, breaks the protocol or takes too long. ``status`` is what the client hears."""

    def __init__(self, detail: str, *, status: int = 502, code: str = "upstream-failed") -> None:
        super().__init__(detail)
        self.detail, self.status, self.code = detail, status, code


@dataclass(frozen=True)
class Address:
    """Where the service is. ``context`` verifies it; None for one that is spoken to in the clear."""

    host: str
    port: int
    context: ssl.SSLContext | None

    @property
    def authority(self) -> bytes:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{name}:{self.port}".encode()


def address(url: str, *, ca_file: Path | None = None, credential: tuple[Path, Path] | None = None) -> Address:
    """The address behind an http or https URL without a path.

    Arguments: ``ca_file`` holds the authorities (PEM) that vouch for an https service, default those of the system;
    ``credential`` is certificate and key (PEM) with which the gateway itself proves who it is. Raises InvalidInput.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise InvalidInput(f'"{url}" is not the address of a service: http(s)://HOST:PORT.', target="upstream")
    context = None
    if parts.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if credential is not None:
                context.load_cert_chain(*credential)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"TLS to {url} cannot be set up: {error}.", target="upstream") from None
    return Address(parts.hostname, parts.port or (443 if context else 80), context)


class UpstreamConnection:
    """One HTTP/1.1 connection to the service. Every method raises UpstreamFailed."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, arrived: _Arrived, patience: float
    ) -> None:
        self._reader, self._writer, self._arrived, self._patience = reader, writer, arrived, patience
        self._taken = 0
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self.fresh = True

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send a part of the request, waiting while the service is slow to take it."""
        try:
            data = self._state.send(event)
            if data:
                self._writer.write(data)
                async with asyncio.timeout(self._patience):
                    await self._writer.drain()
        except TimeoutError:
            raise _late("The service does not take the request.") from None
        except (OSError, h11.LocalProtocolError) as error:
            raise UpstreamFailed(f"The service ended the connection: {error}.") from None

    async def head(self) -> h11.Response | h11.InformationalResponse:
        """The final answer's head, or that of 101 Switching Protocols."""
        for _ in range(_INTERIM_MOST):
            event = await self._event()
            if isinstance(event, h11.Response):
                return _checked(event)
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return event
                continue
            raise UpstreamFailed("The service ended the connection without an answer.")
        raise UpstreamFailed("The service sends interim answers without end.")

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the answer."""
        while True:
            event: object = await self._event()
            gathered = bytearray()
            while isinstance(event, h11.Data):  # small chunks that arrived together go on together
                gathered += event.data
                event = self._next_event()
            if gathered:
                yield bytes(gathered)
            if isinstance(event, h11.EndOfMessage):
                return
            if event is not h11.NEED_DATA:
                raise UpstreamFailed("The service ended the connection within its answer.")

    def _next_event(self) -> object:
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as error:
            raise UpstreamFailed(f"The service does not speak HTTP properly: {error}.") from None

    def reusable(self) -> bool:
        """Whether another request may follow; makes the connection ready for it."""
        state = self._state
        if state.our_state is not h11.DONE or state.their_state is not h11.DONE or state.trailing_data[0]:
            return False
        if not self.alive():
            return False
        state.start_next_cycle()
        self.fresh = False
        return True

    def alive(self) -> bool:
        """Whether the service keeps the connection open, and says nothing unasked."""
        return self._taken == self._arrived.octets and not self._reader.at_eof() and not self._writer.is_closing()

    # ---- after 101 -----------------------------------------------------------------------------------------------

    def leftover(self) -> bytes:
        """What arrived together with the head of a 101."""
        return bytes(self._state.trailing_data[0])

    async def read_raw(self) -> bytes:
        with contextlib.suppress(OSError):
            return await self._reader.read(_READ)
        return b""

    async def write_raw(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            async with asyncio.timeout(self._patience):
                await self._writer.drain()
        except TimeoutError:
            raise _late("The service does not take what the client sends.") from None
        except OSError as error:
            raise UpstreamFailed(f"The service ended the connection: {error}.") from None

    def close(self) -> None:
        self._writer.transport.abort()

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while True:
                event = self._state.next_event()
                if event is not h11.NEED_DATA:
                    return event  # type: ignore[return-value]
                async with asyncio.timeout(self._patience):
                    data = await self._reader.read(_READ)
                self._taken += len(data)
                self._state.receive_data(data)
        except TimeoutError:
            raise _late("The service does not answer in time.") from None
        except h11.RemoteProtocolError as error:
            raise UpstreamFailed(f"The service does not speak HTTP properly: {error}.") from None
        except OSError as error:
            raise UpstreamFailed(f"The service ended the connection: {error}.") from None


class _Arrived(asyncio.StreamReaderProtocol):
    """Counts what arrives, read or not."""

    octets = 0

    def data_received(self, data: bytes) -> None:
        self.octets += len(data)
        super().data_received(data)


class Upstream:
    """The service behind the gateway.

    Arguments: ``patience`` is how many seconds the service may be silent, ``connect_timeout`` how many a connection may
    take.
    """

    def __init__(self, where: Address, *, patience: float = 60.0, connect_timeout: float = 5.0) -> None:
        self.address = where
        self._patience, self._connect_timeout = patience, connect_timeout
        self._idle: deque[tuple[float, UpstreamConnection]] = deque()

    async def connection(self, *, fresh: bool = False) -> UpstreamConnection:
        """A connection; ``fresh`` wants one that never was idle. Raises UpstreamFailed."""
        now = asyncio.get_running_loop().time()
        while self._idle and not fresh:
            since, kept = self._idle.pop()
            if kept.alive() and now - since < _IDLE_SECONDS:
                return kept
            kept.close()
        host, port, context = self.address.host, self.address.port, self.address.context
        try:
            async with asyncio.timeout(self._connect_timeout):
                loop = asyncio.get_running_loop()
                reader = asyncio.StreamReader(limit=_READ)
                transport, arrived = await loop.create_connection(lambda: _Arrived(reader), host, port, ssl=context)
        except ssl.SSLCertVerificationError as error:
            raise UpstreamFailed(
                f"The certificate of the service is refused: {error.verify_message}.", code="upstream-untrusted"
            ) from None
        except TimeoutError:
            raise _late("The service cannot be reached in time.") from None
        except OSError as error:
            raise UpstreamFailed(f"The service cannot be reached: {error}.", code="upstream-unreachable") from None
        writer = asyncio.StreamWriter(transport, arrived, reader, loop)
        return UpstreamConnection(reader, writer, arrived, self._patience)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose exchange is complete for the next one."""
        if connection.reusable() and len(self._idle) < _IDLE_MOST:
            self._idle.append((asyncio.get_running_loop().time(), connection))
            self._drop_stale()
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    def _drop_stale(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._idle and now - self._idle[0][0] > _IDLE_SECONDS:
            self._idle.popleft()[1].close()


def request_event(method: bytes, target: bytes, headers: Sequence[Header]) -> h11.Request:
    """The head of a request. Raises UpstreamFailed when it cannot be said in HTTP/1.1."""
    try:
        return h11.Request(method=method, target=target, headers=list(headers))
    except h11.LocalProtocolError as error:
        detail = f"The request cannot be passed on: {error}."
        raise UpstreamFailed(detail, status=400, code="malformed-request") from error


def _checked(answer: h11.Response) -> h11.Response:
    """An answer whose end is not a matter of opinion (RFC 9112 section 6.3). Raises UpstreamFailed."""
    names = {name for name, _ in answer.headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise UpstreamFailed("The service gives its answer two lengths.")
    return answer


def _late(detail: str) -> UpstreamFailed:
    return UpstreamFailed(detail, status=504, code="upstream-timeout")
