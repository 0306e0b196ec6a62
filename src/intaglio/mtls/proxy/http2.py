"""HTTP/2 from clients: frames and states by `h2`, one task per stream. Source: RFC 9113.

Clients that open and reset streams without end, or flood with frames of no use, are sent away (CVE-2023-44487 and its
kind).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import Frame

from intaglio.core.clock import monotonic
from intaglio.mtls.proxy.connections import Connection
from intaglio.mtls.proxy.exchange import ClientGone, Duplex, Malformed, RequestHead, ResponseHead, TooMuch
from intaglio.mtls.proxy.forwarding import Forwarder, refuse
from intaglio.mtls.proxy.limits import Allowance, Limits
from intaglio.mtls.proxy.requests import check_fields, check_framing, checked_authority, checked_method, checked_target

_READ = 1 << 16
_RESETS_MOST, _RESETS_PER_SECOND = 200, 1  # streams that end without an answer, by the client's doing
_IDLE_MOST, _IDLE_PER_SECOND = 1000, 20  # frames without use: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, unknown ones ...
_IDLE_PER_REQUEST = 100
_WORTH = 200  # octets that make a part of an answer worth a frame, and the window updates that come of it
_TABLE = 4096  # octets of header fields to remember for a client, however many it offers (RFC 7541 section 4.2)


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Connection, forwarder: Forwarder, limits: Limits
) -> None:
    """Answer the requests of one connection, side by side, until it ends."""
    connection = _Connection(reader, writer, client, forwarder, limits)
    try:
        with contextlib.suppress(ClientGone):
            await connection.run()
    finally:
        await connection.close()


class _Frames(h2.connection.H2Connection):
    """Counts frames, because many kinds of them make no event."""

    frames = 0

    def _receive_frame(self, frame: Frame) -> list[h2.events.Event]:
        self.frames += 1
        return super()._receive_frame(frame)


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Connection, forwarder: Forwarder,
        limits: Limits,
    ) -> None:  # fmt: skip
        self.reader, self.writer, self.limits = reader, writer, limits
        self._client, self._forwarder = client, forwarder
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self.state = _Frames(config)
        self._streams: dict[int, _Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resets = Allowance(_RESETS_MOST, _RESETS_PER_SECOND)
        self._idle_frames = Allowance(_IDLE_MOST, _IDLE_PER_SECOND)
        self._used_at = monotonic()
        self._incomplete = 0  # octets of a frame, or of a head in several frames

    async def run(self) -> None:
        """Take in what the client sends. Raises ClientGone."""
        settings = h2.settings.SettingCodes
        self.state.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                settings.MAX_CONCURRENT_STREAMS: self.limits.streams,
                settings.MAX_HEADER_LIST_SIZE: self.limits.head,
                settings.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self.state.decoder.max_header_list_size = self.limits.head
        self.state.initiate_connection()
        await self.flush()
        while (data := await self._read()) is not None:
            frames = self.state.frames
            try:
                events = self.state.receive_data(data)
            except h2.exceptions.ProtocolError:
                await self.flush()  # with the GOAWAY that names the mistake
                return
            self._idle_frames.spend(self.state.frames - frames)
            self._incomplete = 0 if self.state.frames > frames else self._incomplete + len(data)
            for event in events:
                self._take(event)
            if self._resets.exceeded or self._idle_frames.exceeded or self._incomplete > 2 * self.limits.head:
                self.state.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self.flush()
                return
            await self.flush()

    async def _read(self) -> bytes | None:
        """What comes next; None when nothing does. Only requests keep a connection, whatever else it sends."""
        while True:
            left = self._used_at + self.limits.idle - monotonic()
            try:
                async with asyncio.timeout(self.limits.idle if self._tasks else max(0, left)):
                    return await self.reader.read(_READ) or None
            except TimeoutError:
                if self._tasks or monotonic() < self._used_at + self.limits.idle:
                    continue
                self.state.close_connection()
                await self.flush()
                return None

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Send what is to be sent, waiting while the client is slow to take it. Raises ClientGone."""
        if data := self.state.data_to_send():
            if self.writer.is_closing():
                raise ClientGone
            self.writer.write(data)
            try:
                async with asyncio.timeout(self.limits.stall):
                    await self.writer.drain()
            except (OSError, TimeoutError):
                self.writer.transport.abort()
                raise ClientGone from None

    def expect_acknowledgement(self) -> None:
        """A frame of an answer was sent: the client may widen the windows of stream and connection in return."""
        self._idle_frames.grant(2)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._idle_frames.grant(_IDLE_PER_REQUEST)
                self._begin(event)
            case h2.events.DataReceived() if not event.flow_controlled_length:
                return  # no window bounds empty frames, so none is kept
            case h2.events.DataReceived():
                self._idle_frames.grant(1)
                self._take_data(event)
            case h2.events.StreamEnded() if event.stream_id in self._streams:
                self._streams[event.stream_id].take(None, 0)
            case h2.events.StreamReset():  # by the client, or because of what it did on the stream
                self._resets.spend()
                if exchange := self._streams.get(event.stream_id):
                    exchange.gone()
            case h2.events.WindowUpdated():
                for exchange in self._streams.values() if event.stream_id == 0 else self._one(event.stream_id):
                    exchange.window.set()
            case h2.events.RemoteSettingsChanged():
                self.state.encoder.header_table_size = min(self.state.encoder.header_table_size, _TABLE)
                for exchange in self._streams.values():
                    exchange.window.set()

    def _take_data(self, event: h2.events.DataReceived) -> None:
        assert event.flow_controlled_length is not None
        if exchange := self._streams.get(event.stream_id or 0):
            exchange.take(event.data, event.flow_controlled_length)
        else:
            self.acknowledge(event.stream_id, event.flow_controlled_length)

    def _one(self, stream: int) -> list[_Exchange]:
        return [self._streams[stream]] if stream in self._streams else []

    def _begin(self, event: h2.events.RequestReceived) -> None:
        assert event.stream_id is not None
        assert event.headers is not None
        headers = [(bytes(name), bytes(value)) for name, value in event.headers]
        exchange = _Exchange(self, event.stream_id, event.stream_ended is None)
        self._streams[event.stream_id] = exchange
        task = asyncio.create_task(self._answer(exchange, headers))
        exchange.task = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._used_at = monotonic()

    async def _answer(self, exchange: _Exchange, headers: list[tuple[bytes, bytes]]) -> None:
        try:
            try:
                exchange.head = _head(headers, exchange.has_body)
            except Malformed as error:
                exchange.head = replace(exchange.head, method=dict(headers).get(b":method", b""))
                await refuse(exchange, error.status, error.code, error.detail)
                return
            await self._forwarder.answer(exchange, self._client)
            self._resets.grant(1)
        except ClientGone:
            return
        finally:
            self._streams.pop(exchange.stream, None)
            exchange.finish()
            with contextlib.suppress(ClientGone):
                await self.flush()

    def acknowledge(self, stream: int | None, octets: int) -> None:
        """Let the client send as much again."""
        if octets and stream is not None:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # of a stream that is gone the connection counts
                self.state.acknowledge_received_data(octets, stream)


