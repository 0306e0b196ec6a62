"""What a source says, taken into the table of entries: copied beside it first, then as the difference of two sets.

Everything happens in the transaction of the caller: nobody ever sees half of a CRL. A statement over millions of rows
takes longer than the time limit of ordinary ones, so the limit is lifted for this transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text

from intaglio.db.engine import Transaction
from intaglio.db.journal import STATUS_CHANNEL
from intaglio.x509.crl_reading import HOLD, REMOVE_FROM_CRL, Entry

GOOD, REVOKED, HELD = 0, 1, 2
#: More changed certificates than this are announced as "any of the set".
MOST_ANNOUNCED = 5_000
#: How long changes are kept for processes that follow them.
CHANGES_KEPT = timedelta(hours=1)

#: Seconds that one statement of an import may take.
LONGEST_STATEMENT = 1_800

_CHUNK = 20_000  # rows handed to the database at a time
_MOST_REMEMBERED = 50_000
_STATES: dict[int | None, int] = {HOLD: HELD, REMOVE_FROM_CRL: GOOD}

#: Told how many rows have been read.
Progress = Callable[[int], None]


@dataclass
class Changes:
    """Certificates of a set whose status changed: how many, and which, as long as they are few. ``overlap``: a CRL
    named some that another one of the set names, too."""

    count: int = 0
    serials: list[bytes] = field(default_factory=list)
    overlap: bool = False

    def add(self, count: int, serials: Sequence[bytes]) -> None:
        self.count += count
        if len(self.serials) <= MOST_ANNOUNCED:
            self.serials += serials[: MOST_ANNOUNCED + 1]


@contextlib.asynccontextmanager
async def unhurried(tx: Transaction) -> AsyncIterator[None]:
    """Statements of this transaction may take half an hour instead of seconds, and the connection waits for them."""
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        await tx.execute(text(f"SET LOCAL {setting} = '{LONGEST_STATEMENT}s'"))
    await tx.execute(text("SET LOCAL work_mem = '64MB'"))
    # What the planner believes of a set that was just filled is wrong, and then a nested loop takes hours.
    await tx.execute(text("SET LOCAL enable_nestloop = off"))
    connection: Any = await _driver(tx)
    usual, connection.patience = connection.patience, float(LONGEST_STATEMENT)
    try:
        yield
    finally:
        connection.patience = usual  # it goes back to the pool


async def apply_crl(
    tx: Transaction,
    set_id: UUID,
    part: int,
    entries: Iterable[Entry],
    changes: Changes,
    progress: Progress,
    *,
    among_others: bool = False,
) -> int:
    """Make the revoked certificates of a part exactly those of a complete CRL. Returns how many there are.

    ``among_others``: look whether another part names one of them.
    """
    await _copy(tx, _CRL_TABLE, _crl_lines(entries), progress)
    where = {"set": set_id, "part": part}
    number = int(await tx.scalar(text("SELECT count(*) FROM incoming_crl")))
    if among_others and await tx.scalar(text(_OVERLAP), where):
        changes.overlap = True
    await _run(tx, _CRL_CHANGED, where, changes)
    await _run(tx, _CRL_GONE, where, changes)
    await tx.execute(text("DROP TABLE incoming_crl"))
    return number


async def apply_delta(
    tx: Transaction, set_id: UUID, part: int, entries: Iterable[Entry], changes: Changes, progress: Progress
) -> None:
    """Add what a delta CRL adds to a part, and take out what it removes. Source: RFC 5280 section 5.2.4."""
    await _copy(tx, _CRL_TABLE, _crl_lines(entries), progress)
    where = {"set": set_id, "part": part}
    await tx.execute(text("SET LOCAL enable_nestloop = on"))  # few rows, looked up one by one
    await _run(tx, _CRL_CHANGED, where, changes)
    await _run(tx, _DELTA_GONE, where, changes)
    await tx.execute(text("SET LOCAL enable_nestloop = off"))
    await tx.execute(text("DROP TABLE incoming_crl"))


async def apply_serials(
    tx: Transaction, set_id: UUID, serials: Iterable[bytes], changes: Changes, progress: Progress
) -> int:
    """Make the listed certificates of a set exactly those of a list of serial numbers. Returns how many there are."""
    await _copy(tx, _LIST_TABLE, _serial_lines(serials), progress)
    number = int(await tx.scalar(text("SELECT count(*) FROM incoming_list")))
    await _run(tx, _LISTED, {"set": set_id}, changes)
    await _run(tx, _UNLISTED, {"set": set_id}, changes)
    await tx.execute(text("DROP TABLE incoming_list"))
    return number


async def forget_part(tx: Transaction, set_id: UUID, part: int, changes: Changes) -> None:
    """Forget what a CRL said that is not read any more."""
    await _run(tx, _PART_GONE, {"set": set_id, "part": part}, changes)


async def announce(tx: Transaction, set_id: UUID, changes: Changes | None) -> None:
    """Take a new version and say what it changes; None for anything of the set. The last thing before the commit:
    the version's row is locked from here on, so that versions become visible in their order."""
    if changes is not None and not changes.count:
        return
    version = await tx.scalar(text("UPDATE status_head SET version = version + 1 WHERE id = 1 RETURNING version"))
    few = changes is not None and changes.count <= MOST_ANNOUNCED
    serials: list[bytes | None] = list(changes.serials) if changes is not None and few else [None]
    await tx.execute(
        text(
            "INSERT INTO status_change (version, set_id, serial, at) "
            "SELECT :version, :set, serial, now() FROM unnest(cast(:serials AS bytea[])) AS serial"
        ),
        {"version": version, "set": set_id, "serials": serials},
    )
    tx.notify(STATUS_CHANNEL)


