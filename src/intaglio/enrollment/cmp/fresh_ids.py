"""Taking the ids of transactions that end with their first answer: many in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from intaglio.db.engine import Database
from intaglio.db.gathered import Gathered

_COLUMNS: Final = {
    "id": "uuid",
    "endpoint_id": "uuid",
    "transaction_id": "bytea",
    "state": "text",
    "applicant": "text",
    "identity": "bytea",
    "body": "int2",
    "request_id": "int8",
    "nonce": "bytea",
    "implicit": "bool",
    "encrypted": "bool",
    "previous_serial": "bytea",
    "created_at": "timestamptz",
    "expires_at": "timestamptz",
}
# Whatever is issued for a transaction is committed after its row, so the log that makes the one durable holds the
# other: waiting for the disk here would gain nothing.
_TAKE = text(
    f"""
WITH quick AS (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO cmp_transaction ({", ".join(_COLUMNS)})
SELECT item.* FROM quick, unnest({", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS.items())}) AS item
ON CONFLICT DO NOTHING RETURNING id
"""  # noqa: S608 - composed of constants only
)


class FreshIds:
    """The transaction ids that one process takes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathered = Gathered(self._take)

    async def take(self, values: Mapping[str, Any]) -> bool:
        """Write the row of a transaction; False when its id is taken already."""
        return await self._gathered.do(values)

    async def _take(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
        async with self._database.transaction() as tx:
            taken: set[UUID] = {row["id"] for row in await tx.all(_TAKE, columns)}
        return [row["id"] in taken for row in rows]
