"""Values by (owner, octets), looked up in batches and remembered while every change of them is heard of.

A remembered value is used only as long as the :class:`~intaglio.db.listen.Watch` is current and the changes were
followed up to what it heard. When the database is silent there is no value at all, and never a guess.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg

from intaglio.core.errors import TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, OwnConnection, Transaction, translated_errors
from intaglio.db.listen import Watch

log = get_logger(__name__)

MAX_REMEMBERED = 50_000
#: More changes than this at once: forgetting everything is cheaper than dropping one by one.
MAX_CHANGES = 5_000
_MAX_BATCH = 512
_MAX_WAITING = 20_000

#: Whose, and which: CA (or set of another CA's certificates) and serial number.
Key = tuple[UUID, bytes]
#: Octets None: any of that owner.
Change = tuple[UUID, bytes | None]

Value = TypeVar("Value")


class LiveValues(ABC, Generic[Value]):
    """Values of one process. ``on_change`` is called with what changed, or with None when anything may have changed."""

    def __init__(
        self, database: Database, watch: Watch, what: str, on_change: Callable[[Sequence[Change] | None], None]
    ) -> None:
        self._database = database
        self._watch = watch
        self._on_change = on_change
        self._lookup: _BatchedLookup[Value] = _BatchedLookup(database, what, self.look_up)
        self._remembered: OrderedDict[Key, Value] = OrderedDict()
        self._heard = -2  # what the watch said when changes were last taken note of
        self._followed = -1  # number of the change up to which they were
        self._changed = -1  # number of the last change taken note of
        self._following = asyncio.Lock()

    async def close(self) -> None:
        await self._lookup.close()

    @property
    @abstractmethod
    def heard(self) -> int:
        """Number of the last change that the watch heard of."""

    @abstractmethod
    async def look_up(self, connection: psycopg.AsyncConnection[Any], keys: Sequence[Key]) -> list[Value]:
        """The values of all keys, in their order, by one statement."""

    @abstractmethod
    async def changes(self, view: Transaction, after: int) -> tuple[int, Sequence[tuple[int, Change]] | None]:
        """The number of the last change, and the changes behind ``after`` with theirs, in order; None when ``after`` is
        negative, when there are more than ``MAX_CHANGES``, or when they are no longer known."""

    @abstractmethod
    def number(self, value: Value) -> int:
        """Number of the last change that a value takes into account."""

    @abstractmethod
    def renumbered(self, value: Value, number: int) -> Value:
        """The same value, known to be right up to a later change."""

    @abstractmethod
    def exists(self, value: Value) -> bool:
        """Whether it is the value of something that exists. What does not may in a moment, so it is not remembered."""

    @property
    def current(self) -> bool:
        """Whether what is remembered (here and by ``on_change``'s owner) may be used now."""
        return self.heard == self._heard and self._watch.current

    @property
    def behind(self) -> bool:
        """Whether changes were heard of that are not taken note of yet; :meth:`catch_up` does."""
        return self.heard != self._heard

    def covers(self, value: Value) -> bool:
        """Whether a looked-up value may be remembered: no change heard of since could have been missed by it."""
        return self.number(value) >= self._changed and self.current

    async def catch_up(self) -> None:
        """Follow the changes up to what the watch heard. Raises Unavailable, TimedOut."""
        async with self._following:
            heard = self.heard
            if heard < 0 or not self._watch.current:
                return
            if heard < self._heard:
                self._followed = -1  # the database was set back to an earlier state
            if heard > self._followed:
                await self._follow()
            self._heard = heard

    async def get(self, key: Key, *, since: int = -1) -> Value:
        """The value of a key, at most a second old, and no older than the change numbered ``since``.

        Raises Unavailable, TimedOut.
        """
        if self.current and self._followed >= since and (known := self._remembered.get(key)) is not None:
            if self.number(known) < self._changed:
                # Nothing that changed since concerned this one, or it would not be remembered any more.
                known = self._remembered[key] = self.renumbered(known, self._followed)
            self._remembered.move_to_end(key)
            return known
        value = await self._lookup.get(key)
        if self.exists(value) and self.covers(value):
            self._remembered[key] = value
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return value

    async def _follow(self) -> None:
        async with self._database.read() as view:
            head, changes = await self.changes(view, self._followed)
        if changes is None:  # the first time, when the database was set back, and after a flood
            self._remembered.clear()
            self._on_change(None)
            self._changed = head
        elif changes:
            self._forget([change for _, change in changes])
            self._changed = changes[-1][0]
        self._followed = head

    def _forget(self, changes: Sequence[Change]) -> None:
        owners = {owner for owner, octets in changes if octets is None}
        if owners:
            for key in [key for key in self._remembered if key[0] in owners]:
                del self._remembered[key]
        for owner, octets in changes:
            if octets is not None:
                self._remembered.pop((owner, octets), None)
        self._on_change(changes)


class _BatchedLookup(Generic[Value]):
    """Looks values up on a connection of its own: one query for all that were asked for while the last one ran."""

    def __init__(
        self,
        database: Database,
        what: str,
        look_up: Callable[[psycopg.AsyncConnection[Any], Sequence[Key]], Awaitable[list[Value]]],
    ) -> None:
        self._database = database
        self._what = what
        self._look_up = look_up
        self._waiting: list[tuple[Key, asyncio.Future[Value]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection = OwnConnection(database)
        self._failing = False

    async def get(self, key: Key) -> Value:
        if len(self._waiting) >= _MAX_WAITING:
            raise Unavailable("Too many status requests are waiting for the database.", code="database-busy")
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._what)
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        self._wake.set()
        return await answer

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()
        for _, answer in self._waiting:
            answer.cancel()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            if not self._waiting:
                self._wake.clear()
            try:
                async with asyncio.timeout(self._database.timeout):
                    values = await self._execute([key for key, _ in batch])
            except asyncio.CancelledError:
                for _, answer in batch:
                    answer.cancel()
                raise
            except Exception as error:
                # Whatever it was, everybody who waits gets it: this task must outlive it.
                await self._connection.close()
                self._fail(batch, error)
            else:
                self._failing = False
                for (_, answer), value in zip(batch, values, strict=True):
                    if not answer.done():
                        answer.set_result(value)

    async def _execute(self, keys: Sequence[Key]) -> list[Value]:
        connection = await self._connection.get()
        with translated_errors():
            return await self._look_up(connection, keys)

    def _fail(self, batch: Sequence[tuple[Key, asyncio.Future[Value]]], error: BaseException) -> None:
        if not self._failing:
            log.warning(f"{self._what} cannot be read; no certificate counts as good", reason=str(error))
        self._failing = True
        if isinstance(error, TimeoutError):
            error = TimedOut("The database did not answer in time.", code="database-timeout")
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)