async def prune_changes(tx: Transaction) -> None:
    """Forget changes that everybody has heard of."""
    await tx.execute(
        text("DELETE FROM status_change WHERE at < now() - cast(:kept AS interval)"), {"kept": CHANGES_KEPT}
    )


# ---- statements ------------------------------------------------------------------------------------------------------

_CRL_TABLE = (
    "CREATE TEMPORARY TABLE incoming_crl (serial bytea NOT NULL, state smallint NOT NULL, revoked_at timestamptz, "
    "reason smallint, invalidity_at timestamptz) ON COMMIT DROP"
)
_LIST_TABLE = "CREATE TEMPORARY TABLE incoming_list (serial bytea NOT NULL) ON COMMIT DROP"

_OVERLAP = """
SELECT EXISTS (
    SELECT FROM incoming_crl AS given JOIN status_entry AS known USING (serial)
    WHERE known.set_id = :set AND known.part <> :part AND known.state <> 0 AND given.state <> 0
)
"""

# Common table expressions, of which the last, "changed", has the serial numbers that changed.
# Of a certificate that a CRL names twice, revoked counts before held. In the order of the index, which is faster.
_CRL_CHANGED = """
given AS (
    SELECT DISTINCT ON (serial) * FROM incoming_crl WHERE state <> 0 ORDER BY serial, state, revoked_at
), changed AS (
    INSERT INTO status_entry AS entry (set_id, serial, state, part, revoked_at, reason, invalidity_at)
    SELECT :set, given.serial, given.state, :part, given.revoked_at, given.reason, given.invalidity_at
    FROM given LEFT JOIN status_entry AS known ON known.set_id = :set AND known.serial = given.serial
    WHERE (known.state, known.part, known.revoked_at, known.reason, known.invalidity_at)
        IS DISTINCT FROM (given.state, cast(:part AS smallint), given.revoked_at, given.reason, given.invalidity_at)
    ORDER BY given.serial
    ON CONFLICT (set_id, serial) DO UPDATE SET state = excluded.state, part = excluded.part,
        revoked_at = excluded.revoked_at, reason = excluded.reason, invalidity_at = excluded.invalidity_at
    RETURNING entry.serial
)
"""
_GONE = """
gone AS ({gone}), deleted AS (
    DELETE FROM status_entry AS entry USING gone
    WHERE entry.set_id = :set AND entry.serial = gone.serial AND NOT entry.listed RETURNING entry.serial
), released AS (
    UPDATE status_entry AS entry SET state = 0, part = 0, revoked_at = NULL, reason = NULL, invalidity_at = NULL
    FROM gone WHERE entry.set_id = :set AND entry.serial = gone.serial AND entry.listed RETURNING entry.serial
), changed AS (SELECT serial FROM deleted UNION ALL SELECT serial FROM released)
"""
_CRL_GONE = _GONE.format(
    gone="SELECT serial FROM status_entry WHERE set_id = :set AND part = :part AND state <> 0 "
    "AND NOT EXISTS (SELECT FROM incoming_crl AS given WHERE given.serial = status_entry.serial)"
)
_DELTA_GONE = _GONE.format(
    gone="SELECT DISTINCT status_entry.serial FROM status_entry JOIN incoming_crl AS given USING (serial) "
    "WHERE set_id = :set AND part = :part AND status_entry.state <> 0 AND given.state = 0 AND NOT EXISTS "
    "(SELECT FROM incoming_crl AS also WHERE also.serial = given.serial AND also.state <> 0)"  # both: revoked counts
)
_PART_GONE = _GONE.format(
    gone="SELECT serial FROM status_entry WHERE set_id = :set AND part = :part AND state <> 0"
)
_LISTED = """
changed AS (
    INSERT INTO status_entry AS entry (set_id, serial, state, listed)
    SELECT :set, given.serial, 0, true
    FROM (SELECT DISTINCT serial FROM incoming_list) AS given
    LEFT JOIN status_entry AS known ON known.set_id = :set AND known.serial = given.serial
    WHERE known.listed IS NOT TRUE
    ORDER BY given.serial
    ON CONFLICT (set_id, serial) DO UPDATE SET listed = true
    RETURNING entry.serial
)
"""
_UNLISTED = """
gone AS (
    SELECT serial FROM status_entry WHERE set_id = :set AND listed
    AND NOT EXISTS (SELECT FROM incoming_list AS given WHERE given.serial = status_entry.serial)
), deleted AS (
    DELETE FROM status_entry AS entry USING gone
    WHERE entry.set_id = :set AND entry.serial = gone.serial AND entry.state = 0 RETURNING entry.serial
), kept AS (
    UPDATE status_entry AS entry SET listed = false
    FROM gone WHERE entry.set_id = :set AND entry.serial = gone.serial AND entry.state <> 0 RETURNING entry.serial
), changed AS (SELECT serial FROM deleted UNION ALL SELECT serial FROM kept)
"""
# Only as many serial numbers are brought here as may be announced; all are counted where they are.
_COUNTED = """
SELECT count(*) AS count, array_agg(serial) FILTER (WHERE place <= :most) AS serials
FROM (SELECT serial, row_number() OVER () AS place FROM changed) AS numbered
"""


