"""Group commit of issued certificates: one statement for everything that arrived while the last one ran.

Row, event and audit record of a certificate are written by the same statement, together with the journal numbers and
the check of the configuration epoch. A certificate that renews another one is recorded only while that one is valid.
A caller is answered only after PostgreSQL has made the statement durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import psycopg

from intaglio.authority.certificates import CertificateRecord
from intaglio.core.errors import IntaglioError, StateConflict, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, OwnConnection, translated_errors
from intaglio.db.journal import EpochMoved

log = get_logger(__name__)

MAX_BATCH = 256
_SAN_SEPARATOR = "\x1f"  # cannot occur in displayed names: control characters are escaped there


@dataclass(frozen=True)
class IssuedRow(CertificateRecord):
    """A row of ``certificate`` to be, with its audit record.

    With ``renewal`` it is recorded only while the certificate ``previous_id`` is valid; with ``once`` (caller, key,
    SHA-256 over the request) only as the first one of this caller under this key.
    """

    spki_sha256: bytes = field(repr=False)
    renewal: bool
    audit: Mapping[str, Any] = field(repr=False)  # values of `audit.record.row`
    once: tuple[str, str, bytes] | None = field(default=None, repr=False)

    @property
    def columns(self) -> dict[str, Any]:
        """Values by column of ``certificate``."""
        values = {each.name: getattr(self, each.name) for each in fields(CertificateRecord)}
        values |= {"sans": list(self.sans), "properties": dict(self.properties)}
        return values | {"spki_sha256": self.spki_sha256}

    @property
    def parameters(self) -> tuple[Any, ...]:
        """Values in the order of ``_COLUMNS``."""
        audit = self.audit
        return (
            self.id, self.ca_id, self.generation, self.partition, self.serial, self.subject, self.subject_key,
            _SAN_SEPARATOR.join(self.sans), self.profile, self.not_before, self.not_after, self.issued_at,
            self.spki_sha256, self.der, self.previous_id, self.requester, self.channel, json.dumps(self.properties),
            audit["actor_kind"], audit["actor"], audit["action"], audit["object"], audit["organization"],
            json.dumps(audit["detail"]), audit["correlation_id"], audit["source"], *(self.once or (None, None, None)),
        )  # fmt: skip


# Name and array type of every parameter of the statement, in order.
_COLUMNS = (
    ("id", "uuid"), ("ca_id", "uuid"), ("generation", "int4"), ("part", "int2"), ("serial", "bytea"),
    ("subject", "text"), ("subject_key", "bytea"), ("sans", "text"), ("profile", "text"), ("not_before", "timestamptz"),
    ("not_after", "timestamptz"), ("issued_at", "timestamptz"), ("spki_sha256", "bytea"), ("der", "bytea"),
    ("previous_id", "uuid"), ("requester", "text"), ("channel", "text"), ("properties", "text"),
    ("actor_kind", "text"), ("actor", "text"), ("action", "text"), ("object", "text"), ("organization", "text"),
    ("detail", "text"), ("correlation_id", "text"), ("source", "text"), ("once_caller", "text"), ("once_key", "text"),
    ("once_hash", "bytea"),
)  # fmt: skip

# Holds on to the renewed certificates until the end of the statement: who revokes one of them comes before or after.
# Taken before the journal is locked, as revoking does, and in one order, so that nobody waits in a circle.
_RENEWED = """
renewed AS MATERIALIZED (
    SELECT id FROM certificate WHERE id = ANY(%b::uuid[]) AND status = 'valid' ORDER BY id FOR SHARE
), """
_ALL_RENEWED = "AND (SELECT count(*) FROM renewed) = %b"


def _statement(*, renewals: bool) -> str:
    """The statement; the one without renewals has nothing to look up."""
    return f"""
