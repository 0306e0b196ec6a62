"""Nonces: given without writing anything, and taken once, over all processes and hosts.

A nonce names the key it was made under, says when, and carries a MAC; so nothing is stored of those that nobody uses.
Which were used is in the database, as long as they could be used again. Key and used nonces are in unlogged tables:
when PostgreSQL loses them after a crash, or a standby takes over, it loses both, and no nonce of before is good any
more. A client then gets ``badNonce`` with a new one, and repeats its request by itself (RFC 8555 section 6.5).

The key protects nothing but the size of the table (a nonce is free for whoever asks), so it is not sealed.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, OwnConnection, Transaction, translated_errors
from intaglio.enrollment.acme.errors import BadNonce, Malformed
from intaglio.enrollment.acme.strict_json import decode_base64url, encode_base64url

log = get_logger(__name__)

#: For how long a nonce can be used.
LIFETIME: Final = timedelta(minutes=15)
#: By how much the clocks of two hosts may differ.
_TOLERANCE: Final = timedelta(minutes=1)
_BATCH: Final = 256
_KEY_ID, _TIME, _RANDOM, _MAC = 4, 4, 8, 16
_BODY: Final = _KEY_ID + _TIME + _RANDOM

_MAKE_KEY = text("INSERT INTO acme_nonce_key (id, name, key) VALUES (1, :name, :key) ON CONFLICT DO NOTHING")
_READ_KEY = text("SELECT name, key FROM acme_nonce_key WHERE id = 1")
# Takes nothing when the key is gone, and the used nonces with it.
_SPEND = """
INSERT INTO acme_nonce (nonce, expires_at)
SELECT nonce, expires_at FROM unnest(%b::bytea[], %b::timestamptz[]) AS given (nonce, expires_at)
WHERE EXISTS (SELECT FROM acme_nonce_key WHERE name = %b)
ON CONFLICT DO NOTHING RETURNING nonce
"""
_IS_CURRENT = "SELECT count(*) FROM acme_nonce_key WHERE name = %b"
_PRUNE = text("DELETE FROM acme_nonce WHERE expires_at < :now")


@dataclass(frozen=True)
class _Key:
    name: bytes
    secret: bytes = field(repr=False)

    def mac(self, body: bytes) -> bytes:
        return hmac.digest(self.secret, body, "sha256")[:_MAC]


@dataclass
class _Waiting:
    body: bytes
    expires_at: datetime
    key: _Key
    done: asyncio.Future[bool]


class Nonces:
    """The nonces of one process. Those that are used at the same time are taken by one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = OwnConnection(database)
        self._key: _Key | None = None
        self._queue: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def fresh(self) -> str:
        """A new nonce. Raises Unavailable, TimedOut when there is no key yet and the database does not answer."""
        key = self._key or await self._load()
        body = key.name + int(clock.now().timestamp()).to_bytes(_TIME, "big") + os.urandom(_RANDOM)
        return encode_base64url(body + key.mac(body))

    async def spend(self, nonce: str) -> None:
        """Use a nonce up. Raises BadNonce for one that is not ours, too old or used; Unavailable, TimedOut."""
        key = self._key or await self._load()
        body, expires_at = self._opened(nonce, key)
        waiting = _Waiting(body, expires_at, key, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="acme-nonces")
        if not await waiting.done:
            raise BadNonce("The nonce was used before.")

    async def close(self) -> None:
        """Give the connection up."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.close()

    @staticmethod
    def _opened(nonce: str, key: _Key) -> tuple[bytes, datetime]:
        try:
            octets = decode_base64url(nonce, "The nonce")
        except Malformed:
            raise BadNonce("The nonce is not base64url.") from None
        body, mac = octets[:_BODY], octets[_BODY:]
        if len(octets) != _BODY + _MAC or body[:_KEY_ID] != key.name or not hmac.compare_digest(mac, key.mac(body)):
            raise BadNonce("The nonce is not one of this server, or from before a restart of its database.")
        made = datetime.fromtimestamp(int.from_bytes(body[_KEY_ID : _KEY_ID + _TIME], "big"), UTC)
        if not made - _TOLERANCE <= clock.now() <= made + LIFETIME:
            raise BadNonce("The nonce is too old.")
        return body, made + LIFETIME

    async def _load(self) -> _Key:
        async with self._database.transaction() as tx:
            row = await tx.one_or_none(_READ_KEY)
            if row is None:
                await tx.execute(_MAKE_KEY, {"name": os.urandom(_KEY_ID), "key": os.urandom(32)})
                row = await tx.one_or_none(_READ_KEY)
        if row is None:  # somebody else is making one, or the tables were emptied this moment
            raise Unavailable("There is no key for nonces yet.", retry_after=1)
        self._key = _Key(bytes(row["name"]), bytes(row["key"]))
        return self._key

    async def _drain(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
            for key in {waiting.key.name: waiting.key for waiting in batch}.values():
                await self._settle([waiting for waiting in batch if waiting.key.name == key.name], key)

    async def _settle(self, batch: list[_Waiting], key: _Key) -> None:
        try:
            async with asyncio.timeout(self._database.timeout):
                taken = await self._take(batch, key)
        except Exception as error:  # whatever it was: everybody who waits hears of it, and the next batch is tried
            await self._connection.close()
            refusal = error if isinstance(error, IntaglioError) else _unavailable()
            if refusal is not error:
                log.warning("nonces could not be taken", reason=str(error) or type(error).__name__)
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(refusal)
            return
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(waiting.body in taken)
            taken.discard(waiting.body)

    async def _take(self, batch: list[_Waiting], key: _Key) -> set[bytes]:
        connection = await self._connection.get()
        parameters = [[each.body for each in batch], [each.expires_at for each in batch], key.name]
        with translated_errors():
            cursor = await connection.execute(_SPEND, parameters, prepare=True)
            taken = {bytes(row[0]) for row in await cursor.fetchall()}
            if not taken:
                cursor = await connection.execute(_IS_CURRENT, [key.name])
                if not (await cursor.fetchone() or (0,))[0]:
                    self._key = None  # emptied: the next nonce is made under a new one
        return taken


async def prune(tx: Transaction) -> None:
    """Forget the used nonces that are too old to be used again."""
    await tx.execute(_PRUNE, {"now": clock.now() - _TOLERANCE})


def _unavailable() -> Unavailable:
    return Unavailable("The nonce could not be checked.", code="database-unavailable", retry_after=1)


