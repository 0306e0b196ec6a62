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
        self._closed = False
        self._lock = threading.Lock()
        self._mailboxes: dict[asyncio.AbstractEventLoop, _Mailbox] = {}

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """What ``call`` returns or raises, run in one of the threads; to be awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        mailbox = self._mailboxes.get(loop) or self._new_mailbox(loop)
        mailbox.expect(future)
        self._submit(_Call(call, future, mailbox))
        return future

    def start(self, call: Callable[[], object]) -> None:
        """Run ``call`` some time soon; nobody waits for it, so it must see to its own failures."""
        self._submit(_Call(call, None, None))

    def close(self) -> None:
        """End the threads once they have done what is queued. Whoever comes later, since he does not know yet, is still
        served, by a thread that ends at once."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._queue.put(None)

    def _submit(self, call: _Call) -> None:
        self._queue.put(call)
        if self._threads >= self._limit and not self._closed:
            return
        with self._lock:
            if self._closed:
                # Those at work may all be about to end: one more thread, and behind the call the end of one.
                self._queue.put(None)
            if self._closed or self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        call = self._queue.get()
        while call is not None:
            call.do()
            call = self._queue.get()
        with self._lock:
            self._threads -= 1

    def _new_mailbox(self, loop: asyncio.AbstractEventLoop) -> _Mailbox:
        self._mailboxes = {each: box for each, box in self._mailboxes.items() if not each.is_closed()}
        found = self._mailboxes[loop] = _Mailbox(loop, self._timeout, self._late)
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
    """Results on their way back into one event loop, and who still waits there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, late: Callable[[], IntaglioError]) -> None:
        self._loop = loop
        self._timeout = timeout
        self._late = late
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
        # In the order of their time limits, since all have the same; one timer serves them all.
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watching = False

    def expect(self, future: asyncio.Future[Any]) -> None:
        """Answer ``future`` when its time is up and nothing has come."""
        self._waiting.append((self._loop.time() + self._timeout, future))
        if not self._watching:
            self._watching = True
            self._loop.call_later(self._timeout, self._expire)

    def _expire(self) -> None:
        waiting, now = self._waiting, self._loop.time()
        while waiting and (waiting[0][0] <= now or waiting[0][1].done()):
            _, future = waiting.popleft()
            if not future.done():
                future.set_exception(self._late())
        self._watching = bool(waiting)
        if waiting:
            self._loop.call_later(waiting[0][0] - now, self._expire)

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
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
