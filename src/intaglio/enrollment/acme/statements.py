"""Statements that run many times a second: prepared, on connections of their own, each a transaction by itself.

A transaction of the pool takes four journeys to the database for one row; clients that wait for a validation or an
order ask again and again. What is audited goes through the pool, with the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, LiteralString

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from intaglio.core.errors import TimedOut
from intaglio.db.engine import Database, OwnConnection, translated_errors

#: One authorization of an account.
AUTHORIZATION: Final = "SELECT * FROM acme_authorization WHERE id = %b AND account_id = %b"
#: Several authorizations.
AUTHORIZATIONS: Final = "SELECT * FROM acme_authorization WHERE id = ANY(%b::uuid[])"
#: One order of an account.
ORDER: Final = "SELECT * FROM acme_order WHERE id = %b AND account_id = %b"
#: The certificate of an order of an account; its columns are null while there is none.
CERTIFICATE: Final = """
SELECT c.der, c.generation, c.ca_id FROM acme_order AS o LEFT JOIN certificate AS c ON c.id = o.certificate_id
WHERE o.id = %b AND o.account_id = %b
"""
#: Whether an account of the endpoint has this key (thumbprint).
KEY_HOLDER: Final = "SELECT id FROM acme_account WHERE endpoint_id = %b AND thumbprint = %b"
#: Take a challenge up (method, holder, until when; authorization, now) unless there were too many failures (name of
#: their counter, how many are too many, now).
TAKE_UP: Final = """
UPDATE acme_authorization SET method = %b, holder = %b, held_until = %b
WHERE id = %b AND status = 'pending' AND method IS NULL AND expires_at > %b AND NOT EXISTS (
    SELECT FROM enrollment_counter WHERE name = %b AND count >= %b AND expires_at > %b
)
RETURNING *
"""
#: Write down that control was proven (now, until when; authorization, holder), with its audit record (its values in the
#: order of the columns). The journal is locked for one statement only; see ``db.journal``.
PROVE: Final = """
WITH proven AS (
    UPDATE acme_authorization
    SET status = 'valid', validated_at = %b, expires_at = %b, holder = NULL, held_until = NULL
    WHERE id = %b AND status = 'pending' AND holder = %b RETURNING id
), head AS (
    UPDATE journal_head SET audit_seq = audit_seq + 1 WHERE id = 1 AND EXISTS (SELECT FROM proven) RETURNING audit_seq
)
INSERT INTO audit_record (seq, at, actor_kind, actor, action, object_kind, object, outcome, organization, detail,
    correlation_id, source)
SELECT audit_seq, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b FROM head
RETURNING seq
"""
#: Take an order that is ready (request, source, holder, until when; order, now, now).
TAKE_ORDER: Final = """
UPDATE acme_order SET state = 'processing', request = %b, source = %b, holder = %b, held_until = %b
WHERE id = %b AND state = 'open' AND expires_at > %b AND cardinality(authorizations) = (
    SELECT count(*) FROM acme_authorization AS proof
    WHERE proof.id = ANY(acme_order.authorizations) AND proof.status = 'valid' AND proof.expires_at > %b
)
RETURNING *
"""
#: Write down the certificate of an order (certificate; order, holder).
FINISH_ORDER: Final = """
UPDATE acme_order SET state = 'valid', certificate_id = %b, waits = false, holder = NULL, held_until = NULL
WHERE id = %b AND state = 'processing' AND holder = %b
RETURNING *
"""

_CONNECTIONS: Final = 3

Row = Mapping[str, Any]


def audit_parameters(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an audit record (``audit.record.row``) in the order in which statements want them."""
    return (
        row["at"], row["actor_kind"], row["actor"], row["action"], row["object_kind"], row["object"], row["outcome"],
        row["organization"], Jsonb(row["detail"]), row["correlation_id"], row["source"],
    )  # fmt: skip


class Statements:
    """The connections of one process. Those that are not needed are not opened."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all = [OwnConnection(database) for _ in range(_CONNECTIONS)]
        self._free: asyncio.LifoQueue[OwnConnection] = asyncio.LifoQueue()
        for connection in self._all:
            self._free.put_nowait(connection)

    async def all(self, statement: LiteralString, *parameters: Any) -> Sequence[Row]:
        """All rows by column. Raises Unavailable, TimedOut."""
        try:
            async with asyncio.timeout(self._database.timeout), self._connection() as own:
                with translated_errors():
                    connection = await own.get()
                    async with connection.cursor(row_factory=dict_row) as cursor:
                        await cursor.execute(statement, parameters, prepare=True)
                        return await cursor.fetchall()
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout", retry_after=1) from None

    async def one(self, statement: LiteralString, *parameters: Any) -> Row | None:
        """The only row, None when there is none. Raises like :meth:`all`."""
        rows = await self.all(statement, *parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Give the connections up."""
        for connection in self._all:
            await connection.close()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[OwnConnection]:
        own = await self._free.get()
        try:
            yield own
        except BaseException:  # nobody can tell what it is doing now
            await own.close()
            raise
        finally:
            self._free.put_nowait(own)
