"""``intaglio serve``: the parent of all processes of a server.

It starts the embedded database, brings the schema up to date, binds the sockets, forks the workers and the jobs
process, replaces whatever dies, and ends everything in order. It never answers a request itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import configure_logging, get_logger
from intaglio.core.secrets import load_master_key
from intaglio.core.settings import Settings
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.server.listeners import Sockets, bind, with_bound_ports
from intaglio.server.preparation import Preparation
from intaglio.server.processes import CRASH_LIMIT, Place, describe
from intaglio.server.runtime import Runtime, remove_runtime, write_runtime
from intaglio.server.supervisor_lock import only_supervisor

if TYPE_CHECKING:
    from intaglio.server.composition import Composition
    from intaglio.server.worker import Plan

log = get_logger(__name__)

_TICK = 0.5  # seconds between looks at the database and at processes that died or hang
_DATABASE_STOP = 30.0  # seconds an adopted database may take to shut down
_GRACE = 5.0  # seconds beyond the shutdown timeout before a process is killed

Compose = Callable[[Settings], "Composition"]


def serve(settings: Settings, compose: Compose | None = None) -> int:
    """Run a server until SIGTERM or SIGINT. Returns the exit status of the command.

    ``compose`` says what it is made of; the product without it, imported while the database starts.

    Raises Unavailable or StateConflict when it cannot start: the data folder is served already, an address is in use,
    the master key is missing, the schema belongs to a newer version.
    """
    configure_logging(settings)
    load_master_key(settings)  # before anything is started: without it nothing can work
    with only_supervisor(settings.data_dir):
        return Supervisor(settings, compose or _product).run()


def _external_url(settings: Settings) -> str:
    """Where the operator's own database is, if any. Raises InvalidInput for one that is not reached safely."""
    if settings.database_url is None:
        return ""
    from intaglio.db.address import secured  # loads the driver, which otherwise is loaded while the database starts

    return secured(settings.database_url.get_secret_value())


