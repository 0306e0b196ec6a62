"""Threads in which slow keys sign, and how the event loop waits for them.

Made for tokens, where thousands of signatures a second go back and forth between a loop and a few threads. What costs
there is not the token but the interpreter, which threads have to take from each other, and the waking of those that
sleep. So a token that answers in less time than that takes is left to one thread for as long as it gets on, and results
are handed over many at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError

T = TypeVar("T")

_SHORT = 0.0002  # seconds; several threads gain nothing from calls that take less
_WINDOW = 16  # calls after which it is judged anew how long they take
_LOOK = 0.002  # seconds between looks whether somebody waits behind a call that takes longer than was expected
_GATHER = 0.001  # seconds for which results wait at most for others that are about to come
_SHARE = 3  # so many times more results than calls that are still queued are handed over without waiting


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
        self._calls: deque[_Call] = deque()
        self._lock = threading.Lock()
        self._threads = 0
        self._awake = 0  # threads that work, or look whether there is work
        self._bell: SimpleQueue[None] = SimpleQueue()  # wakes one thread that sleeps
        self._closed = False
        # Seconds that calls take: the shortest of the last ones, since many are held up by something else.
        self._pace, self._shortest = 0.0, float("inf")
        self._begun = self._begun_before = 0
        self._mailboxes: dict[asyncio.AbstractEventLoop, _Mailbox] = {}

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """What ``call`` returns or raises, run in one of the threads; to be awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        mailbox = self._mailboxes.get(loop) or self._new_mailbox(loop)
        mailbox.expect(future)
        self._submit(_Call(call, future, mailbox), at_most=1 if self._pace < _SHORT else self._limit)
        return future

    def start(self, call: Callable[[], object]) -> None:
        """Run ``call`` some time soon; nobody waits for it, so it must see to its own failures."""
        self._submit(_Call(call, None, None), at_most=self._limit)

    def close(self) -> None:
        """End the threads once they have done what is queued. Whoever comes later, since he does not know yet, is still
        served, by a thread that ends at once."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads - self._awake):
                self._awake += 1
                self._bell.put(None)

    def _submit(self, call: _Call, *, at_most: int) -> None:
        """Queue a call, and wake a thread for it unless as many are awake already."""
        self._calls.append(call)
        with self._lock:
            # Of those that are awake when the end has come, some may be stuck: there has to be another one.
            if self._awake < at_most or self._closed:
                self._wake()

    def _wake(self) -> None:
        """One more thread at work, if there may be one; with the lock held."""
        if self._awake < self._threads and not self._closed:
            self._awake += 1
            self._bell.put(None)
        elif self._threads < self._limit or self._closed:
            self._awake += 1
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _help(self) -> None:
        """One more thread, when calls wait and none was begun since the last look."""
        with self._lock:
            if self._calls and self._begun == self._begun_before:
                self._wake()
            self._begun_before = self._begun

    def _work(self) -> None:
        while (call := self._next()) is not None:
            number, begun = self._begun, monotonic()
            call.do()
            ended = monotonic()
            self._judge(ended - begun)
            if call.mailbox is not None:
                call.mailbox.wake(ended, len(self._calls) if self._pace < _SHORT else 0)
            if self._begun != number and self._pace < _SHORT:
                self._leave_to_another()

    def _judge(self, seconds: float) -> None:
        """Take note of how long a call took. Threads may do so at the same time; it need not be exact."""
        if seconds < self._shortest:
            self._shortest = seconds
            self._pace = min(self._pace, seconds)
        if self._begun % _WINDOW == 0:
            self._pace, self._shortest = self._shortest, float("inf")

    def _leave_to_another(self) -> None:
        """Sleep, when another thread is at work that does get on."""
        with self._lock:
            if self._awake == 1 or self._closed:
                return
            self._awake -= 1
        self._bell.get()

    def _next(self) -> _Call | None:
        """The next call, once there is one; None when there will be none."""
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                with self._lock:
                    if self._calls:
                        continue
                    self._awake -= 1
                    if self._closed:
                        self._threads -= 1
                        return None
                self._bell.get()
            else:
                self._begun += 1
                return call

    def _new_mailbox(self, loop: asyncio.AbstractEventLoop) -> _Mailbox:
        self._mailboxes = {each: box for each, box in self._mailboxes.items() if not each.is_closed()}
        found = self._mailboxes[loop] = _Mailbox(loop, self._timeout, self._late, self._help)
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

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        late: Callable[[], IntaglioError],
        look: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._late = late
        self._look = look
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
        self._delivered = 0.0
        # In the order of their time limits, since all have the same.
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watching = False

    def expect(self, future: asyncio.Future[Any]) -> None:
        """Answer ``future`` when its time is up and nothing has come."""
        self._waiting.append((self._loop.time() + self._timeout, future))
        if not self._watching:
            self._watching = True
            self._loop.call_later(_LOOK, self._watch)

    def _watch(self) -> None:
        """While somebody waits: see that calls get on, hand over what was gathered, answer whose time is up."""
        self._look()
        self._deliver()
        waiting, now = self._waiting, self._loop.time()
        while waiting and (waiting[0][0] <= now or waiting[0][1].done()):
            _, future = waiting.popleft()
            if not future.done():
                future.set_exception(self._late())
        self._watching = bool(waiting)
        if waiting:
            self._loop.call_later(_LOOK, self._watch)

    def put(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        """Leave a result; :meth:`wake` has to follow."""
        self._results.append((future, result, failure))

    def wake(self, now: float, more: int) -> None:
        """See that the loop looks for what was left: at once, or, when ``more`` is about to come, some time later."""
        if self._woken or (len(self._results) < _SHARE * more and now - self._delivered < _GATHER):
            return
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
        self._delivered = monotonic()
