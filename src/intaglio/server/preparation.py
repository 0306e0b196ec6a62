"""What must be done once before a server can answer: bring the schema up to date, make the first server certificate.

It runs in a child process, so that what only it needs does not stay in the memory that all workers share, and so that a
database that does not answer holds nothing up.
"""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, Refused, Unavailable
from intaglio.core.logging import get_logger
from intaglio.server.processes import describe, fork

if TYPE_CHECKING:
    from intaglio.server.worker import Plan

log = get_logger(__name__)

_AGAIN = 2.0  # seconds until the next attempt when the database was away
_TEMPORARY = 75  # EX_TEMPFAIL: a later attempt may succeed
_FATAL = 78  # EX_CONFIG: none will


class Preparation:
    """The preparation of one server. ``tried`` once an attempt has ended, ``done`` when one succeeded."""

    def __init__(self, plan: Plan, close_in_child: Callable[[], None]) -> None:
        self._plan = plan
        self._close_in_child = close_in_child
        self._pid: int | None = None
        self._next_attempt = 0.0
        self.control: socket.socket | None = None
        self.tried = False
        self.done = False

    def advance(self) -> None:
        """Start an attempt when one is due, or look how the current one ended. Never waits.

        Raises Refused when no attempt can succeed (the schema is newer than this version).
        """
        if self._pid is None:
            if not self.done and monotonic() >= self._next_attempt:
                self._start()
            return
        found, status = os.waitpid(self._pid, os.WNOHANG)
        if found:
            self._ended(status)

    def stop(self) -> None:
        """End a running attempt; migrations are transactions, so nothing is left half done."""
        if self._pid is not None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self.control = ours
        self._pid = fork(functools.partial(_prepare, self._plan), theirs, self._close_in_child)
        theirs.close()

    def _ended(self, status: int) -> None:
        assert self.control is not None
        with self.control:
            message = self.control.recv(1 << 16)
        self._pid, self.control, self.tried = None, None, True
        code = os.waitstatus_to_exitcode(status)
        self.done = code == 0
        if self.done:
            return
        reason = json.loads(message) if message else {"detail": f"The preparation ended with {describe(status)}."}
        if code == _FATAL:
            raise Refused(reason["detail"], code=reason["code"], remedy=reason["remedy"])
        log.error("the server is not prepared yet; trying again", reason=reason["detail"])
        self._next_attempt = monotonic() + _AGAIN


def _prepare(plan: Plan, control: socket.socket) -> int:
    """In the child. What goes wrong is told over the control socket."""
    from intaglio.db.migrate import migrate
    from intaglio.server.worker import ensure_identity

    try:
        migrate(plan.database_url)
        ensure_identity(plan)
    except IntaglioError as error:
        control.sendall(json.dumps({"detail": error.detail, "code": error.code, "remedy": error.remedy}).encode())
        return _TEMPORARY if isinstance(error, Unavailable) else _FATAL
    return 0
