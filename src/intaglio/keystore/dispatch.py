"""Threads in which slow keys sign, and how the event loop waits for them.

Made for tokens, where thousands of signatures a second go back and forth between a loop and a few threads: results are
handed over in batches, since waking the loop costs more than a signature of a fast token.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from intaglio.core.errors import IntaglioError

T = TypeVar("T")


class Dispatcher:
    """At most ``threads`` threads, made when needed, that run calls in the order in which they came.

    A call that has not ended after ``timeout`` seconds is answered with the error that ``late`` makes; a thread that is
    stuck in a foreign library cannot be freed, but nobody waits for it any longer.
    """

    def __init__(self, threads: int, timeout: float, late: Callable[[], IntaglioError], name: str) -> None:
        self._limit = threads
        self._timeout = timeout
        self._late = late
        self._name = name
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._lock = threading.Lock()
        self._mailboxes: dict[asyncio.AbstractEventLoop, _Mailbox] = {}

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises, run in one of the threads."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(_Call(call, future, self._mailbox(loop)))
        timer = loop.call_later(self._timeout, self._expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def start(self, call: Callable[[], object]) -> None:
        """Run ``call`` some time soon; nobody waits for it, so it must see to its own failures."""
        self._submit(_Call(call, None, None))

    def close(self) -> None:
        """End the threads once they have done what is queued."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._queue.put(None)

    def _submit(self, call: _Call) -> None:
        self._queue.put(call)
        if self._idle > 0 or self._threads >= self._limit:  # looked at without the lock: at worst one thread too few
            return
        with self._lock:
            if self._threads < self._limit and not self._closed:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._idle += 1
            call = self._queue.get()
            self._idle -= 1
            if call is None:
                return
            call.do()

    def _expire(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(self._late())

    def _mailbox(self, loop: asyncio.AbstractEventLoop) -> _Mailbox:
        found = self._mailboxes.get(loop)
        if found is None:
            self._mailboxes = {each: box for each, box in self._mailboxes.items() if not each.is_closed()}
            found = self._mailboxes[loop] = _Mailbox(loop)
        return found


@dataclass(slots=True)
class _Call:
    call: Callable[[], Any]
    future: asyncio.Future[Any] | None
    mailbox: _Mailbox | None

    def do(self) -> None:
        if self.future is not None and self.future.done():
            return  # whoever asked has given up
        result, failure = None, None
        try:
            result = self.call()
        except BaseException as error:
            failure = error
        if self.future is not None and self.mailbox is not None:
            self.mailbox.put(self.future, result, failure)


class _Mailbox:
    """Results on their way back into one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False

    def put(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        self._results.append((future, result, failure))
        if not self._woken:
            self._woken = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # before emptying: what arrives from here on wakes the loop again
        while self._results:
            future, result, failure = self._results.popleft()
            if future.done():
                continue
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
