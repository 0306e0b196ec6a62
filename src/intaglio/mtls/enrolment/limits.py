"""Counting attempts in the database, so that a limit holds over all processes."""

from __future__ import annotations

import ipaddress
import math
from datetime import timedelta
from uuid import UUID

from sqlalchemy import case, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.db.engine import Database, Transaction
from intaglio.mtls.enrolment.errors import code_locked, rate_limited
from intaglio.mtls.enrolment.models import attempt

_MINUTE = timedelta(minutes=1)
#: How long failures with the first symbols of a code are remembered. A code that got locked stays so beyond it.
FAILURES_KEPT = timedelta(days=1)
_IPV6_PREFIX = 64


async def count_request(database: Database, source: str, limit: int, *, kind: str = "enrol") -> None:
    """Count one request of an address. Raises RateLimited beyond ``limit`` in a minute."""
    await _count_minute(database, f"{kind}:{network_of(source)}", limit, "your address")


async def count_of_identity(database: Database, identity: UUID, limit: int, *, kind: str) -> None:
    """Count one request of an identity, wherever it comes from. Raises RateLimited beyond ``limit`` in a minute."""
    await _count_minute(database, f"{kind}:{identity}", limit, "this identity")


async def require_unlocked(tx: Transaction, handle: str, limit: int) -> None:
    """Raises RateLimited (``code_locked``) after too many failures with these first symbols, code or no code."""
    row = await tx.one_or_none(select(attempt).where(attempt.c.subject == _failures_of(handle)))
    if row is not None and row["count"] >= limit and (left := row["since"] + FAILURES_KEPT - tx.now) > timedelta(0):
        raise code_locked(math.ceil(left.total_seconds()))


async def count_failure(tx: Transaction, handle: str) -> int:
    """Count a failed attempt with these first symbols; returns how many there are."""
    count, _ = await _count(tx, _failures_of(handle), FAILURES_KEPT)
    return count


async def forget(tx: Transaction, handle: str) -> None:
    """Start anew with a code that got new symbols."""
    await tx.execute(delete(attempt).where(attempt.c.subject == _failures_of(handle)))


async def prune(tx: Transaction) -> None:
    """Drop counters nobody asks for any more."""
    is_failure = attempt.c.subject.startswith("code:")
    await tx.execute(
        delete(attempt).where(
            attempt.c.since < case((is_failure, tx.now - FAILURES_KEPT), else_=tx.now - timedelta(hours=1))
        )
    )


async def _count_minute(database: Database, subject: str, limit: int, who: str) -> None:
    async with database.transaction() as tx:
        count, left = await _count(tx, subject, _MINUTE)
    if count > limit:
        raise rate_limited(max(1, math.ceil(left.total_seconds())), who)


def network_of(source: str) -> str:
    """What counts as one source: an IPv4 address, or the 64-bit prefix that a host of IPv6 chooses its address in."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)


async def _count(tx: Transaction, subject: str, span: timedelta) -> tuple[int, timedelta]:
    """One more in the current span; how many, and how long it still lasts."""
    over = attempt.c.since <= tx.now - span
    statement = upsert(attempt).values(subject=subject, since=tx.now, count=1)
    statement = statement.on_conflict_do_update(
        index_elements=["subject"],
        set_={
            "count": case((over, 1), else_=attempt.c.count + 1),
            "since": case((over, tx.now), else_=attempt.c.since),
        },
    )
    row = await tx.one_or_none(statement.returning(attempt.c.count, attempt.c.since))
    assert row is not None
    return int(row["count"]), row["since"] + span - tx.now


def _failures_of(handle: str) -> str:
    return f"code:{handle}"
