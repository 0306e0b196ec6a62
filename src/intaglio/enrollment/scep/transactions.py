"""Transactions: whose they are, and what they asked for, over all processes and restarts.

A client repeats its message when it got no answer, and polls with the id of its transaction. Many derive the id from
their key, so the same id comes back when they ask again with the same key, for the same or for something else.

Who is the first to ask holds the transaction while its certificate is issued. Its row is written before the
certificate and, by the order of the log, is there after a crash if the certificate is; so a certificate that was issued
by somebody who died before he could note it is found by its key. Waiting for the disk here would gain nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, select

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, StateConflict
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, Transaction
from intaglio.db.gathered import Gathered
from intaglio.enrollment.approvals import KEPT, WAITS
from intaglio.enrollment.own_statements import OwnStatements
from intaglio.enrollment.scep.models import transaction as table
from intaglio.enrollment.values import Endpoint
from intaglio.x509.requests import CertificateRequest

log = get_logger(__name__)

#: How long somebody who issues may take before others think that he died.
HELD: Final = timedelta(seconds=30)

#: Seconds in which outcomes are gathered before they are written.
_NOTED_WITHIN: Final = 0.02

# One that is somebody else's is not changed, and so not returned; one that asks for the same keeps what it has.
_ENTER: Final = """
WITH quick AS (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO scep_transaction AS t
    (endpoint_id, digest, signer, wish, key, holder, held_until, created_at, seen_at)
SELECT i.endpoint_id, i.digest, i.signer, i.wish, i.key, i.key, %(held_until)s::timestamptz, %(now)s::timestamptz,
       %(now)s::timestamptz
FROM quick, unnest(%(endpoint_id)s::uuid[], %(digest)s::bytea[], %(signer)s::bytea[], %(wish)s::bytea[],
                   %(key)s::text[]) AS i(endpoint_id, digest, signer, wish, key)
ON CONFLICT (endpoint_id, digest) DO UPDATE SET
    seen_at = excluded.seen_at,
    wish = excluded.wish,
    key = CASE WHEN t.wish = excluded.wish THEN t.key ELSE excluded.key END,
    certificate_id = CASE WHEN t.wish = excluded.wish THEN t.certificate_id END,
    created_at = CASE WHEN t.wish = excluded.wish THEN t.created_at ELSE excluded.created_at END,
    holder = CASE WHEN t.wish = excluded.wish AND t.held_until > excluded.seen_at THEN t.holder
                  ELSE excluded.holder END,
    held_until = CASE WHEN t.wish = excluded.wish AND t.held_until > excluded.seen_at THEN t.held_until
                      ELSE excluded.held_until END
WHERE t.signer = excluded.signer
RETURNING endpoint_id, digest, key, holder, certificate_id, created_at
"""
_NOTE: Final = """
WITH quick AS (SELECT set_config('synchronous_commit', 'off', true))
UPDATE scep_transaction AS t SET holder = NULL, held_until = NULL, certificate_id = i.certificate_id
FROM quick, unnest(%(endpoint_id)s::uuid[], %(digest)s::bytea[], %(holder)s::text[], %(certificate_id)s::uuid[])
    AS i(endpoint_id, digest, holder, certificate_id)
WHERE t.endpoint_id = i.endpoint_id AND t.digest = i.digest AND t.holder = i.holder
"""


@dataclass(frozen=True)
class Entry:
    """A transaction as it was entered. ``key`` names its request everywhere behind; ``holder`` is this attempt when it
    is the one that may issue, and somebody else otherwise (``mine``); ``repeated``: it asked for the same before;
    ``certificate_id`` is what came of it; ``since`` is when that was first asked for."""

    endpoint_id: UUID
    digest: bytes
    key: str
    holder: str
    mine: bool
    repeated: bool
    certificate_id: UUID | None
    since: datetime


class Transactions:
    """The transactions of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = OwnStatements(database)
        self._entering = Gathered(self._enter)
        self._to_note: list[Mapping[str, Any]] = []
        self._noting: asyncio.Task[None] | None = None

    async def enter(self, endpoint: Endpoint, name: bytes, signer: bytes, wish: bytes) -> Entry:
        """Note that the holder of the key ``signer`` (SubjectPublicKeyInfo) asks for ``wish`` in the transaction
        ``name``.

        Raises StateConflict (``scep-transaction-taken``) when it is somebody else's.
        """
        fresh = secrets.token_hex(16)
        row = await self._entering.do(
            {
                "endpoint_id": endpoint.id,
                "digest": _digest(name),
                "signer": key_digest(signer),
                "wish": wish,
                "key": fresh,
            }
        )
        if row is None:
            raise taken()
        return Entry(
            endpoint.id,
            row["digest"],
            row["key"],
            row["holder"] or "",
            row["holder"] == fresh,
            row["key"] != fresh,
            row["certificate_id"],
            row["created_at"],
        )

    def note(self, entry: Entry, certificate_id: UUID | None) -> None:
        """What came of an attempt, which holds the transaction no longer; None when it was refused.

        It is written a moment later, with others. Whoever asks before that waits, and what is never written because the
        process died is found by its key.
        """
        self._to_note.append(
            {
                "endpoint_id": entry.endpoint_id,
                "digest": entry.digest,
                "holder": entry.holder,
                "certificate_id": certificate_id,
            }
        )
        if self._noting is None:
            self._noting = asyncio.create_task(self._write_notes())

    async def find(self, endpoint: Endpoint, name: bytes, signer: bytes) -> tuple[str, UUID | None] | None:
        """The key and the certificate of a transaction; None when there is none. Raises StateConflict
        (``scep-transaction-taken``)."""
        c = table.c
        query = select(c.key, c.signer, c.certificate_id).where(c.endpoint_id == endpoint.id, c.digest == _digest(name))
        async with self._database.read() as view:
            row = await view.one_or_none(query)
        if row is None:
            return None
        if row["signer"] != key_digest(signer):
            raise taken()
        return row["key"], row["certificate_id"]

    async def close(self) -> None:
        """Write what is to be noted, and give the connection back."""
        if self._noting is not None:
            await asyncio.gather(self._noting, return_exceptions=True)
        await self._statements.close()

    async def _enter(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | None]:
        # A statement may touch a row only once; a message that came twice at the same moment takes another.
        found: list[Mapping[str, Any] | None] = [None] * len(items)
        left, now = list(range(len(items))), clock.now()
        while left:
            first = {(items[i]["endpoint_id"], items[i]["digest"]): i for i in reversed(left)}
            # In one order everywhere, so that two processes never wait for each other.
            chosen = sorted((items[i] for i in first.values()), key=lambda item: item["digest"])
            parameters: dict[str, Any] = {name: [item[name] for item in chosen] for name in chosen[0]}
            for row in await self._statements.all(_ENTER, {**parameters, "now": now, "held_until": now + HELD}):
                found[first[row["endpoint_id"], row["digest"]]] = row
            left = [i for i in left if i not in first.values()]
        return found

    async def _write_notes(self) -> None:
        try:
            while self._to_note:
                await asyncio.sleep(_NOTED_WITHIN)
                items, self._to_note = self._to_note, []
                items.sort(key=lambda item: item["digest"])
                await self._statements.all(_NOTE, {name: [item[name] for item in items] for name in items[0]})
        except IntaglioError as error:
            log.warning("what came of SCEP requests was not noted", count=len(items), reason=str(error))
        finally:
            self._noting = None


def wish_of(request: CertificateRequest, renewed: bytes = b"") -> bytes:
    """What a request asks for; ``renewed`` is the serial number of the certificate that it follows. The signature of a
    request and its challenge may differ from one attempt to the next."""
    extensions = [each.oid.encode() + bytes([each.critical]) + each.value for each in request.extensions]
    parts = [renewed, request.spki, request.subject.der, *extensions]
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


async def prune(tx: Transaction) -> None:
    """Forget transactions that nobody can continue any more."""
    await tx.execute(delete(table).where(table.c.seen_at < tx.now - (WAITS + KEPT)))


def taken() -> StateConflict:
    """The refusal of somebody else's transaction."""
    return StateConflict(
        "This transaction was begun with another key.",
        code="scep-transaction-taken",
        remedy="Begin a transaction with an id of its own.",
    )


def key_digest(spki: bytes) -> bytes:
    """What a transaction keeps of the key that signs its messages."""
    return _digest(spki)


def _digest(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()
