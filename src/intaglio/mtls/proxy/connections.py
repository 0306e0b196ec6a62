"""The open connections of a gateway, so that those of a caller who may no more can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from intaglio.core.clock import monotonic
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy import metrics
from intaglio.mtls.proxy.decisions import POLICY_DENIED, STATUS_UNAVAILABLE, Asked, Caller, Source, Verdict

log = get_logger(__name__)

#: Seconds during which open connections may outlive the source of status. New requests are refused at once.
UNAVAILABLE_FOR = 60.0
_AT_ONCE = 32  # questions asked side by side


class Connection:
    """One open connection: who it belongs to and what is under way on it."""

    def __init__(self, caller: Caller, abort: Callable[[], None]) -> None:
        self.caller = caller
        self.abort = abort
        self.requests = 0
        self.cut = False
        self.task: asyncio.Task[None] | None = None
        self._under_way: dict[object, Asked] = {}

    @contextlib.contextmanager
    def answering(self, asked: Asked) -> Iterator[None]:
        """A request is under way."""
        self.requests += 1
        token = object()
        self._under_way[token] = asked
        try:
            yield
        finally:
            del self._under_way[token]

    @property
    def under_way(self) -> set[Asked]:
        return set(self._under_way.values())


class Connections:
    """All of them. ``source`` decides whether they may stay."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: set[Connection] = set()
        self._unavailable_since: float | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, serving: Coroutine[Any, Any, None]) -> None:
        """Serve a connection until it ends."""
        connection.task = asyncio.create_task(serving)
        self._open.add(connection)
        metrics.connections.labels("open").inc()
        connection.task.add_done_callback(lambda task: self._ended(connection, task))

    async def recheck(self) -> int:
        """Cut every connection whose caller is not entitled any more. Returns how many were cut.

        What is asked is the same as for a new connection, and for each request that is under way (a download, a
        websocket) the same as for that request.
        """
        by_question: dict[tuple[Caller, Asked], list[Connection]] = {}
        for connection in self._open:
            for asked in (*connection.under_way, Asked()):  # what it is doing makes the better record
                by_question.setdefault((connection.caller, asked), []).append(connection)
        questions, cut = list(by_question.items()), 0
        for start in range(0, len(questions), _AT_ONCE):
            part = questions[start : start + _AT_ONCE]
            cut += sum(await asyncio.gather(*(self._recheck(*question, each) for question, each in part)))
        return cut

    async def _recheck(self, caller: Caller, asked: Asked, connections: list[Connection]) -> int:
        verdict = await self._source.decide(caller, asked, again=True)
        if not self._ends(caller, asked, verdict):
            return 0
        open_ones = [each for each in connections if each in self._open and not each.cut]
        for connection in open_ones:
            connection.cut = True
            metrics.cuts.labels(verdict.reason).inc()
            self._source.record(caller, asked, verdict, status=None)
            connection.abort()
        if open_ones:
            log.warning("connections cut", count=len(open_ones), reason=verdict.reason, peer=caller.source)
        return len(open_ones)

    async def end(self, timeout: float) -> None:
        """Let what is under way finish, at most ``timeout`` seconds; then cut what is left."""
        for connection in [each for each in self._open if not each.under_way]:
            connection.abort()
        tasks = [each.task for each in self._open if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for connection in list(self._open):
            connection.abort()
            if connection.task is not None:
                connection.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def _ends(self, caller: Caller, asked: Asked, verdict: Verdict) -> bool:
        """Whether a verdict ends connections, and not only requests to come."""
        if verdict.reason == STATUS_UNAVAILABLE:
            self._unavailable_since = self._unavailable_since or monotonic()
            return not verdict.passes and monotonic() - self._unavailable_since > UNAVAILABLE_FOR
        if caller.peer.chain:
            self._unavailable_since = None  # the status of this one was known
        routed = verdict.reason == POLICY_DENIED and asked == Asked()  # another route may be allowed
        return not verdict.passes and not routed

    def _ended(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._open.discard(connection)
        metrics.connections.labels("open").dec()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection ended unexpectedly", exc_info=error)
            connection.abort()