class Supervisor:
    """One run of a server."""

    def __init__(self, settings: Settings, compose: Compose) -> None:
        self._settings = settings
        self._compose = compose
        self._postgres = EmbeddedPostgres(settings.data_dir) if settings.database_url is None else None
        self._external_url = _external_url(settings)
        self._sockets: dict[str, Sockets] = {}
        self._places: list[Place] = []
        self._preparation: Preparation | None = None
        self._stopping = False
        self._hurry = False
        self._announced: Runtime | None = None
        self._exit_status = 0
        self._started_at = clock.now().isoformat()  # exact: compared with the age of files
        self._wake_read, self._wake_write = socket.socketpair()

    def run(self) -> int:
        _allow_many_connections()
        with self._signals():
            try:
                self._start()
                while not self._stopping:
                    self._wait(_TICK)
                    self._look_after_database()
                    self._look_after_processes()
                    self._advance_preparation()
                    self._announce()
            finally:
                self._shut_down()
        return self._exit_status

    # -- start -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._database_starting():
            # The imports take as long as the database does, and must be done before the first fork.
            from intaglio.server import metrics, worker

            metrics.share(self._settings.data_dir)
            composition = self._compose(self._settings)
        if self._stopping:
            return
        self._sockets = bind(self._settings, composition.listeners(self._settings))
        # Ports chosen by the kernel belong into URLs of certificates, so the processes see the real ones.
        self._settings = with_bound_ports(self._settings, self._sockets)
        plan = worker.Plan(self._settings, composition, self._database_url, self._sockets)
        gc.collect()
        gc.freeze()  # what exists now is never looked at by the collector, so its pages stay shared
        self._preparation = Preparation(plan, self._close_in_child)
        while not self._preparation.tried and not self._stopping:
            self._advance_preparation()
            self._wait(_TICK)
        if self._stopping:
            return
        self._places = [_place(f"worker-{n}", plan, worker.serve_listeners) for n in range(self._settings.workers)]
        if composition.runs_jobs(self._settings):
            self._places.append(_place("jobs", plan, worker.run_jobs))
        for place in self._places:
            place.start(self._close_in_child)
        self._announce()

    def _advance_preparation(self) -> None:
        if self._preparation is not None and not self._stopping:
            self._preparation.advance()

    @property
    def _database_url(self) -> str:
        if self._postgres is not None:
            return self._postgres.url
        return self._external_url

    @contextlib.contextmanager
    def _database_starting(self) -> Iterator[None]:
        """Start the embedded database while the block runs; both are done at its end."""
        if self._postgres is None:
            yield
            return
        failure: list[Exception] = []
        postgres = self._postgres

        def start() -> None:
            try:
                postgres.start()
            except Exception as error:
                failure.append(error)

        thread = threading.Thread(target=start, name="database-start")
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if failure:
            raise failure[0]

    # -- running -----------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        """Until a process says something, a signal arrives, or the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            for place in self._places:
                if place.control is not None and not place.silent:
                    selector.register(place.control, selectors.EVENT_READ, place)
            for key, _ in selector.select(seconds):
                if isinstance(key.data, Place):
                    if b"R" in key.data.heard():
                        key.data.ready = True
                else:
                    self._wake_read.recv(4096)

    def _look_after_database(self) -> None:
        if self._postgres is None:
            return
        try:
            self._postgres.ensure_running()
        except IntaglioError as error:
            log.error("the database does not start; trying again", reason=str(error))

    def _look_after_processes(self) -> None:
        for place in self._places:
            if place.stuck:
                log.error("process does not react any more; killing it", process=place.name, pid=place.pid)
                place.signal(signal.SIGKILL)
            if place.reap():
                _count_restart(place.name)
                if place.crashes >= CRASH_LIMIT:
                    log.critical(
                        "process keeps dying right after its start; giving up",
                        process=place.name,
                        times=place.crashes,
                        remedy="The reason stands in the log above. Correct it and start the server again.",
                    )
                    self._exit_status, self._stopping = 1, True
                    return
            if place.due:
                place.start(self._close_in_child)

    def _announce(self) -> None:
        """Write the runtime file when something in it changed; tell systemd once all processes are ready."""
        if self._stopping:
            return
        ready = self._preparation is not None and self._preparation.done and all(place.ready for place in self._places)
        runtime = Runtime(
            pid=os.getpid(),
            started_at=self._started_at,
            ready=ready,
            listeners={name: s.bound for name, s in self._sockets.items() if name != "admin"},
            admin_socket=str(self._settings.admin_socket_path) if "admin" in self._sockets else "",
            processes={place.name: place.pid for place in self._places if place.pid is not None},
        )
        if runtime == self._announced:
            return
        first = ready and not (self._announced and self._announced.ready)
        self._announced = runtime
        write_runtime(self._settings.data_dir, runtime)
        if first:
            notify_systemd("READY=1")
            log.info("ready", processes=len(self._places), listeners=_where(self._sockets))

    # -- stop --------------------------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        """Processes first, so that their requests finish; then the database; then the traces on disk."""
        self._stopping = True
        notify_systemd("STOPPING=1")
        for sockets in self._sockets.values():
            sockets.close()
        if self._preparation is not None:
            self._preparation.stop()
        for place in self._places:
            place.signal(signal.SIGTERM)
        self._await_end(monotonic() + self._settings.shutdown_timeout + _GRACE)
        if self._postgres is not None:
            _stop_database(self._postgres)
        if "admin" in self._sockets:
            self._settings.admin_socket_path.unlink(missing_ok=True)
        remove_runtime(self._settings.data_dir)
        log.info("stopped", exit_status=self._exit_status)

    def _await_end(self, deadline: float) -> None:
        for place in self._places:
            while place.pid is not None and not _ended(place):
                if self._hurry or monotonic() > deadline:
                    log.error("process did not stop in time; killing it", process=place.name, pid=place.pid)
                    place.signal(signal.SIGKILL)
                    os.waitpid(place.pid, 0)
                    place.forget()
                    break
                self._wait(0.05)

    # -- signals -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        previous_fd = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        handlers = {
            signal.SIGTERM: self._stop_asked,
            signal.SIGINT: self._stop_asked,
            signal.SIGHUP: self._reload_asked,
            signal.SIGCHLD: lambda number, frame: None,  # being woken is all
        }
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous_fd)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop_asked(self, number: int, frame: FrameType | None) -> None:
        # Asked a second time: somebody is waiting.
        self._hurry = self._stopping
        self._stopping = True

    def _reload_asked(self, number: int, frame: FrameType | None) -> None:
        for place in self._places:
            place.signal(signal.SIGHUP)

    def _close_in_child(self) -> None:
        """A child must not hold the supervisor's ends: their closing is how processes notice that it is gone."""
        self._wake_read.close()
        self._wake_write.close()
        for owner in (*self._places, self._preparation):
            if owner is not None and owner.control is not None:
                owner.control.close()


def notify_systemd(state: str) -> None:
    """Tell the service manager, when there is one. Source: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.send(state.encode())


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one; every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _product(settings: Settings) -> Composition:
    from intaglio.server.product import compose

    return compose(settings)


def _place(name: str, plan: Plan, main: Callable[[Plan, str, socket.socket], int]) -> Place:
    from intaglio.server import metrics

    def enter(control: socket.socket) -> int:
        metrics.enter(name)
        return main(plan, name, control)

    return Place(name, enter)


def _stop_database(postgres: EmbeddedPostgres) -> None:
    """Stop the database, also one that was adopted from a supervisor that was killed: the folder is ours alone."""
    postgres.stop()
    deadline = monotonic() + _DATABASE_STOP
    if (pid := postgres.pid) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # fast shutdown
        while postgres.pid is not None and monotonic() < deadline:
            time.sleep(0.02)


def _ended(place: Place) -> bool:
    assert place.pid is not None
    found, status = os.waitpid(place.pid, os.WNOHANG)
    if not found:
        return False
    if status:
        log.warning("process stopped badly", process=place.name, status=describe(status))
    place.forget()
    return True


def _count_restart(name: str) -> None:
    from intaglio.server.metrics import restarts

    restarts.labels(name).inc()


def _where(sockets: dict[str, Sockets]) -> dict[str, str]:
    return {
        name: ", ".join(f"{address.host}:{address.port}" for address in one.bound.addresses)
        for name, one in sockets.items()
        if name != "admin"
    }
