"""Limits of time for many requests at once: one timer looks after all of them, and only after those that wait.

Nearly every request has arrived when it is read, and nearly every answer is taken by the kernel at once. A timer for
each of them would take a tenth of the time of a token.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from intaglio.core.clock import monotonic

T = TypeVar("T")

_SWEEP = 0.25  # seconds between looks


class OutOfPatience(Exception):
    """What was waited for did not happen in its time."""


class Patience:
    """Awaits with a limit of time."""

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Look after nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    @types.coroutine
    def limited(self, work: Awaitable[T], seconds: float) -> Generator[Any, Any, T]:
        """What ``work`` returns. Raises OutOfPatience when that takes longer than ``seconds``, give or take a sweep."""
        # An awaitable runs up to where it has to wait for something; only then there is anything to limit.
        working = work.__await__()
        try:
            waits_for = working.send(None)
        except StopIteration as done:
            finished: T = done.value
            return finished
        task = self._look_after(seconds)
        try:
            try:
                yield waits_for
            except BaseException as error:
                working.throw(error)
                raise
            return (yield from working)
        except asyncio.CancelledError:
            if task in self._late:
                task.uncancel()
                raise OutOfPatience from None
            raise
        finally:
            self._deadlines.pop(task, None)
            self._late.discard(task)

    def _look_after(self, seconds: float) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        self._deadlines[task] = monotonic() + seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return task

    def _sweep(self) -> None:
        now = monotonic()
        for task, deadline in self._deadlines.items():
            if now > deadline and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = None
        if self._deadlines:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
