"""The gateway as a whole: sockets, handshakes, connections, and keeping up with changes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy import http1, http2, metrics
from intaglio.mtls.proxy.connections import Connection, Connections
from intaglio.mtls.proxy.decisions import Asked, Caller, Mode, Settings, Source, Verdict, reason_of
from intaglio.mtls.proxy.forwarding import Forwarder
from intaglio.mtls.proxy.limits import Limits
from intaglio.mtls.proxy.stapling import Stapling
from intaglio.mtls.proxy.upstream import Upstream
from intaglio.transport.contexts import server_context
from intaglio.transport.observing import ObservingContext, ObservingEngine
from intaglio.transport.tls_stream import HandshakeResult, PeerCertificate, Report, SslEngine, TlsEngine, TlsStream

log = get_logger(__name__)

#: Seconds between looks whether everybody who is connected is still entitled, whatever was or was not heard.
RECHECK_EVERY = 5.0
_PROTOCOLS = ("h2", "http/1.1")
_READ_AHEAD = 1 << 16


class ReverseProxy:
    """A running gateway.

    Arguments: ``sockets`` are bound and listening; ``source`` decides; ``upstream`` is the service behind.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        source: Source,
        upstream: Upstream,
        *,
        limits: Limits | None = None,
        keep_host: bool = True,
    ) -> None:
        self._sockets, self._source, self._upstream = sockets, source, upstream
        self._limits = limits or Limits()
        self._forwarder = Forwarder(source, upstream, keep_host=keep_host)
        self.connections = Connections(source)
        self._settings: Settings | None = None
        self._context: ObservingContext | ssl.SSLContext | None = None
        self._stapling = Stapling()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._shaking = 0  # handshakes under way
        self._by_address: Counter[str] = Counter()

    async def start(self) -> None:
        """Accept connections from now on. Raises IntaglioError when the source has no settings."""
        await self._source.start(self._note_change)
        await self._reload()
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            self._servers.append(await loop.create_server(self._accept, sock=each))
        self._spawn(self._follow())
        self._spawn(self._stapling.run())

    async def stop(self, *, timeout: float = 10.0) -> None:
        """Accept no more, let what is under way finish within ``timeout`` seconds, and end."""
        for server in self._servers:
            server.close()
        await self.connections.end(timeout)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._upstream.close()
        await self._source.stop()

    @property
    def handshakes(self) -> int:
        """How many handshakes are under way."""
        return self._shaking

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [each.getsockname()[:2] for each in self._sockets]

    # ---- changes -------------------------------------------------------------------------------------------------

    async def _note_change(self) -> None:
        self._changed.set()

    async def _follow(self) -> None:
        """Take in changes at once, and look after everybody every few seconds in any case."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_EVERY):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._reload()
            except IntaglioError as error:
                log.error("the settings of the gateway stay as they were", reason=str(error))
            try:
                await self.connections.recheck()
            except Exception:  # whatever it was: to stop looking would let everybody stay who is connected
                log.exception("open connections could not be looked at; trying again")

    async def _reload(self) -> None:
        settings = await self._source.settings()
        if settings == self._settings:
            return
        context = _context(settings)
        if isinstance(context, ObservingContext):
            context.staple_from(self._stapling.of(settings.identity.chain))
        self._stapling.use(settings.identity.chain)
        self._context = context
        if self._settings is not None:
            log.info("the settings of the gateway changed", mode=settings.mode, trusted=len(settings.trusted))
        self._settings = settings

    # ---- connections ---------------------------------------------------------------------------------------------

    def _accept(self) -> asyncio.Protocol:
        if self._context is None or len(self.connections) + self._shaking >= self._limits.connections:
            metrics.turned_away.labels("connections").inc()
            return _Turned()
        self._shaking += 1
        metrics.connections.labels("handshake").inc()
        context = self._context
        engine: TlsEngine = context.engine() if isinstance(context, ObservingContext) else SslEngine(context)

        def report(result: HandshakeResult, reason: str, peer: tuple[Any, ...] | None) -> None:
            self._handshake_ended(engine, result, reason, peer)

        return _Guarded(asyncio.get_running_loop(), engine, lambda: _Stream(self, engine), report, self)

    def admit(self, source: str) -> bool:
        """Whether one more connection of this address may be; :meth:`leave` has to follow in any case."""
        self._by_address[source] += 1
        admitted = self._by_address[source] <= self._limits.of_one_address
        if not admitted:
            metrics.turned_away.labels("connections_per_address").inc()
        return admitted

    def leave(self, source: str) -> None:
        """A connection of this address is gone."""
        self._by_address[source] -= 1
        if not self._by_address[source]:
            del self._by_address[source]

    def _handshake_ended(
        self, engine: TlsEngine, result: HandshakeResult, reason: str, peer: tuple[Any, ...] | None
    ) -> None:
        self._shaking -= 1
        metrics.connections.labels("handshake").dec()
        metrics.handshakes.labels(result).inc()
        if result == "accepted":
            return
        source = _host(peer)
        refused = isinstance(engine, ObservingEngine) and (engine.refused() is not None or engine.lacks_certificate)
        if refused and isinstance(engine, ObservingEngine):
            caller = replace(_caller(engine, source), peer=engine.refused() or PeerCertificate())
            self._spawn(self._record_refusal(caller))
        else:
            log.debug("TLS handshake failed", result=result, reason=reason, peer=source)

    async def _record_refusal(self, caller: Caller) -> None:
        """Say why a handshake was refused, in the words of the source, which knows more than OpenSSL."""
        verdict = await self._source.decide(caller, Asked())
        if verdict.passes or not verdict.reason:
            reason = reason_of(caller.peer.error) if caller.peer.chain or caller.peer.error else "no_certificate"
            verdict = Verdict(False, False, reason, "The handshake was refused.")
        metrics.refusals.labels("handshake", verdict.reason).inc()
        self._source.record(caller, Asked(), verdict, status=None)

    def serve(self, engine: TlsEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        """Serve a connection whose handshake is done."""
        caller = _caller(engine, _host(writer.get_extra_info("peername")))
        connection = Connection(caller, writer.transport.abort)
        self.connections.add(connection, self._serve(connection, engine.selected_alpn_protocol(), reader, writer))
        return connection

    async def _serve(
        self, connection: Connection, protocol: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        version = http2 if protocol == "h2" else http1
        try:
            await version.serve(reader, writer, connection, self._forwarder, self._limits)
        finally:
            if not writer.is_closing():
                writer.close()
            if not connection.requests:  # every handshake leaves a trace, also one that nothing followed
                self._spawn(self._record_idle(connection.caller))

    async def _record_idle(self, caller: Caller) -> None:
        self._source.record(caller, Asked(), await self._source.decide(caller, Asked()), status=None)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Stream(asyncio.StreamReaderProtocol):
    """A connection as streams; when it is lost, what serves it ends at once."""

    def __init__(self, proxy: ReverseProxy, engine: TlsEngine) -> None:
        self._proxy, self._engine = proxy, engine
        self._connection: Connection | None = None
        super().__init__(asyncio.StreamReader(limit=_READ_AHEAD), self._begin)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connection = self._proxy.serve(self._engine, reader, writer)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._connection is not None and self._connection.task is not None:
            self._connection.task.cancel()


class _Guarded(TlsStream):
    """A connection that counts towards those of its address from the first octet to the last."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, engine: TlsEngine, make: Callable[[], asyncio.Protocol], report: Report,
        proxy: ReverseProxy,
    ) -> None:  # fmt: skip
        super().__init__(loop, engine, make, report)
        self._proxy, self._source = proxy, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._source = _host(transport.get_extra_info("peername"))
        if not self._proxy.admit(self._source):
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.leave(self._source)
        super().connection_lost(error)


class _Turned(asyncio.Protocol):
    """A connection there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _context(settings: Settings) -> ObservingContext | ssl.SSLContext:
    if settings.mode is Mode.OFF:
        context = server_context(settings.identity)
        context.set_alpn_protocols(list(_PROTOCOLS))
        return context
    refuse = settings.mode is Mode.ENFORCE and settings.refuse_in_handshake
    return ObservingContext(
        settings.identity, trusted=settings.trusted, refuse=refuse, require=refuse, alpn=_PROTOCOLS
    )


def _caller(engine: TlsEngine, source: str) -> Caller:
    name = engine.server_name() if isinstance(engine, ObservingEngine) else None
    return Caller(source, engine.peer(), engine.version() or "", engine.cipher_name() or "", name or "")


def _host(peer: tuple[Any, ...] | None) -> str:
    """The address of a peer; one of IPv4 that came through an IPv6 socket in its own notation."""
    if not peer:
        return ""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return str(peer[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
