"""Changing what a snapshot contains: one change at a time over all processes, visible here as soon as it is made."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import text

from intaglio.authority import locks
from intaglio.authority.context import Authority
from intaglio.authority.directory import Snapshot
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction

_EPOCH = text("SELECT epoch, pg_current_xact_id_if_assigned() IS NULL AS untouched FROM journal_head")


@dataclass(frozen=True)
class ConfigurationChange:
    """A transaction that changes configuration. ``before`` is what held when it began."""

    authority: Authority
    tx: Transaction
    before: Snapshot

    async def locked(self) -> Snapshot:
        """Keep every other configuration change out until the end of the transaction, and read what holds now.

        What takes long (making a key) is best done before.
        """
        await locks.lock(self.tx, "configuration")
        now = await self.tx.one_or_none(_EPOCH)
        assert now is not None
        # What was read before is what holds while nobody has changed anything since: neither others nor we ourselves.
        return self.before if now["untouched"] and now["epoch"] == self.before.epoch else await self.read()

    async def read(self) -> Snapshot:
        """The configuration with what this transaction has changed so far."""
        return await self.authority.directory.read(self.tx)


@contextlib.asynccontextmanager
async def changing(
    authority: Authority, principal: Principal, permission: Permission
) -> AsyncIterator[ConfigurationChange]:
    """A transaction after which every process decides anew; this one has the new snapshot when the block is left.

    Raises Unauthenticated or Forbidden before anything is locked or read.
    """
    principal.require(permission)
    # Read before the transaction holds a connection: waiting for a second one, all might wait for each other.
    before = await authority.current()
    async with authority.database.transaction() as tx:
        yield ConfigurationChange(authority, tx, before)
        tx.changed_configuration()
    await authority.reload()
