"""Counting in the database, so that a limit holds over all processes and restarts."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import case, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core.errors import RateLimited
from intaglio.db.engine import Database, Transaction
from intaglio.enrollment.models import counter
from intaglio.enrollment.values import plain_address

_IPV6_PREFIX = 64
_LONGEST_NAME = 400


class Limits:
    """Counters by name; each counts in periods that begin with the first event after the last one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, most: int, period: timedelta) -> None:
        """Count one event. Raises RateLimited (``too-many-requests``) with ``retry_after`` beyond ``most`` of them in
        ``period``."""
        async with self._database.transaction() as tx:
            count, left = await count_one(tx, name, period)
        if count > most:
            raise too_many(left)

    async def require_below(self, name: str, most: int) -> None:
        """Raise RateLimited when ``most`` events of the name were counted in the period that has not ended yet."""
        await self.require_all_below({name: most})

    async def require_all_below(self, limits: Mapping[str, int]) -> None:
        """The same for several names at once."""
        most = {stored_name(name): number for name, number in limits.items()}
        async with self._database.read() as view:
            rows = await view.all(select(counter).where(counter.c.name.in_(most)))
        for row in rows:
            if row["count"] >= most[row["name"]] and row["expires_at"] > view.now:
                raise too_many(row["expires_at"] - view.now)

    async def note(self, *names: str, period: timedelta) -> None:
        """Count one event of each name, without a limit."""
        async with self._database.transaction() as tx:
            for name in sorted(names):  # always in this order, so that nobody waits for somebody who waits for him
                await count_one(tx, name, period)

    async def forget(self, name: str) -> None:
        """Begin anew with a name."""
        async with self._database.transaction() as tx:
            await tx.execute(delete(counter).where(counter.c.name == stored_name(name)))


async def count_one(tx: Transaction, name: str, period: timedelta) -> tuple[int, timedelta]:
    """One more event in the period under way; how many there were, and how long the period still lasts."""
    c = counter.c
    over = c.since <= tx.now - period
    statement = upsert(counter).values(name=stored_name(name), since=tx.now, count=1, expires_at=tx.now + period)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "count": case((over, 1), else_=c.count + 1),
            "since": case((over, tx.now), else_=c.since),
            "expires_at": case((over, tx.now + period), else_=c.since + period),
        },
    )
    row = await tx.one_or_none(statement.returning(c.count, c.expires_at))
    assert row is not None
    return int(row["count"]), row["expires_at"] - tx.now


async def prune(tx: Transaction) -> None:
    """Drop counters whose period is over."""
    await tx.execute(delete(counter).where(counter.c.expires_at < tx.now))


def too_many(left: timedelta) -> RateLimited:
    """The refusal of whoever has to wait."""
    seconds = max(1, math.ceil(left.total_seconds()))
    return RateLimited(
        "There were too many requests.",
        code="too-many-requests",
        remedy=f"Try again in {seconds} seconds.",
        retry_after=seconds,
    )


def source_network(source: str) -> str:
    """What counts as one source: an IPv4 address, or the 64-bit prefix in which a host of IPv6 chooses its address."""
    try:
        address = plain_address(source)
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def stored_name(name: str) -> str:
    """The name of a counter as the database has it."""
    return name[:_LONGEST_NAME].replace("\0", "�")
