"""What the master key seals for timestamping survives its rotation."""

from __future__ import annotations

from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore.rewrap import outstanding, rewrap
from intaglio.timestamping.numbering import SerialNumbers, ensure_numbers
from intaglio.timestamping.sealed import SEALED_COLUMNS


async def test_serial_numbers_go_on_under_a_new_master_key(database: Database, master_key: MasterKey) -> None:
    async with database.transaction() as tx:
        await ensure_numbers(tx, master_key)
    before = SerialNumbers(database, master_key)
    first = await before.next(8)
    rotated = master_key.rotated()
    assert await outstanding(database, rotated, SEALED_COLUMNS) == 1
    await rewrap(database, rotated, SEALED_COLUMNS)
    after = SerialNumbers(database, rotated.without(master_key.current))
    assert await after.next(8) != first
    await before.close()
    await after.close()
