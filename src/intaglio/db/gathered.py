"""One statement for many requests: what is asked for while the last statement runs is done together by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from intaglio.core.errors import InvalidInput, Unavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_MOST_TOGETHER = 100
_MOST_WAITING = 10_000


class Gathered(Generic[Item, Outcome]):
    """Items of concurrent callers, done together by ``execute``, which returns their outcomes in the same order.

    Nothing is kept open or under way while nobody asks.
    """

    def __init__(self, execute: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]]) -> None:
        self._execute = execute
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._task: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Outcome:
        """The outcome of one item. Raises what ``execute`` raises, Unavailable when too many wait."""
        if len(self._waiting) >= _MOST_WAITING:
            raise Unavailable("Too many requests are waiting for the database.", code="database-busy")
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
                await self._do_batch(batch)
        finally:
            self._task = None
            left, self._waiting = self._waiting, []
            for _, done in left:  # the process is ending
                done.cancel()

    async def _do_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._execute([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, done in batch:
                done.cancel()
            raise
        except InvalidInput as error:  # nothing was written; one bad item must not fail its neighbours
            if len(batch) > 1:
                for each in batch:
                    await self._do_batch([each])
            else:
                self._fail(batch, error)
            return
        except Exception as error:  # whatever it was: everybody who waits hears of it, and the next ones are done
            self._fail(batch, error)
            return
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if not done.done():
                done.set_result(outcome)

    def _fail(self, batch: Sequence[tuple[Item, asyncio.Future[Outcome]]], error: Exception) -> None:
        for _, done in batch:
            if not done.done():
                done.set_exception(error)
