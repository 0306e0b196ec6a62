"""Serial numbers and times that no two tokens share, whichever process makes them.

A serial number is a counter, put through a permutation under a secret key: so it is unique by construction, over all
processes, restarts, issuers and lengths, and yet tells nobody how many tokens were made or what the next one will be.
The counter comes from the database in blocks; what is left of a block when a process ends is never used. It is never
behind the microseconds since 1970, so that a database restored from a backup does not count the same numbers again.

Times of ordered tokens come from the database too, many at once: whoever waits while a statement is under way is
served by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from sqlalchemy.dialects.postgresql import insert

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.secrets import MasterKey
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Database, OwnConnection, Transaction, translated_errors
from intaglio.timestamping.models import timestamp_serial

log = get_logger(__name__)

SHORTEST_SERIAL: Final = 8
LONGEST_SERIAL: Final = 20
#: Counters a process takes at once, and how many are left when it goes for more.
BLOCK: Final = 4096
_REFILL_AT: Final = BLOCK // 4
_CHUNK: Final = 256  # serial numbers that are made at once
#: How far in the future the time of an ordered token may lie; a faster clock than this is a wrong one.
MAX_LEAD: Final = timedelta(seconds=1)

_ROUNDS: Final = 4
_LANE: Final = 16
_KEY_OCTETS: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_TAKE_BLOCK = (
    "UPDATE timestamp_serial "
    "SET given = greatest(given, (extract(epoch from clock_timestamp()) * 1000000)::bigint) + %s "
    "WHERE id = 1 RETURNING given, sealed"
)
_TAKE_TIMES = (
    "INSERT INTO timestamp_order (signer_id, latest) VALUES (%(signer)s, %(now)s + %(count)s) "
    "ON CONFLICT (signer_id) DO UPDATE SET latest = greatest(timestamp_order.latest, %(now)s) + %(count)s "
    "RETURNING latest"
)


def purpose_of(_row: int) -> str:
    """What the secret of the serial numbers is sealed for."""
    return "timestamp-serials"


async def ensure_numbers(tx: Transaction, master: MasterKey) -> None:
    """Make the counter and its secret where there are none yet."""
    sealed = master.seal(secrets.token_bytes(_KEY_OCTETS), purpose=purpose_of(1))
    await tx.execute(insert(timestamp_serial).values(id=1, sealed=sealed).on_conflict_do_nothing())


def scattered(key: bytes, counters: range, octets: int) -> list[bytes]:
    """The serial numbers of ``octets`` octets (8 to 20) that belong to counters below 2**62: positive, the first octet
    never zero.

    A Feistel network with AES as its round function, over the 8 * octets - 2 bits behind a leading 01: every counter
    has one serial number and the other way round (Luby and Rackoff 1988). All counters go through it at once, in lanes
    of 16 octets, which takes a twentieth of the time of one after the other.
    """
    count, half = len(counters), octets * 4 - 1
    mask = (1 << half) - 1
    every = _lanes([mask] * count)
    left, right = _lanes([each >> half for each in counters]), _lanes([each & mask for each in counters])
    # One block at a time under its own round number: there is no message here whose patterns could show.
    encrypt = Cipher(AES(key), ECB()).encryptor().update  # noqa: S305
    for number in range(_ROUNDS):
        blocks = right | _lanes([(number << 8 | octets) << 96] * count)
        digest = int.from_bytes(encrypt(blocks.to_bytes(_LANE * count, "big")), "big") & every
        left, right = right, left ^ digest
    if octets > _LANE:
        return _joined(left, right, count, octets)
    top = _lanes([1 << 2 * half] * count)
    whole = (top | left << half | right).to_bytes(_LANE * count, "big")
    return [whole[end - octets : end] for end in range(_LANE, _LANE * count + 1, _LANE)]


def _joined(left: int, right: int, count: int, octets: int) -> list[bytes]:
    """The serial numbers of lanes whose halves together are longer than a lane."""
    half = octets * 4 - 1
    lefts, rights = left.to_bytes(_LANE * count, "big"), right.to_bytes(_LANE * count, "big")
    whole, top = int.from_bytes, 1 << 2 * half
    return [
        (top | whole(lefts[at : at + _LANE]) << half | whole(rights[at : at + _LANE])).to_bytes(octets, "big")
        for at in range(0, _LANE * count, _LANE)
    ]


def _lanes(values: Sequence[int]) -> int:
    return int.from_bytes(b"".join([value.to_bytes(_LANE, "big") for value in values]), "big")


class SerialNumbers:
    """The serial numbers of one process."""

    def __init__(self, database: Database, master: MasterKey) -> None:
        self._master = master
        self._connection = OwnConnection(database)
        self._key = b""
        self._counters: list[range] = []
        self._prepared: dict[int, list[bytes]] = {}
        self._lock = asyncio.Lock()
        self._refill: asyncio.Task[None] | None = None
        self._troubles = Troubles()

    async def close(self) -> None:
        if self._refill is not None:
            self._refill.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refill
        await self._connection.close()

    def ready(self, octets: int) -> bytes | None:
        """A serial number, None when counters have to come from the database first."""
        prepared = self._prepared.get(octets)
        if not prepared:
            if not self._counters:
                return None
            prepared = self._prepare(octets)
        return prepared.pop()

    async def next(self, octets: int) -> bytes:
        """The same, waiting for counters. Raises Unavailable when it takes the database, which is away."""
        while (serial := self.ready(octets)) is None:
            async with self._lock:
                if not self._counters:
                    await self._take()
        return serial

    def _prepare(self, octets: int) -> list[bytes]:
        """Serial numbers of this length from the counters at hand; goes for more counters when few are left."""
        block = self._counters.pop()
        if len(block) > _CHUNK:
            self._counters.append(block[_CHUNK:])
        prepared = self._prepared[octets] = scattered(self._key, block[:_CHUNK], octets)
        if sum(map(len, self._counters)) <= _REFILL_AT and (self._refill is None or self._refill.done()):
            self._refill = asyncio.create_task(self._refill_quietly(), name="timestamp-serials")
        return prepared

    async def _refill_quietly(self) -> None:
        try:
            async with self._lock:
                await self._take()
            self._troubles.over("refill")
        except IntaglioError as error:
            if self._troubles.worth_reporting("refill"):
                log.warning("no more serial numbers of timestamps to be had", reason=str(error))

    async def _take(self) -> None:
        row = await _fetch(self._connection, _TAKE_BLOCK, (BLOCK,))
        if row is None:
            raise Unavailable("There is no timestamp issuer yet.", code="timestamp-numbers-missing")
        given, sealed = row
        self._key = self._master.open(bytes(sealed), purpose=purpose_of(1))
        self._counters.insert(0, range(given - BLOCK, given))


class OrderedTimes:
    """Times for tokens whose order is told by their times alone: strictly increasing over all processes."""

    def __init__(self, database: Database) -> None:
        self._connection = OwnConnection(database)
        self._waiting: dict[UUID, list[asyncio.Future[datetime]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()

    async def next(self, signer: UUID) -> datetime:
        """A time later than that of every token of this signer, in microseconds.

        Raises Unavailable when the database is away, or (``clock-behind``) when a token was dated further into the
        future than clocks that are kept right can differ.
        """
        future: asyncio.Future[datetime] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(signer, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve(), name="timestamp-order")
        return await future

    async def _serve(self) -> None:
        while self._waiting:
            signer = next(iter(self._waiting))
            asked = [future for future in self._waiting.pop(signer) if not future.done()]
            if not asked:
                continue
            try:
                times = await self._take(signer, len(asked))
            except BaseException as error:
                told = error if isinstance(error, IntaglioError) else Unavailable("No time is to be had.")
                for future in asked:
                    if not future.done():
                        future.set_exception(told)
                if not isinstance(error, IntaglioError):
                    raise
                continue
            for future, at in zip(asked, times, strict=True):
                if not future.done():
                    future.set_result(at)

    async def _take(self, signer: UUID, count: int) -> list[datetime]:
        now = clock.now()
        microseconds = (now - _EPOCH) // _MICROSECOND
        row = await _fetch(self._connection, _TAKE_TIMES, {"signer": signer, "now": microseconds, "count": count})
        assert row is not None
        latest = int(row[0])
        if timedelta(microseconds=latest - microseconds) > MAX_LEAD + timedelta(microseconds=count):
            raise Unavailable(
                "The latest ordered timestamp lies in the future.",
                code="clock-behind",
                remedy="Set the clocks of all hosts right; timestamping goes on once they have passed that time.",
                retry_after=1,
            )
        first = latest - count + 1
        return [_EPOCH + timedelta(microseconds=first + number) for number in range(count)]


async def _fetch(own: OwnConnection, statement: str, parameters: Any) -> tuple[Any, ...] | None:
    """The one row of a statement that is a transaction of its own."""
    try:
        with translated_errors():
            connection = await own.get()
            row: tuple[Any, ...] | None = await (await connection.execute(statement, parameters)).fetchone()
            return row
    except (IntaglioError, psycopg.Error):
        await own.close()
        raise
