"""Sealing: within a second, new audit records are bound into a signed chain of hash trees.

A seal covers the records ``first_seq`` to ``last_seq``, names the hash of the seal before it, and is signed. Whoever
alters, removes or inserts a record afterwards would have to forge signatures. Sealing happens beside the hot path: a
request waits only for its own record.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import func, insert, select, text

from intaglio.audit.merkle import canonical, leaf_hash, root_hash
from intaglio.audit.models import audit_record, audit_seal
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.db.engine import Database, Transaction
from intaglio.db.journal import journal_head

log = get_logger(__name__)

CHUNK = 10_000
INTERVAL = 1.0
_LOCK = 0x1A7A6130  # advisory lock: one process seals at a time
FIRST_PREVIOUS = bytes(32)
SIGNED_PREFIX = b"intaglio audit seal 1\n"  # so that a seal's signature is never one over anything else
_SIGNED = ("number", "first_seq", "last_seq", "root", "previous", "sealed_at", "key_id")


class SealSigner(Protocol):
    """What sealing needs of a key: its id, its SubjectPublicKeyInfo (DER), and signatures."""

    @property
    def key_id(self) -> UUID: ...

    @property
    def spki(self) -> bytes: ...

    async def sign(self, data: bytes) -> bytes: ...


class Sealer:
    """Seals whenever there is something to seal.

    ``signer`` is asked for the key before every seal, so that a rotated key is used at once. ``wake`` may be called
    from a database watch; without it, records are looked for once a second.
    """

    def __init__(self, database: Database, signer: Callable[[], Awaitable[SealSigner]]) -> None:
        self._database = database
        self._signer = signer
        self._woken = asyncio.Event()

    async def wake(self) -> None:
        """There may be new records."""
        self._woken.set()

    async def run(self) -> None:
        """Seal until cancelled. Trouble with the database or the key is logged and tried again."""
        while True:
            try:
                # Less than a full seal means that the end was reached; what comes in meanwhile waits for the next one.
                while await seal_once(self._database, await self._signer()) == CHUNK:
                    pass
            except (IntaglioError, OSError) as error:
                log.error("audit records could not be sealed; trying again", reason=str(error))
            except Exception:  # a fault of ours must not end the sealing for good
                log.exception("audit records could not be sealed; trying again")
            await asyncio.sleep(INTERVAL / 4)  # gather what comes in together
            self._woken.clear()
            try:
                async with asyncio.timeout(INTERVAL / 2):
                    await self._woken.wait()
            except TimeoutError:
                continue


async def seal_once(database: Database, signer: SealSigner, *, chunk: int = CHUNK) -> int:
    """Seal up to ``chunk`` records above the last seal. Returns how many; 0 when there is nothing, or when another
    process is sealing at this moment."""
    async with database.transaction() as tx:
        if not await tx.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")):
            return 0
        last = await tx.one_or_none(select(audit_seal).order_by(audit_seal.c.number.desc()).limit(1))
        first_seq = last["last_seq"] + 1 if last else 1
        last_seq = min(int(await tx.scalar(select(journal_head.c.audit_seq))), first_seq + chunk - 1)
        if last_seq < first_seq:
            return 0
        leaves = await _leaves(tx, first_seq, last_seq)
        seal = {
            "number": last["number"] + 1 if last else 1,
            "first_seq": first_seq,
            "last_seq": last_seq,
            "root": root_hash(leaves),
            "previous": seal_hash(last) if last else FIRST_PREVIOUS,
            "sealed_at": tx.now,
            "key_id": signer.key_id,
        }
        signature = await signer.sign(signed_octets(seal))
        await tx.execute(insert(audit_seal).values(**seal, leaves=b"".join(leaves), signature=signature))
        return len(leaves)


async def unsealed(view: Transaction) -> int:
    """How many records no seal covers yet (a health figure)."""
    sealed = select(func.coalesce(func.max(audit_seal.c.last_seq), 0)).scalar_subquery()
    return int(await view.scalar(select(journal_head.c.audit_seq - sealed)))


def signed_octets(seal: Mapping[str, Any]) -> bytes:
    """What the signature of a seal covers."""
    return SIGNED_PREFIX + canonical({name: seal[name] for name in _SIGNED})


def seal_hash(seal: Mapping[str, Any]) -> bytes:
    """What the next seal names as ``previous``: the signed content and the signature."""
    return hashlib.sha256(signed_octets(seal) + b"\n" + bytes(seal["signature"])).digest()


def record_leaf(row: Mapping[str, Any]) -> bytes:
    """Leaf hash of an audit record."""
    return leaf_hash(canonical(row))


def missing_leaf(seq: int) -> bytes:
    """Leaf hash that stands for a record which was gone before it could be sealed."""
    return leaf_hash(canonical({"missing": seq}))


async def _leaves(tx: Transaction, first_seq: int, last_seq: int) -> Sequence[bytes]:
    query = select(audit_record).where(audit_record.c.seq.between(first_seq, last_seq))
    rows = await tx.all(query)
    # Hashing ten thousand records takes a good part of a second: not on the event loop.
    found = await asyncio.to_thread(lambda: {row["seq"]: record_leaf(row) for row in rows})
    if len(found) <= last_seq - first_seq:
        log.error("audit records are missing before they were sealed", first_seq=first_seq, last_seq=last_seq)
    return [found.get(seq) or missing_leaf(seq) for seq in range(first_seq, last_seq + 1)]
