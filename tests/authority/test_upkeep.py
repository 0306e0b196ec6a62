"""The loop that keeps everything up, alone and beside others of its kind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select
from tests.support.authority import make_hierarchy
from tests.support.eventually import eventually

from intaglio.authority import crls, models, upkeep
from intaglio.authority.context import Authority
from intaglio.core.identifiers import new_id
from intaglio.db.listen import Watch


@contextlib.asynccontextmanager
async def _running(authority: Authority, copies: int = 1) -> AsyncIterator[None]:
    watch, stop = Watch(authority.database), asyncio.Event()
    await watch.start()
    loops = [asyncio.create_task(upkeep.run_upkeep(authority, watch, stop)) for _ in range(copies)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*loops)
        await watch.stop()


async def _count(authority: Authority, ca_name: str) -> tuple[int, int]:
    """How many CRLs and OCSP signers a CA has."""
    ca = (await authority.snapshot()).ca(ca_name)
    async with authority.database.read() as view:
        counts = [
            int(await view.scalar(select(func.count()).select_from(table).where(table.c.ca_id == ca.id)))
            for table in (models.crl, models.ocsp_signer)
        ]
    return counts[0], counts[1]


async def test_a_new_ca_has_its_crl_and_signer_soon_and_only_once_although_three_look_after_it(
    authority: Authority, organization: str
) -> None:
    async with _running(authority, copies=3):
        await make_hierarchy(authority)
        for name in ("demo~root", "demo~issuing"):
            await eventually(lambda name=name: _has_both(authority, name))  # type: ignore[misc]
    assert await _count(authority, "demo~root") == (1, 1)
    assert await _count(authority, "demo~issuing") == (1, 1)


async def _has_both(authority: Authority, name: str) -> bool:
    return min(await _count(authority, name)) >= 1


async def test_kept_answers_are_forgotten_after_a_day(authority: Authority) -> None:
    async with authority.database.transaction() as tx:
        for key, age in (("old", timedelta(hours=25)), ("new", timedelta(hours=23))):
            await tx.execute(insert(models.idempotency).values(**_kept(key, new_id()), created_at=tx.now - age))
    await upkeep.prune(authority)
    async with authority.database.read() as view:
        assert [row["key"] for row in await view.all(select(models.idempotency.c.key))] == ["new"]


def _kept(key: str, certificate_id: UUID) -> dict[str, object]:
    return {"caller": "alice", "key": key, "request_hash": bytes(32), "certificate_id": certificate_id}


async def test_trouble_with_one_ca_does_not_hold_up_the_others(
    authority: Authority, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_hierarchy(authority)
    issue = crls.issue_if_due

    async def troubled(authority: Authority, due: crls.Due) -> tuple[crls.StoredCrl, ...]:
        if due.ca.name == "root":
            raise ValueError("a row was altered by hand")
        return await issue(authority, due)

    monkeypatch.setattr("intaglio.authority.upkeep.crls.issue_if_due", troubled)
    assert await upkeep.run_due_crls(authority) >= 1
    assert (await _count(authority, "demo~root"))[0] == 0
    assert (await _count(authority, "demo~issuing"))[0] == 1
