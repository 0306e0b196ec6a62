"""Forked processes in their places: starting, hearing from, replacing and ending them.

Processes are forked from a parent that has imported everything but runs no thread and no event loop, so that they start
in milliseconds and share the memory of the code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from intaglio.core.clock import monotonic
from intaglio.core.logging import get_logger

log = get_logger(__name__)

#: A process that dies this often in a row, each time within SHORT_LIFE seconds, is given up with the whole server.
CRASH_LIMIT = 8
SHORT_LIFE = 10.0
SILENCE_LIMIT = 60.0  # seconds without a pulse after which an event loop counts as stuck

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

#: What runs in the child: gets its end of the control socket, returns the exit status.
Main = Callable[[socket.socket], int]


@dataclass
class Place:
    """One process of the server, and its successors.

    ``name`` is its place (worker-0, jobs); ``main`` what it runs. ``pid`` is None between a death and the restart.
    """

    name: str
    main: Main
    pid: int | None = None
    control: socket.socket | None = None
    ready: bool = False
    silent: bool = False  # it has closed its end: it is ending or has ended
    started: float = 0.0
    last_heard: float = 0.0
    restart_at: float = 0.0
    crashes: int = 0

    def start(self, close_in_child: Callable[[], None]) -> None:
        """Fork. ``close_in_child`` closes what belongs to the supervisor and to other places."""
        ours, theirs = socket.socketpair()
        self.control = ours
        self.pid = fork(self.main, theirs, close_in_child)  # ours is among what the child closes
        theirs.close()
        ours.setblocking(False)
        self.ready = self.silent = False
        self.started = self.last_heard = monotonic()

    def heard(self) -> bytes:
        """What the process said since the last time; empty when it said nothing or is gone."""
        if self.control is None:
            return b""
        try:
            said = self.control.recv(4096)
        except BlockingIOError:
            return b""
        except OSError:
            said = b""
        if said:
            self.last_heard = monotonic()
        else:
            self.silent = True
        return said

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> bool:
        """Whether the process has just been found dead. Plans the restart."""
        if self.pid is None:
            return False
        try:
            found, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            found, status = self.pid, 0
        if not found:
            return False
        now = monotonic()
        self.crashes = self.crashes + 1 if now - self.started < SHORT_LIFE else 1
        delay = 0.0 if self.crashes == 1 else min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (self.crashes - 2))
        log.error("process died; replacing it", process=self.name, pid=self.pid, status=describe(status), delay=delay)
        self.restart_at = now + delay
        self.forget()
        return True

    def forget(self) -> None:
        """Drop what belonged to the dead process."""
        if self.control is not None:
            self.control.close()
        self.pid, self.control, self.ready = None, None, False

    @property
    def due(self) -> bool:
        return self.pid is None and monotonic() >= self.restart_at

    @property
    def stuck(self) -> bool:
        """Ready once, and silent for longer than any sound event loop is."""
        return self.ready and monotonic() - self.last_heard > SILENCE_LIMIT


def fork(main: Main, control: socket.socket, close_in_child: Callable[[], None]) -> int:
    """Fork a child that runs ``main`` and never returns. Returns its process id."""
    # Between fork and the child's own handlers a signal would run the parent's: keep them away for that moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = 70  # EX_SOFTWARE
            try:
                _forget_signals()
                close_in_child()
                status = main(control)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
