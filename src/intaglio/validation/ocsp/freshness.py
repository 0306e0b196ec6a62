"""How current the sources of status authorities are, as one process knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import select

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import Unavailable
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.validation.models import status_head
from intaglio.validation.sources.freshness import State, states

#: Seconds for which states are believed while nothing was heard of: a feed without news moves on silently.
_RECHECK = 1.0


class Freshness:
    """The states of all authorities: read anew when something changed, and every second in which somebody asks."""

    def __init__(self, database: Database, watch: Watch) -> None:
        self._database = database
        self._watch = watch
        self._states: Mapping[UUID, State] = {}
        self._version = -1
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    def forget(self) -> None:
        """Read the states again before the next use."""
        self._read_at = float("-inf")

    async def get(self, authority_id: UUID) -> tuple[State, int]:
        """The state of an authority, and a version of the entries that is no older.

        Raises Unavailable (``status-unknown``) for an authority without one, and what the database raises.
        """
        if not self._fresh():
            async with self._reading:
                if not self._fresh():
                    await self._read()
        found = self._states.get(authority_id)
        if found is None:
            raise Unavailable("Nothing is known of the source of this status authority yet.", code="status-unknown")
        return found, self._version

    def _fresh(self) -> bool:
        return (
            self._version >= self._watch.status_version
            and self._watch.current
            and monotonic() - self._read_at < _RECHECK
        )

    async def _read(self) -> None:
        asked = monotonic()
        async with self._database.read() as view:
            # In this order: what is said with these times is looked up in entries that are no older.
            found = await states(view, clock.now())
            version = int(await view.scalar(select(status_head.c.version)) or 0)
        self._states, self._version, self._read_at = found, version, asked
