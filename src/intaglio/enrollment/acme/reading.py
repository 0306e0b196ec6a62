"""Single rows, read many times a second: prepared statements on a connection of their own.

A transaction of the pool takes four journeys to the database for one row; clients that wait for a validation or an
order ask again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

from psycopg.rows import dict_row

from intaglio.core.errors import TimedOut
from intaglio.db.engine import Database, OwnConnection, translated_errors

#: One authorization of an account.
AUTHORIZATION: Final = "SELECT * FROM acme_authorization WHERE id = %b AND account_id = %b"
#: Several authorizations.
AUTHORIZATIONS: Final = "SELECT * FROM acme_authorization WHERE id = ANY(%b::uuid[])"
#: One order of an account.
ORDER: Final = "SELECT * FROM acme_order WHERE id = %b AND account_id = %b"
#: The certificate of an order of an account, and the order; the certificate is null while there is none.
CERTIFICATE: Final = """
SELECT c.der, c.generation, c.ca_id FROM acme_order AS o LEFT JOIN certificate AS c ON c.id = o.certificate_id
WHERE o.id = %b AND o.account_id = %b
"""

Row = Mapping[str, Any]


class Reading:
    """The connection of one process; statements follow each other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = OwnConnection(database)
        self._turn = asyncio.Lock()

    async def all(self, statement: LiteralString, *parameters: Any) -> Sequence[Row]:
        """All rows by column. Raises Unavailable, TimedOut."""
        try:
            async with asyncio.timeout(self._database.timeout), self._turn:
                return await self._rows(statement, parameters)
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout", retry_after=1) from None

    async def one(self, statement: LiteralString, *parameters: Any) -> Row | None:
        """The only row, None when there is none. Raises like :meth:`all`."""
        rows = await self.all(statement, *parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Give the connection up."""
        await self._connection.close()

    async def _rows(self, statement: LiteralString, parameters: Sequence[Any]) -> Sequence[Row]:
        try:
            with translated_errors():
                connection = await self._connection.get()
                async with connection.cursor(row_factory=dict_row) as cursor:
                    await cursor.execute(statement, parameters, prepare=True)
                    return await cursor.fetchall()
        except BaseException:  # nobody can tell what it is doing now
            await self._connection.close()
            raise
