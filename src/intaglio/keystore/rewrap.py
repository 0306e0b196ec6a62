"""Rewrapping: after a rotation of the master key, every sealed value is sealed anew under the current key.

Works in small transactions beside normal operation and may be stopped and started again: what is still to be done is
read off the sealed values themselves, which begin with the id of the key that sealed them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, bindparam, func, select, update

from intaglio.audit.record import record
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore import tokens
from intaglio.keystore.models import hsm_token, private_key
from intaglio.keystore.providers import purpose_of
from intaglio.platform import server_identities
from intaglio.platform.models import server_identity

_KEY_ID_FROM, _KEY_ID_LENGTH = 2, 4  # SQL counts from 1; octet 1 is the version of the sealed format


@dataclass(frozen=True)
class SealedColumn:
    """A column of values sealed under the master key, and what the value of a row is bound to."""

    table: Table
    key: Column[Any]
    column: Column[Any]
    purpose: Callable[[Any], str]


PRIVATE_KEYS = SealedColumn(private_key, private_key.c.id, private_key.c.sealed, purpose_of)
SERVER_KEYS = SealedColumn(
    server_identity, server_identity.c.listener, server_identity.c.sealed_key, server_identities.purpose_of
)
PINS = SealedColumn(hsm_token, hsm_token.c.name, hsm_token.c.sealed_pin, tokens.purpose_of)
#: What the master key seals in the tables of this floor and those below.
SEALED_COLUMNS = (PRIVATE_KEYS, SERVER_KEYS, PINS)


@dataclass(frozen=True)
class Progress:
    """How far rewrapping has come; both count values, not octets."""

    done: int
    total: int


async def rewrap(
    database: Database,
    master: MasterKey,
    columns: tuple[SealedColumn, ...] = SEALED_COLUMNS,
    *,
    principal: Principal = SYSTEM,
    batch: int = 100,
    report: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Seal every value of ``columns`` that is sealed under an older master key anew under the current one.

    ``batch`` is the number of values per transaction. Raises Forbidden without ``platform.manage`` and Unavailable at
    the first value whose key is missing from the ring; what was done until then stays done.
    """
    principal.require(Permission.PLATFORM_MANAGE)
    total, done = await outstanding(database, master, columns), 0
    for column in columns:
        while moved := await _rewrap_batch(database, master, column, batch):
            done += moved
            report(Progress(done, max(total, done)))
    async with database.transaction() as tx:
        record(tx, principal, "master-key.rewrap", "master-key", master.current.hex(), values=done)
    return Progress(done, max(total, done))


async def outstanding(
    database: Database, master: MasterKey, columns: tuple[SealedColumn, ...] = SEALED_COLUMNS
) -> int:
    """How many values are still sealed under an older master key; an old key may be retired once this is 0."""
    async with database.read() as view:
        return sum(
            [int(await view.scalar(select(func.count()).where(_sealed_before(column, master)))) for column in columns]
        )


async def _rewrap_batch(database: Database, master: MasterKey, column: SealedColumn, batch: int) -> int:
    async with database.transaction() as tx:
        rows = await tx.all(
            select(column.key, column.column)
            .where(_sealed_before(column, master))
            .order_by(column.key)
            .limit(batch)
            .with_for_update()
        )
        if rows:
            await tx.execute(
                update(column.table).where(column.key == bindparam("of")).values({column.column: bindparam("anew")}),
                [{"of": row[column.key], "anew": _resealed(master, column, row)} for row in rows],
            )
        return len(rows)


def _resealed(master: MasterKey, column: SealedColumn, row: Any) -> bytes:
    purpose = column.purpose(row[column.key])
    return master.seal(master.open(row[column.column], purpose=purpose), purpose=purpose)


def _sealed_before(column: SealedColumn, master: MasterKey) -> ColumnElement[bool]:
    return func.substr(column.column, _KEY_ID_FROM, _KEY_ID_LENGTH) != master.current
