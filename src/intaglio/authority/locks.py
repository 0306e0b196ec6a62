"""Named locks that hold across all processes until the transaction ends (PostgreSQL advisory locks)."""

from __future__ import annotations

import hashlib

from sqlalchemy import text

from intaglio.db.engine import Transaction


async def lock(tx: Transaction, *name: object) -> None:
    """Wait for the lock ``name``. Raises TimedOut when its holder takes too long."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(name)})


async def try_lock(tx: Transaction, *name: object) -> bool:
    """Take the lock ``name`` if nobody holds it; say whether it was taken."""
    return bool(await tx.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _key(name)}))


def number(*name: object) -> int:
    """The number by which PostgreSQL knows the lock ``name``."""
    return _key(name)


def _key(name: tuple[object, ...]) -> int:
    digest = hashlib.sha256("\0".join(map(str, name)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
