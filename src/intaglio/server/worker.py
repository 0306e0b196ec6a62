"""What one forked process does: serve the listeners, or run the jobs, until it is told to stop.

A process says over its control socket when it is ready and, every second, that its event loop still turns. When the
socket closes, the supervisor is gone, and the process finishes as if it had been told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.settings import Settings
from intaglio.keystore import holders
from intaglio.server import metrics
from intaglio.server.access_log import AccessLog
from intaglio.server.composition import Composition
from intaglio.server.health import HealthRegistry
from intaglio.server.http_listener import HttpListener
from intaglio.server.listeners import Sockets
from intaglio.server.middleware import Boundary, Draining, Limits
from intaglio.server.services import Services
from intaglio.server.tls import TlsContexts

if TYPE_CHECKING:
    from intaglio.server.mtls_gateway import EmbeddedGateway

log = get_logger(__name__)

READY = b"R"
PULSE = b"."
_PULSE_INTERVAL = 1.0
_SAMPLE_EVERY = 5  # pulses
_BUSY = {"public", "public_tls", "access", "health"}  # of these, refusals alone are worth a line
_IDENTITY_INTERVAL = 3600.0  # seconds between looks whether the server certificate is due for renewal


@dataclass(frozen=True)
class Plan:
    """What all processes of a server have in common."""

    settings: Settings
    composition: Composition
    database_url: str
    sockets: Mapping[str, Sockets]

    def services(self) -> Services:
        return Services(self.settings, self.database_url, make_authority=self.composition.make_authority)


def serve_listeners(plan: Plan, place: str, control: socket.socket) -> int:
    """A worker process. Returns its exit status."""
    return _run(_Process(plan, place, control).serve_listeners())


def run_jobs(plan: Plan, place: str, control: socket.socket) -> int:
    """The jobs process. Returns its exit status; a failing job engine ends the process, which is then replaced."""
    return _run(_Process(plan, place, control).run_jobs())


def ensure_identity(plan: Plan) -> None:
    """Make the server certificate when there is none. Raises what the composition's callable raises."""

    async def ensure() -> int:
        services = plan.services()
        await services.start()
        try:
            await plan.composition.ensure_identity(services)
        finally:
            await services.stop()
        return 0

    _run(ensure())


