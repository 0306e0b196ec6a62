"""HTTP/1.1 from clients. Source: RFC 9112."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import h11

from intaglio.mtls.proxy.connections import Connection
from intaglio.mtls.proxy.exchange import ClientGone, Malformed, RequestHead, ResponseHead, TooMuch
from intaglio.mtls.proxy.forwarding import Forwarder, refuse
from intaglio.mtls.proxy.limits import Limits
from intaglio.mtls.proxy.requests import check_fields, check_framing, checked_authority, checked_method, checked_target

_READ = 1 << 16
_LEFT_UNREAD = 1 << 18  # octets of a refused body that are read and thrown away, so that the client reads the refusal
_LINGER = 2.0


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Connection, forwarder: Forwarder, limits: Limits
) -> None:
    """Answer the requests of one connection, one after the other, until it ends."""
    connection = _Connection(reader, writer, limits)
    with contextlib.suppress(ClientGone, TimeoutError):
        while (exchange := await connection.next_exchange()) is not None:
            await forwarder.answer(exchange, client)
            if exchange.upgraded or not await connection.is_ready_for_another():
                break


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self.reader, self.writer, self.limits = reader, writer, limits
        self.state = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)

    async def next_exchange(self) -> _Exchange | None:
        """The next request; None when there is none. Raises ClientGone, TimeoutError."""
        if not self.state.trailing_data[0]:
            async with asyncio.timeout(self.limits.idle):
                await self._more()
        try:
            async with asyncio.timeout(self.limits.head_time):
                event = await self.event()
        except h11.RemoteProtocolError as error:
            detail = "The request is not valid HTTP/1.1."
            await self._refuse(b"", Malformed(detail, status=error.error_status_hint))
            return None
        if not isinstance(event, h11.Request):
            return None
        try:
            return _Exchange(self, _head(event))
        except Malformed as error:
            await self._refuse(event.method, error)
            return None

    async def event(self) -> h11.Event | type[h11.PAUSED]:
        """The next event from the client. Raises ClientGone, h11.RemoteProtocolError."""
        while True:
            event = self.state.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            await self._more()

    async def send(self, event: h11.Event) -> None:
        data = self.state.send(event)
        if data:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ClientGone
        self.writer.write(data)
        try:
            async with asyncio.timeout(self.limits.stall):
                await self.writer.drain()
        except (OSError, TimeoutError):
            self.writer.transport.abort()
            raise ClientGone from None

    async def is_ready_for_another(self) -> bool:
        """Whether the connection may carry another request; reads what is left of a body nobody wanted."""
        with contextlib.suppress(h11.RemoteProtocolError, ClientGone, TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._read_off()
        if self.state.our_state is h11.DONE and self.state.their_state is h11.DONE:
            self.state.start_next_cycle()
            return True
        return False

    async def _read_off(self) -> None:
        left = _LEFT_UNREAD
        while self.state.their_state is h11.SEND_BODY and left > 0 and not self.state.they_are_waiting_for_100_continue:
            event = await self.event()
            if isinstance(event, h11.Data):
                left -= len(event.data)

    async def _more(self) -> None:
        data = await self.reader.read(_READ)
        self.state.receive_data(data)
        if not data and self.state.their_state in (h11.IDLE, h11.SEND_BODY):
            raise ClientGone

    async def _refuse(self, method: bytes, error: Malformed) -> None:
        head = RequestHead(method, b"/", b"", (), False)
        await refuse(_Exchange(self, head, last=True), error.status, error.code, error.detail)


class _Exchange:
    """A request of a connection; a :class:`intaglio.mtls.proxy.exchange.Downstream`."""

    def __init__(self, connection: _Connection, head: RequestHead, *, last: bool = False) -> None:
        self._connection, self._last = connection, last
        self.head = head
        self.responded = False
        self.upgraded = False

    async def body(self) -> AsyncIterator[bytes]:
        connection, left = self._connection, self._connection.limits.body
        if not self.head.has_body:
            return
        if connection.state.they_are_waiting_for_100_continue:
            await connection.send(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            try:
                async with asyncio.timeout(connection.limits.stall):
                    event = await connection.event()
            except h11.RemoteProtocolError:
                raise Malformed("The request body is not framed properly.") from None
            except TimeoutError:
                raise Malformed("The request body does not come.", status=408, code="request-timeout") from None
            if not isinstance(event, h11.Data):
                return
            if left is not None and (left := left - len(event.data)) < 0:
                raise TooMuch
            yield bytes(event.data)

    async def respond(self, head: ResponseHead) -> None:
        headers = list(head.headers)
        if head.length is not None:
            headers.append((b"content-length", b"%d" % head.length))
        unread = self._connection.state.their_state is h11.SEND_BODY and self.head.has_body
        if self._last or (unread and head.status >= 400):
            headers.append((b"connection", b"close"))
        self.responded = True
        await self._connection.send(h11.Response(status_code=head.status, headers=headers))

    async def send(self, data: bytes) -> None:
        await self._connection.send(h11.Data(data=data))

    async def end(self) -> None:
        await self._connection.send(h11.EndOfMessage())

    async def upgrade(self, head: ResponseHead) -> _Raw:
        self.responded = self.upgraded = True
        await self._connection.send(h11.InformationalResponse(status_code=head.status, headers=list(head.headers)))
        return _Raw(self._connection)

    def abort(self) -> None:
        self._connection.writer.transport.abort()


class _Raw:
    """The connection after an upgrade; a :class:`intaglio.mtls.proxy.exchange.Duplex`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._early = bytes(connection.state.trailing_data[0])

    async def receive(self) -> bytes:
        if early := self._early:
            self._early = b""
            return early
        with contextlib.suppress(OSError):
            return await self._connection.reader.read(_READ)
        return b""

    async def send(self, data: bytes) -> None:
        await self._connection.write(data)

    def close(self) -> None:
        self._connection.writer.close()


def _head(event: h11.Request) -> RequestHead:
    headers = [(bytes(name), bytes(value)) for name, value in event.headers]
    check_fields(headers)
    check_framing(headers, version=bytes(event.http_version))
    authority = checked_authority([value for name, value in headers if name == b"host"])
    has_body = any(
        (name == b"content-length" and int(value) > 0) or name == b"transfer-encoding" for name, value in headers
    )
    method = checked_method(bytes(event.method))
    may_switch = not has_body and event.http_version == b"1.1"  # RFC 9110 section 7.8
    return RequestHead(
        method,
        checked_target(bytes(event.target), authority, method=method),
        authority,
        headers,
        has_body,
        _upgrade(headers) if may_switch else b"",
    )


def _upgrade(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The protocol to switch to, if any. HTTP/2 in the clear is not one (RFC 9113 section 3.1)."""
    tokens = {t.strip().lower() for name, value in headers if name == b"connection" for t in value.split(b",")}
    wanted = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    if b"upgrade" not in tokens or len(wanted) != 1 or not wanted[0].isalnum() or wanted[0][:2] == b"h2":
        return b""
    return wanted[0]
