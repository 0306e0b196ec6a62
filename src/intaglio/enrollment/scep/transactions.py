"""Transactions: whose they are, and what they asked for, over all processes and restarts.

A client repeats its message when it got no answer, and polls with the id of its transaction. Many derive the id from
their key, so the same id comes back when they ask again with the same key, for the same or for something else.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core.errors import StateConflict
from intaglio.db.engine import Transaction
from intaglio.enrollment.approvals import KEPT, WAITS
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.scep.models import transaction as table
from intaglio.enrollment.values import Endpoint
from intaglio.x509.requests import CertificateRequest


@dataclass(frozen=True)
class Entry:
    """A transaction: ``key`` names its request everywhere behind; ``repeated`` says that it asked for the same
    before."""

    key: str
    repeated: bool


def wish_of(request: CertificateRequest, renewed: bytes = b"") -> bytes:
    """What a request asks for; ``renewed`` is the serial number of the certificate that it follows. The signature of a
    request and its challenge may differ from one attempt to the next."""
    extensions = [each.oid.encode() + bytes([each.critical]) + each.value for each in request.extensions]
    parts = [renewed, request.spki, request.subject.der, *extensions]
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


async def enter(enrollment: Enrollment, endpoint: Endpoint, name: bytes, signer: bytes, wish: bytes) -> Entry:
    """Note that the holder of the key ``signer`` (SubjectPublicKeyInfo) asks for ``wish`` in the transaction ``name``.

    Raises StateConflict (``scep-transaction-taken``) when it is somebody else's.
    """
    c, fresh, held = table.c, secrets.token_hex(16), key_digest(signer)
    async with enrollment.database.transaction() as tx:
        statement = upsert(table).values(
            endpoint_id=endpoint.id, digest=_digest(name), signer=held, wish=wish, key=fresh, created_at=tx.now,
            seen_at=tx.now,
        )  # fmt: skip
        same = c.wish == statement.excluded.wish
        row = await tx.one_or_none(
            statement.on_conflict_do_update(
                index_elements=["endpoint_id", "digest"],
                set_={
                    "seen_at": tx.now,
                    "wish": statement.excluded.wish,
                    "key": case((same, c.key), else_=statement.excluded.key),
                },
                where=c.signer == held,
            ).returning(c.key)
        )
    if row is None:
        raise taken()
    return Entry(row["key"], row["key"] != fresh)


async def find(enrollment: Enrollment, endpoint: Endpoint, name: bytes, signer: bytes) -> str | None:
    """The key of the request that a transaction is about; None when there is none. Raises StateConflict
    (``scep-transaction-taken``)."""
    c = table.c
    query = select(c.key, c.signer).where(c.endpoint_id == endpoint.id, c.digest == _digest(name))
    async with enrollment.database.read() as view:
        row = await view.one_or_none(query)
    if row is None:
        return None
    if row["signer"] != key_digest(signer):
        raise taken()
    key: str = row["key"]
    return key


async def begin_anew(enrollment: Enrollment, endpoint: Endpoint, name: bytes, old: str) -> str:
    """Another key for a transaction whose certificate was revoked meanwhile; the same for all who see the old one."""
    c = table.c
    async with enrollment.database.transaction() as tx:
        mine = c.endpoint_id == endpoint.id, c.digest == _digest(name)
        await tx.execute(update(table).where(*mine, c.key == old).values(key=secrets.token_hex(16), seen_at=tx.now))
        return str(await tx.scalar(select(c.key).where(*mine)))


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