def _run(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class _Process:
    def __init__(self, plan: Plan, place: str, control: socket.socket) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._place = place
        self._control = control
        self._stop = asyncio.Event()
        self._services = plan.services()
        self._holder = holders.Place.here(plan.settings.data_dir, place)
        self._background: set[asyncio.Task[Any]] = set()

    async def serve_listeners(self) -> int:
        draining, access_log, registry = Draining(), AccessLog(self._settings), HealthRegistry()
        services = self._services
        tls = TlsContexts(
            self._settings,
            [sockets.kind for sockets in self._plan.sockets.values()],
            lambda listener: self._plan.composition.identity(services, listener),
            lambda listener: self._plan.composition.trust(services, listener),
        )
        services.on_config(tls.reload)
        self._listen_for_signals(reload=tls.reload)
        listeners = [
            HttpListener(
                sockets,
                self._bounded(name, sockets, registry, draining, access_log),
                context=_context_source(tls, name) if sockets.kind.secure else None,
            )
            for name, sockets in self._plan.sockets.items()
        ]
        await services.start()
        self._spawn(self._report_master_keys())
        await tls.reload()
        self._spawn(tls.follow_files())
        for listener in listeners:
            if not listener.secure:
                listener.start()
        await self._until_tls(tls)
        for listener in listeners:
            if listener.secure:
                listener.start()
        gateway = self._gateway()
        self._spawn(self._pulse())
        await self._stop.wait()
        draining.active = True
        cut_off, _ = await asyncio.gather(self._drain(listeners), gateway.stop() if gateway else asyncio.sleep(0))
        access_log.flush()
        await self._finish()
        log.info("stopped", process=self._place, requests_cut_off=cut_off)
        return 0

    async def run_jobs(self) -> int:
        services, jobs = self._services, self._plan.composition.jobs
        assert jobs is not None
        self._listen_for_signals(reload=None)
        for sockets in self._plan.sockets.values():
            sockets.close()  # whoever holds a listening socket keeps its address from being refused at shutdown
        await services.start()
        self._spawn(self._report_master_keys())
        work = self._spawn(jobs(services))
        self._spawn(self._renew_identity())
        self._spawn(self._pulse())
        stop = self._spawn(self._stop.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        failed = work.done() and not self._stop.is_set()
        if failed:
            log.error("the jobs ended unexpectedly", exc_info=work.exception())
        work.cancel()
        await asyncio.wait({work}, timeout=max(1.0, self._settings.shutdown_timeout))
        await self._finish()
        return 1 if failed else 0

    def _gateway(self) -> EmbeddedGateway | None:
        """The mTLS gateway, started, where one is configured; elsewhere it is not even imported."""
        if self._settings.mtls_gateway is None:
            return None
        from intaglio.server.mtls_gateway import EmbeddedGateway

        gateway = EmbeddedGateway(self._services, self._plan.composition)
        gateway.start()
        return gateway

    def _bounded(
        self, name: str, sockets: Sockets, registry: HealthRegistry, draining: Draining, access_log: AccessLog
    ) -> Boundary:
        return Boundary(
            self._plan.composition.application(name, self._services, registry),
            listener=name,
            secure=sockets.kind.secure,
            limits=Limits(self._settings.request_limit, self._settings.request_timeout),
            draining=draining,
            access_log=access_log,
            renderer=self._plan.composition.renderer(name),
            log_successes=name not in _BUSY,
        )

    def _listen_for_signals(self, *, reload: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        # Ctrl-C reaches every process of the terminal; the supervisor decides what it means.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(reload()) if reload else None)
        loop.add_reader(self._control, self._supervisor_gone)

    def _supervisor_gone(self) -> None:
        # The supervisor never writes, so being readable means the end.
        asyncio.get_running_loop().remove_reader(self._control)
        if not self._stop.is_set():
            log.warning("the supervisor is gone; stopping", process=self._place)
            self._stop.set()

    async def _until_tls(self, tls: TlsContexts) -> None:
        """Wait for the certificates; meanwhile connections wait in the kernel's queue."""
        if not tls.complete:
            log.warning("waiting for a TLS certificate", process=self._place)
        while not tls.complete and not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.2)

    async def _pulse(self) -> None:
        self._say(READY)
        count = 0
        while True:
            if count % _SAMPLE_EVERY == 0:
                services = self._services
                pool = services.database.connections_in_use
                metrics.sample_process(self._place, current=services.watch.current, lag=services.lag, pool=pool)
            count += 1
            await asyncio.sleep(_PULSE_INTERVAL)
            self._say(PULSE)

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, which the reader notices
            self._control.send(word)

    async def _report_master_keys(self) -> None:
        await holders.keep_reporting(self._services.database, self._services.master_key, self._holder)

    async def _renew_identity(self) -> None:
        while True:
            await asyncio.sleep(_IDENTITY_INTERVAL)
            try:
                await self._plan.composition.ensure_identity(self._services)
            except IntaglioError as error:
                log.error("the server certificate could not be renewed", reason=str(error))

    async def _drain(self, listeners: list[HttpListener]) -> int:
        return sum(await asyncio.gather(*(one.drain(self._settings.shutdown_timeout) for one in listeners)))

    async def _finish(self) -> None:
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await holders.withdraw(self._services.database, self._holder)
        await self._services.stop()

    def _spawn(self, work: Coroutine[Any, Any, Any] | Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _context_source(tls: TlsContexts, name: str) -> Callable[[], Any]:
    return lambda: tls.current(name)