async def _run(tx: Transaction, expressions: str, parameters: dict[str, Any], changes: Changes) -> None:
    """Run a statement, and note which serial numbers it changed."""
    found = await tx.execute(text(f"WITH {expressions} {_COUNTED}"), {**parameters, "most": MOST_ANNOUNCED + 1})
    row = found.mappings().one()
    changes.add(row["count"], [bytes(serial) for serial in row["serials"] or ()])


def _crl_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Entries as rows of ``incoming_crl``; one that removes from the CRL has the state 0."""
    moments: dict[datetime, str] = {}
    for serial, revoked_at, reason, invalidity_at in entries:
        moment = moments.get(revoked_at)
        if moment is None:
            if len(moments) > _MOST_REMEMBERED:
                moments.clear()
            moment = moments[revoked_at] = revoked_at.isoformat()
        state = _STATES.get(reason, REVOKED)
        said = "\\N" if reason is None else reason
        invalid = "\\N" if invalidity_at is None else invalidity_at.isoformat()
        yield f"\\\\x{serial.hex()}\t{state}\t{moment}\t{said}\t{invalid}\n".encode()


def _serial_lines(serials: Iterable[bytes]) -> Iterator[bytes]:
    for serial in serials:
        yield b"\\\\x%b\n" % serial.hex().encode()


async def _copy(tx: Transaction, create: str, lines: Iterable[bytes], progress: Progress) -> None:
    """Copy rows beside the table of entries. They are made in a thread, some thousand at a time."""
    table = create.split()[3]
    await tx.execute(text(create))
    chunks = _chunks(iter(lines))
    done = 0
    async with (await _driver(tx)).cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            await copy.write(chunk[0])
            progress(done := done + chunk[1])
    await tx.execute(text(f"ANALYZE {table}"))


def _chunks(lines: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    while batch := list(islice(lines, _CHUNK)):
        yield b"".join(batch), len(batch)


async def _driver(tx: Transaction) -> psycopg.AsyncConnection[Any]:
    raw = await tx.connection.get_raw_connection()
    connection: psycopg.AsyncConnection[Any] = raw.driver_connection  # type: ignore[assignment]
    return connection
