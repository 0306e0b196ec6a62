"""Costly work that callers ask for: making keys, deriving keys from passwords thousands of iterations long.

A process does little of it at a time, keeps little waiting, and gives each caller a share: some pieces at a time, and
some seconds of a processor, regained while he is quiet. Nobody keeps others from working, however much he asks for.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from intaglio.core.clock import monotonic
from intaglio.core.errors import RateLimited
from intaglio.core.principal import Principal

T = TypeVar("T")

_MOST_CALLERS = 10_000


@dataclass
class _Share:
    seconds: float
    since: float = field(default_factory=monotonic)
    under_way: int = 0


class Effort:
    """The costly work of one process.

    ``at_a_time`` pieces run, at most ``waiting`` wait; a caller has at most ``each`` of both, and ``budget`` seconds of
    processor time, of which he regains ``regained`` per second.
    """

    def __init__(
        self,
        *,
        at_a_time: int = 2,
        waiting: int = 64,
        each: int = 4,
        budget: float = 30.0,
        regained: float = 0.5,
        processor_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._threads = ThreadPoolExecutor(at_a_time, thread_name_prefix="costly")
        self._most, self._each = at_a_time + waiting, each
        self._budget, self._regained = budget, regained
        self._processor_time = processor_time
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._under_way = 0
        self._lock = threading.Lock()

    async def run(self, caller: Principal | str, call: Callable[[], T]) -> T:
        """The value of ``call``, made in a thread. Whoever is the operator of this host has no budget.

        Raises RateLimited (``too-much-work``) with the seconds to wait, and what ``call`` raises.
        """
        if isinstance(caller, Principal):
            metered = caller.kind not in ("operator", "system")
            name = f"{caller.kind}:{caller.name or caller.source}"
        else:
            metered, name = True, caller
        share = self._admit(name, metered)
        try:
            done = self._threads.submit(self._metered, share, call)
        except RuntimeError:  # the process is ending
            self._leave(share)
            raise
        # Whoever goes away does not stop what has begun, so it counts until it is done.
        done.add_done_callback(lambda _: self._leave(share))
        return await _outcome(done)

    def _metered(self, share: _Share, call: Callable[[], T]) -> T:
        began = self._processor_time()
        try:
            return call()
        finally:
            spent = self._processor_time() - began
            with self._lock:
                share.seconds -= spent

    def _admit(self, name: str, metered: bool) -> _Share:
        with self._lock:
            share = self._share_of(name)
            if self._under_way >= self._most:
                raise _too_much("This server has too much costly work at the moment.", 5)
            if share.under_way >= self._each:
                raise _too_much("Your requests before this one are still being worked on.", 2)
            if metered and share.seconds <= 0:
                raise _too_much(
                    "You have asked for much costly work lately.", math.ceil(-share.seconds / self._regained) + 1
                )
            share.under_way += 1
            self._under_way += 1
            return share

    def _share_of(self, name: str) -> _Share:
        now = monotonic()
        share = self._shares.pop(name, None) or _Share(self._budget, now)
        share.seconds = min(self._budget, share.seconds + (now - share.since) * self._regained)
        share.since = now
        # Popped and put back, a share moves to the end; the first is the one not used for longest.
        self._shares[name] = share
        if len(self._shares) > _MOST_CALLERS:
            self._shares.popitem(last=False)
        return share

    def _leave(self, share: _Share) -> None:
        with self._lock:
            share.under_way -= 1
            self._under_way -= 1


async def _outcome(done: Future[T]) -> T:
    return await asyncio.wrap_future(done)


def _too_much(detail: str, seconds: int) -> RateLimited:
    return RateLimited(
        detail, code="too-much-work", remedy=f"Try again in {seconds} s.", retry_after=seconds, extra={"step": "work"}
    )


#: That of this process. Its threads start with the first piece of work, so processes may fork before.
costly = Effort()