class _Exchange:
    """A stream; a :class:`intaglio.mtls.proxy.exchange.Downstream`."""

    def __init__(self, connection: _Connection, stream: int, has_body: bool) -> None:
        self._connection = connection
        self.stream = stream
        self.has_body = has_body
        self.head = RequestHead(b"GET", b"/", b"", (), has_body, version="2")
        self.responded = False
        self.window = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._parts: asyncio.Queue[tuple[bytes | None, int]] = asyncio.Queue()  # bounded by the flow control window
        self._complete = not has_body
        self._ended = self._gone = False

    def take(self, data: bytes | None, octets: int) -> None:
        """A part of the body that arrived, or its end (None)."""
        self._complete = self._complete or data is None
        self._parts.put_nowait((data, octets))

    def gone(self) -> None:
        """The client reset the stream."""
        self._gone = True
        if self.task is not None:
            self.task.cancel()

    async def body(self) -> AsyncIterator[bytes]:
        left = self._connection.limits.body
        while self.has_body:
            try:
                async with asyncio.timeout(self._connection.limits.stall):
                    data, octets = await self._parts.get()
            except TimeoutError:
                raise Malformed("The request body does not come.", status=408, code="request-timeout") from None
            if data is None:
                return
            if left is not None and (left := left - len(data)) < 0:
                raise TooMuch
            self._connection.acknowledge(self.stream, octets)
            await self._connection.flush()
            yield data

    async def respond(self, head: ResponseHead) -> None:
        headers = [(b":status", b"%d" % head.status), *((name.lower(), value) for name, value in head.headers)]
        if head.length is not None:
            headers.append((b"content-length", b"%d" % head.length))
        self.responded = True
        with self._said():
            self._connection.state.send_headers(self.stream, headers)
        await self._connection.flush()

    async def send(self, data: bytes) -> None:
        state, view = self._connection.state, memoryview(data)
        while view:
            with self._said():
                room = min(state.local_flow_control_window(self.stream), state.max_outbound_frame_size)
            if room <= 0:
                await self._wait_for_window()
                continue
            with self._said():
                state.send_data(self.stream, bytes(view[:room]))
            if room >= min(len(view), _WORTH):  # not for a client that widens its window octet by octet
                self._connection.expect_acknowledgement()
            view = view[room:]
            await self._connection.flush()

    async def end(self) -> None:
        self._ended = True
        with self._said():
            self._connection.state.end_stream(self.stream)
        await self._connection.flush()

    async def upgrade(self, head: ResponseHead) -> Duplex:
        raise Malformed("HTTP/2 knows no upgrades.")  # and none is asked for: `head.protocol` is empty

    def abort(self) -> None:
        self._reset(h2.errors.ErrorCodes.INTERNAL_ERROR)

    def finish(self) -> None:
        """Leave nothing open: an answer cut short is reset, and so is a request body nobody reads on."""
        if not self._ended:
            self._reset(h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif not self._complete:
            self._reset(h2.errors.ErrorCodes.NO_ERROR)  # RFC 9113 section 8.1
        while not self._parts.empty():
            self._connection.acknowledge(self.stream, self._parts.get_nowait()[1])

    async def _wait_for_window(self) -> None:
        self.window.clear()
        try:
            async with asyncio.timeout(self._connection.limits.stall):
                await self.window.wait()
        except TimeoutError:
            self._reset(h2.errors.ErrorCodes.CANCEL)
            raise ClientGone from None

    def _reset(self, code: h2.errors.ErrorCodes) -> None:
        self._ended = self._complete = True
        if not self._gone:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self._connection.state.reset_stream(self.stream, code)

    @contextlib.contextmanager
    def _said(self):  # type: ignore[no-untyped-def]
        """A stream or connection that is closed by now cannot take what is said on it."""
        try:
            yield
        except h2.exceptions.ProtocolError:
            raise ClientGone from None


def _head(headers: list[tuple[bytes, bytes]], has_body: bool) -> RequestHead:
    """The request in the terms of HTTP/1.1. `h2` has checked the pseudo-header fields (RFC 9113 section 8.3)."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    regular = [(name, value) for name, value in headers if not name.startswith(b":")]
    hosts = {value.lower() for name, value in regular if name == b"host"}
    authority = checked_authority([pseudo[b":authority"]] if b":authority" in pseudo else sorted(hosts))
    if hosts and hosts != {authority.lower()}:
        raise Malformed("The Host field names another authority.", code="ambiguous-host")
    check_framing(regular, version=b"1.1")
    check_fields(headers)
    cookies = [value for name, value in regular if name == b"cookie"]
    if len(cookies) > 1:  # RFC 9113 section 8.2.3
        regular = [each for each in regular if each[0] != b"cookie"] + [(b"cookie", b"; ".join(cookies))]
    method = checked_method(pseudo[b":method"])  # before the path, which CONNECT lacks
    target = checked_target(pseudo[b":path"], authority, method=method)
    return RequestHead(method, target, authority, regular, has_body, version="2")
