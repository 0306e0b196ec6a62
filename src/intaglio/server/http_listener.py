"""Accepting connections on the shared sockets of one listener, and letting them finish when the worker stops.

Every worker waits on the same sockets. A worker takes one connection per turn of its event loop, so a busy worker takes
fewer and a burst of connections spreads over all of them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from intaglio.core import clock
from intaglio.core.logging import get_logger
from intaglio.server.listeners import Sockets
from intaglio.server.metrics import connections_open, tls_handshakes
from intaglio.server.protocol import HttpProtocol
from intaglio.server.tls import TlsContext, tls_engine
from intaglio.transport.tls_stream import HandshakeResult, TlsStream

log = get_logger(__name__)

KEEP_ALIVE = 75  # seconds an idle connection is kept
_KEEP_ALIVE = {"public": 10, "public_tls": 10}  # of many clients that ask once, none should hold a connection for long
_SWEEP = 1.0  # seconds between looks at slow heads and refreshes of the Date header
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.5  # seconds without accepting when the system has no descriptors or memory left

ContextSource = Callable[[], TlsContext | None]


class HttpListener:
    """One listener in one worker.

    Arguments: ``app`` answers; ``context`` returns the TLS context for the next connection (None: not yet; connections
    wait in the kernel's queue), and is itself None on plain listeners.
    """

    def __init__(self, sockets: Sockets, app: ASGIApp, *, context: ContextSource | None = None) -> None:
        self.name = sockets.kind.name
        self.secure = sockets.kind.secure
        self._sockets = sockets.sockets
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._config = Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE.get(self.name, KEEP_ALIVE),
        )
        self._config.load()
        self._state = ServerState()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = connections_open.labels(self.name)
        self._timer: asyncio.TimerHandle | None = None
        self._accepting = False
        self._stopped = False

    def start(self) -> None:
        """Accept from now on."""
        self._sweep()
        self._resume()

    def stop_accepting(self) -> None:
        """Take no more connections. Once every process of the server has stopped, new ones are refused at once."""
        self._pause()
        self._stopped = True
        for listening in self._sockets:
            listening.close()

    async def drain(self, timeout: float) -> int:
        """Let requests in flight finish, at most ``timeout`` seconds. Returns how many were cut off."""
        self.stop_accepting()
        for connection in list(self._state.connections):
            connection.shutdown()
        running = {*self._state.tasks, *self._tasks}
        pending: set[asyncio.Task[Any]] = set()
        if running:
            _, pending = await asyncio.wait(running, timeout=timeout)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=1)
        await self._flushed()
        if self._timer is not None:
            self._timer.cancel()
        return len(pending)

    async def _flushed(self) -> None:
        """Give the kernel a moment to take the last answers, then drop what is left."""
        for _ in range(100):
            if not self._state.connections:
                return
            await asyncio.sleep(0.01)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client gave up
        except OSError as error:
            if error.errno not in _NO_RESOURCES:
                raise
            log.error("cannot accept connections for a moment", listener=self.name, reason=error.strerror)
            self._pause()
            self._loop.call_later(_PAUSE, self._resume)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        context = self._context() if self._context is not None else None
        make: Callable[[], asyncio.Protocol]
        if self._context is None:
            make = self._protocol
        elif context is None:
            connection.close()
            return
        else:
            chosen = context

            def make() -> asyncio.Protocol:
                return TlsStream(self._loop, tls_engine(chosen), self._protocol, self._handshake_ended)

        try:
            await self._loop.connect_accepted_socket(make, connection)
        except OSError:
            connection.close()

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(self._config, self._state, {}, self._loop)

    def _handshake_ended(self, result: HandshakeResult, reason: str, peer: tuple[Any, ...] | None) -> None:
        tls_handshakes.labels(self.name, result).inc()
        if result == "certificate-refused":
            log.warning("client certificate refused", listener=self.name, reason=reason, peer=_host(peer))
        elif result != "accepted":
            log.debug("TLS handshake failed", listener=self.name, result=result, reason=reason, peer=_host(peer))

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for listening in self._sockets:
                self._loop.remove_reader(listening)

    def _resume(self) -> None:
        if not self._accepting and not self._stopped:
            self._accepting = True
            for listening in self._sockets:
                self._loop.add_reader(listening, self._accept, listening)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._state.default_headers = [(b"date", format_datetime(clock.now(), usegmt=True).encode())]
        for connection in list(self._state.connections):
            if isinstance(connection, HttpProtocol):
                connection.close_if_slow(now)
        self._open.set(len(self._state.connections))
        self._timer = self._loop.call_later(_SWEEP, self._sweep)


def _host(peer: tuple[Any, ...] | None) -> str:
    return str(peer[0]) if peer else ""
