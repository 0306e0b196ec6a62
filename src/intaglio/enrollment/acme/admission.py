"""What the database is asked for every request: whether its nonce is used for the first time, and who the account is.

Requests that arrive at the same time ask by one statement. A nonce is used up before the signature is verified; whoever
signs wrongly has only wasted one that was his.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.rows import dict_row

from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, OwnConnection, translated_errors
from intaglio.enrollment.acme.errors import BadNonce
from intaglio.enrollment.acme.nonces import Nonces, OpenedNonce

log = get_logger(__name__)

_BATCH: Final = 256
# Takes nothing when the key is gone, and the used nonces with it.
_ADMIT: Final = """
WITH taken AS (
    INSERT INTO acme_nonce (nonce, expires_at)
    SELECT nonce, expires_at FROM unnest(%b::bytea[], %b::timestamptz[]) AS given (nonce, expires_at)
    WHERE EXISTS (SELECT FROM acme_nonce_key WHERE name = %b)
    ON CONFLICT DO NOTHING RETURNING nonce
)
SELECT nonce, NULL::uuid AS id, NULL::uuid AS endpoint_id, NULL AS status, NULL AS jwk, NULL::text[] AS contacts,
    NULL AS terms, NULL AS external_name, NULL::jsonb AS bound
FROM taken
UNION ALL
SELECT NULL, id, endpoint_id, status, jwk, contacts, terms, external_name, bound
FROM acme_account WHERE id = ANY(%b::uuid[])
"""
_IS_CURRENT: Final = "SELECT count(*) AS known FROM acme_nonce_key WHERE name = %b"

Row = Mapping[str, Any]


@dataclass
class _Waiting:
    nonce: OpenedNonce
    account_id: UUID | None
    done: asyncio.Future[tuple[bool, Row | None]]


class Admission:
    """Asks on a connection of its own, for all requests of a process."""

    def __init__(self, database: Database, nonces: Nonces) -> None:
        self._database = database
        self._nonces = nonces
        self._connection = OwnConnection(database)
        self._queue: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def admit(self, nonce: str, account_id: UUID | None) -> Row | None:
        """Use the nonce up; the row of ``acme_account``, None when there is none with this id.

        Raises BadNonce for a nonce that is not ours, too old or used; Unavailable, TimedOut.
        """
        opened = await self._nonces.opened(nonce)
        waiting = _Waiting(opened, account_id, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="acme-admission")
        is_first, account = await waiting.done
        if not is_first:
            raise BadNonce("The nonce was used before.")
        return account

    async def close(self) -> None:
        """Give the connection up."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.close()

    async def _drain(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
            for name in {waiting.nonce.key_name for waiting in batch}:
                await self._settle([waiting for waiting in batch if waiting.nonce.key_name == name], name)

    async def _settle(self, batch: Sequence[_Waiting], key_name: bytes) -> None:
        try:
            async with asyncio.timeout(self._database.timeout):
                taken, accounts = await self._ask(batch, key_name)
        except Exception as error:  # whatever it was: everybody who waits hears of it, and the next batch is tried
            await self._connection.close()
            refusal = error if isinstance(error, IntaglioError) else _unavailable()
            if refusal is not error:
                log.warning("requests could not be admitted", reason=str(error) or type(error).__name__)
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(refusal)
            return
        for waiting in batch:
            is_first = waiting.nonce.body in taken
            taken.discard(waiting.nonce.body)
            if not waiting.done.done():
                account = None if waiting.account_id is None else accounts.get(waiting.account_id)
                waiting.done.set_result((is_first, account))

    async def _ask(self, batch: Sequence[_Waiting], key_name: bytes) -> tuple[set[bytes], dict[UUID, Row]]:
        connection = await self._connection.get()
        nonces = [each.nonce.body for each in batch]
        expiries = [each.nonce.expires_at for each in batch]
        ids = [each.account_id for each in batch if each.account_id is not None]
        with translated_errors():
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(_ADMIT, [nonces, expiries, key_name, ids], prepare=True)
                rows = await cursor.fetchall()
                taken = {bytes(row["nonce"]) for row in rows if row["nonce"] is not None}
                if not taken:
                    await cursor.execute(_IS_CURRENT, [key_name])
                    known = await cursor.fetchone()
                    if known is None or not known["known"]:
                        self._nonces.forget_key(key_name)
        return taken, {row["id"]: row for row in rows if row["id"] is not None}


def _unavailable() -> Unavailable:
    return Unavailable("The request could not be admitted.", code="database-unavailable", retry_after=1)
