"""Statements on a connection of their own: each is its own transaction, and one way to the database and back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.rows import dict_row

from intaglio.db.engine import Database, OwnConnection, translated_errors


class OwnStatements:
    """What one kind of request asks the database, one statement after the other."""

    def __init__(self, database: Database) -> None:
        self._connection = OwnConnection(database)
        self._lock = asyncio.Lock()

    async def all(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The rows of a statement of psycopg's own kind. Raises Unavailable, TimedOut."""
        async with self._lock:
            try:
                with translated_errors():
                    connection = await self._connection.get()
                    async with connection.cursor(row_factory=dict_row) as cursor:
                        await cursor.execute(statement, parameters)
                        return await cursor.fetchall() if cursor.description is not None else ()
            except BaseException:
                await self._connection.close()  # nobody can tell what it is doing
                raise

    async def close(self) -> None:
        """Give the connection back."""
        await self._connection.close()