WITH {_RENEWED if renewals else ""}head AS (
    UPDATE journal_head SET event_seq = event_seq + %b, audit_seq = audit_seq + %b
    WHERE id = 1 AND epoch = %b {_ALL_RENEWED if renewals else ""} RETURNING event_seq, audit_seq
), item AS MATERIALIZED (
    SELECT * FROM unnest({", ".join(f"%b::{kind}[]" for _, kind in _COLUMNS)})
    WITH ORDINALITY AS t({", ".join(name for name, _ in _COLUMNS)}, position)
), certificates AS (
    INSERT INTO certificate (id, ca_id, generation, partition, serial, subject, subject_key, sans, profile, not_before,
        not_after, issued_at, spki_sha256, der, previous_id, requester, channel, properties)
    SELECT id, ca_id, generation, part, serial, subject, subject_key,
        CASE WHEN sans = '' THEN '{{}}'::text[] ELSE string_to_array(sans, chr(31)) END, profile, not_before,
        not_after, issued_at, spki_sha256, der, previous_id, requester, channel, properties::jsonb
    FROM item, head
), kept AS (
    INSERT INTO idempotency (caller, key, request_hash, certificate_id, created_at)
    SELECT once_caller, once_key, once_hash, id, issued_at FROM item, head WHERE once_caller IS NOT NULL
), events AS (
    INSERT INTO certificate_event (seq, at, ca_id, action, certificate_id, serial, detail)
    SELECT head.event_seq - %b + position, issued_at, ca_id, 'issued', id, serial, '{{}}'::jsonb FROM item, head
), records AS (
    INSERT INTO audit_record (seq, at, actor_kind, actor, action, object_kind, object, outcome, organization, detail,
        correlation_id, source)
    SELECT head.audit_seq - %b + position, issued_at, actor_kind, actor, action, 'certificate', object, 'success',
        organization, detail::jsonb, correlation_id, source FROM item, head
)
SELECT (SELECT count(*) FROM head), {"(SELECT count(*) FROM renewed)" if renewals else "0"}
"""  # noqa: S608 - composed of constants only


_PLAIN, _WITH_RENEWALS = _statement(renewals=False), _statement(renewals=True)


class RenewedChanged(StateConflict):
    """The certificate to be renewed was revoked or put on hold meanwhile; nothing was written."""

    default_code = "certificate-changed"

    def __init__(self) -> None:
        super().__init__("The certificate to be renewed is no longer valid.", remedy="Enrol anew with a new key.")


@dataclass
class _Waiting:
    row: IssuedRow
    epoch: int
    done: asyncio.Future[None]


class GroupCommit:
    """Commits the certificates of concurrent requests of this process together, on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection = OwnConnection(database)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="group-commit")

    async def stop(self) -> None:
        """Finish what is queued, then stop."""
        while self._queue:
            await asyncio.wait([waiting.done for waiting in list(self._queue)], timeout=self._database.timeout)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()

    async def commit(self, row: IssuedRow, *, epoch: int) -> None:
        """Return once ``row`` is durable.

        Raises EpochMoved, RenewedChanged, StateConflict (``already-exists``: its key was used before; nothing was
        written in each of these cases), Unavailable (the database cannot be reached; whether the
        certificate was recorded is unknown, and the caller must not hand it out), TimedOut.
        """
        waiting = _Waiting(row, epoch, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        await waiting.done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            if not self._queue:
                self._wake.clear()
            for epoch in sorted({waiting.epoch for waiting in batch}):
                await self._commit_batch([w for w in batch if w.epoch == epoch], epoch)

    async def _commit_batch(self, batch: Sequence[_Waiting], epoch: int) -> None:
        try:
            async with asyncio.timeout(self._database.timeout):
                await self._execute([waiting.row for waiting in batch], epoch)
        except TimeoutError:
            await self._connection.close()
            self._settle(batch, TimedOut("The database did not answer in time.", code="database-timeout"))
        except EpochMoved as moved:
            self._settle(batch, moved)
        except RenewedChanged as changed:
            if len(batch) == 1:
                self._settle(batch, changed)
            for waiting in batch if len(batch) > 1 else ():
                await self._commit_batch([waiting], epoch)
        except (IntaglioError, psycopg.Error, OSError) as error:
            await self._connection.close()
            if len(batch) > 1 and not isinstance(error, Unavailable | TimedOut):
                # One bad row must not fail its neighbours.
                for waiting in batch:
                    await self._commit_batch([waiting], epoch)
            else:
                self._settle(batch, error if isinstance(error, IntaglioError) else Unavailable(
                    "The certificate could not be recorded.", code="database-unavailable"))  # fmt: skip
        except Exception as error:  # whatever it was: everybody who waits hears of it, and this task must outlive it
            log.exception("certificates could not be recorded", count=len(batch))
            await self._connection.close()
            self._settle(batch, error)
        else:
            self._settle(batch, None)

    async def _execute(self, rows: Sequence[IssuedRow], epoch: int) -> None:
        connection = await self._connection.get()
        count = len(rows)
        columns = [list(column) for column in zip(*(row.parameters for row in rows), strict=True)]
        parameters: list[Any] = [count, count, epoch, *columns, count, count]
        renewed = {row.previous_id for row in rows if row.renewal}
        if renewed:
            parameters = [list(renewed), count, count, epoch, len(renewed), *columns, count, count]
        with translated_errors():
            cursor = await connection.execute(_WITH_RENEWALS if renewed else _PLAIN, parameters, prepare=True)
            outcome = await cursor.fetchone()
        assert outcome is not None  # a SELECT of scalars has one row
        written, still_valid = outcome
        if still_valid < len(renewed):
            raise RenewedChanged
        if not written:
            raise EpochMoved

    @staticmethod
    def _settle(batch: Sequence[_Waiting], error: Exception | None) -> None:
        for waiting in batch:
            if waiting.done.done():
                continue
            if error is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(error)
