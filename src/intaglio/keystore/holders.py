"""Which processes hold which master keys: every process says so in the database, once a minute.

A value sealed under a key that some process has not got is lost to that process, so who puts a new master key to use or
drops an old one asks here first. Only key ids are recorded; they tell nothing about the keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.logging import get_logger
from intaglio.core.secrets import MasterKey
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Database
from intaglio.keystore.models import master_key_holder

log = get_logger(__name__)

#: How long a process that reports no more counts as running.
ABSENCE = timedelta(minutes=10)

_INTERVAL = 60.0  # seconds between two reports
_RETRY = 5.0  # seconds until the next attempt when the database was away
_FORGOTTEN = timedelta(days=1)


@dataclass(frozen=True)
class Place:
    """Where a process runs: ``process`` is its name in the server on this data folder (``worker-0``, ``jobs``)."""

    host: str
    data_dir: str
    process: str

    @classmethod
    def here(cls, data_dir: Path, process: str) -> Place:
        return cls(socket.gethostname(), str(data_dir.resolve()), process)


@dataclass(frozen=True)
class Holder:
    """A process as it last reported. ``keys`` are the ids of its master keys, hexadecimal, the one that seals first."""

    place: Place
    pid: int
    started_at: datetime
    seen_at: datetime
    keys: tuple[str, ...]

    @property
    def gone(self) -> bool:
        """Whether it ran on this host and ended without saying so."""
        if self.place.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


async def keep_reporting(database: Database, master: MasterKey, place: Place) -> None:
    """Report until cancelled; while the database is away, try again."""
    started_at, troubles = clock.now().replace(microsecond=0), Troubles()
    while True:
        try:
            await report(database, master, place, started_at)
        except IntaglioError as error:
            if troubles.worth_reporting("report"):
                log.warning("the master keys of this process cannot be reported", reason=str(error))
            await asyncio.sleep(_RETRY)
        else:
            troubles.over("report")
            await asyncio.sleep(_INTERVAL)


async def report(database: Database, master: MasterKey, place: Place, started_at: datetime) -> None:
    """Record that this process runs and which master keys it holds."""
    others = [key_id for key_id in master.keys if key_id != master.current]
    values = {
        "pid": os.getpid(),
        "started_at": started_at,
        "seen_at": func.now(),
        "key_ids": [key_id.hex() for key_id in (master.current, *others)],
    }
    statement = upsert(master_key_holder).values(
        host=place.host, data_dir=place.data_dir, process=place.process, **values
    )
    async with database.transaction() as tx:
        await tx.execute(statement.on_conflict_do_update(constraint=master_key_holder.primary_key, set_=values))
        seen = master_key_holder.c.seen_at
        await tx.execute(delete(master_key_holder).where(seen < func.now() - _FORGOTTEN))


async def withdraw(database: Database, place: Place) -> None:
    """Record that this process ends. Whoever cannot say so is believed to run until it is no longer seen."""
    c = master_key_holder.c
    with contextlib.suppress(IntaglioError, TimeoutError):
        async with asyncio.timeout(1), database.transaction() as tx:
            await tx.execute(
                delete(master_key_holder).where(
                    c.host == place.host, c.data_dir == place.data_dir, c.process == place.process
                )
            )


async def running(database: Database, *, absence: timedelta = ABSENCE) -> list[Holder]:
    """Every process that was seen within ``absence`` on any host, by place."""
    c = master_key_holder.c
    statement = select(master_key_holder).where(c.seen_at > func.now() - absence)
    async with database.read() as view:
        rows = await view.all(statement.order_by(c.host, c.data_dir, c.process))
    found = [
        Holder(
            Place(row["host"], row["data_dir"], row["process"]),
            row["pid"], row["started_at"], row["seen_at"], tuple(row["key_ids"]),
        )
        for row in rows
    ]  # fmt: skip
    return [holder for holder in found if not holder.gone]


def require_held(holders: Sequence[Holder], key_id: bytes) -> None:
    """Raise StateConflict (``restart-needed``), naming them, when any of these processes lacks a master key."""
    lacking = [holder for holder in holders if key_id.hex() not in holder.keys]
    if not lacking:
        return
    named = "; ".join(
        f"{each.place.process} on {each.place.host} ({each.place.data_dir}), seen {clock.rfc3339(each.seen_at)}"
        for each in lacking[:5]
    )
    more = f"; and {len(lacking) - 5} more" if len(lacking) > 5 else ""
    minutes = int(ABSENCE.total_seconds() // 60)
    raise StateConflict(
        f"Not every running server holds the master key {key_id.hex()}: {named}{more}.",
        code="restart-needed",
        remedy="Copy the master key file to every host and restart the servers there, then repeat this. "
        f"One that is gone for good counts as running for {minutes} minutes.",
    )
