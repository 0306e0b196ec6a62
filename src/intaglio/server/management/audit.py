"""The audit trail: reading it, proving it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from intaglio.audit.models import audit_seal
from intaglio.audit.proofs import inclusion_proof
from intaglio.audit.sealing import seal_hash
from intaglio.audit.search import AuditPage, AuditRecord
from intaglio.audit.verification import Checkpoint, Report, public_key_pem, verify
from intaglio.authority import trail
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.principal import Permission
from intaglio.db.listing import Listing
from intaglio.keystore.audit_key import audit_public_keys, rotate_audit_key
from intaglio.server import problems
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items
from intaglio.server.services import Services

router = APIRouter(tags=["audit"])

_LINES = "application/x-ndjson"
_PAUSE = 0.5  # seconds between two lines of progress


class Seal(BaseModel):
    """A seal over the records ``first_seq`` to ``last_seq``. ``hash`` is what a checkpoint keeps of it."""

    number: int
    first_seq: int
    last_seq: int
    root: str
    previous: str
    hash: str
    sealed_at: datetime
    key_id: UUID
    signature: str


class NewSealingKey(BaseModel):
    """Where the key is made: ``software`` or ``pkcs11:<token>``."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(default="software", max_length=80)


class PublicKey(BaseModel):
    """The public half of a key that seals the trail (PEM)."""

    key_id: UUID
    public_key: str


_SEALS = Listing(
    select(audit_seal),
    {"number": audit_seal.c.number, "sealed_at": audit_seal.c.sealed_at, "first_seq": audit_seal.c.first_seq,
     "last_seq": audit_seal.c.last_seq},
    identity=audit_seal.c.number,
    sort="-number",
    sortable=frozenset({"number"}),
)  # fmt: skip


@router.get("/audit")
async def list_audit_records(
    services: Given,
    asker: Asker,
    asked: Asked,
    organization: Annotated[str | None, Query(description="Only the records of this organization.")] = None,
) -> AuditPage:
    """Records, newest first: all with `audit.view`, otherwise those of the organizations one is a member of."""
    async with services.database.read() as view:
        return await trail.search_trail(view, asker, asked, organization=organization)


@router.get("/audit/seals")
async def list_seals(services: Given, asker: Asker, asked: Asked) -> Items[Seal]:
    """The signed chain of seals, newest first."""
    asker.require(Permission.AUDIT_VIEW)
    async with services.database.read() as view:
        found = await _SEALS.page(view, asked)
    return Items(items=[_seal(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


@router.get("/audit/public-keys")
async def list_audit_keys(services: Given, asker: Asker) -> Items[PublicKey]:
    """The keys that seal the trail, oldest first, to verify it elsewhere."""
    asker.require(Permission.AUDIT_VIEW)
    async with services.database.read() as view:
        keys = await audit_public_keys(view, services.keystore)
    return Items(items=[PublicKey(key_id=key_id, public_key=public_key_pem(spki)) for key_id, spki in keys.items()])


@router.post("/audit/rotate-key")
async def rotate_key(services: Given, asker: Asker, body: NewSealingKey | None = None) -> PublicKey:
    """Seal with a new key from now on; the old ones stay for verification."""
    provider = body.provider if body is not None else "software"
    async with services.database.transaction() as tx:
        signer = await rotate_audit_key(tx, services.keystore, principal=asker, provider=provider)
    return PublicKey(key_id=signer.key_id, public_key=public_key_pem(signer.spki))


@router.get("/audit/verify", response_class=StreamingResponse, responses={200: {"content": {_LINES: {}}}})
async def verify_audit(services: Given, asker: Asker, checkpoint: str | None = None) -> StreamingResponse:
    """Verify the whole trail. Answers one JSON object per line: `done`/`total` while it runs, then `report`.

    `checkpoint` is `number:last_seq:hash` of an earlier report: it also proves that history was not replaced.
    """
    asker.require(Permission.AUDIT_VIEW)
    kept = _checkpoint(checkpoint)
    return StreamingResponse(_verification(services, kept), media_type=_LINES)


@router.get("/audit/{seq}")
async def get_audit_record(services: Given, asker: Asker, seq: int) -> AuditRecord:
    """One record: any with `audit.view`, otherwise one of an organization one is a member of."""
    async with services.database.read() as view:
        return await trail.get_record(view, asker, seq)


@router.get("/audit/{seq}/proof")
async def get_proof(services: Given, asker: Asker, seq: int) -> dict[str, Any]:
    """Everything needed to check elsewhere that a record was sealed."""
    asker.require(Permission.AUDIT_VIEW)
    async with services.database.read() as view:
        seal = await view.one_or_none(
            select(audit_seal.c.key_id).where(audit_seal.c.first_seq <= seq, audit_seal.c.last_seq >= seq)
        )
        keys = await audit_public_keys(view, services.keystore)
        return await inclusion_proof(view, seq, keys.get(seal["key_id"]) if seal else None)


async def _verification(services: Services, checkpoint: Checkpoint | None) -> AsyncIterator[str]:
    """Progress lines at a bounded rate, then the report, or the refusal in its place."""
    progress = {"done": 0, "total": 0}

    async def run() -> Report:
        async with services.database.read() as view:
            keys = await audit_public_keys(view, services.keystore)
            return await verify(
                view,
                keys,
                checkpoint=checkpoint,
                progress=lambda done, total: progress.update(done=done, total=total),
            )

    task = asyncio.create_task(run())
    try:
        while not task.done():
            yield json.dumps(progress) + "\n"
            await asyncio.wait([task], timeout=_PAUSE)
        try:
            yield json.dumps({"report": _report(task.result())}) + "\n"
        except IntaglioError as error:
            yield json.dumps({"problem": problems.problem(error)}) + "\n"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, IntaglioError):
            await task


def _report(found: Report) -> dict[str, Any]:
    kept = found.checkpoint
    return {
        "intact": found.intact,
        "records": found.records,
        "seals": found.seals,
        "unsealed": found.unsealed,
        "first_bad_seq": found.first_bad_seq,
        "checkpoint": None if kept is None else f"{kept.number}:{kept.last_seq}:{kept.hash.hex()}",
        "truncated": found.truncated,
        "findings": [vars(finding) for finding in found.findings],
    }


def _checkpoint(text: str | None) -> Checkpoint | None:
    if text is None:
        return None
    try:
        number, last_seq, digest = text.split(":")
        return Checkpoint(int(number), int(last_seq), bytes.fromhex(digest))
    except ValueError:
        raise InvalidInput(
            "A checkpoint is number:last_seq:hash.",
            code="checkpoint-invalid",
            remedy="Use the checkpoint of an earlier report as it is.",
            target="query.checkpoint",
        ) from None


def _seal(row: Any) -> Seal:
    return Seal(
        number=row["number"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        root=bytes(row["root"]).hex(),
        previous=bytes(row["previous"]).hex(),
        hash=seal_hash(row).hex(),
        sealed_at=row["sealed_at"],
        key_id=row["key_id"],
        signature=bytes(row["signature"]).hex(),
    )
