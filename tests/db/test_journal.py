from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import select

from intaglio.audit.models import audit_record
from intaglio.audit.record import record
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Database
from intaglio.db.journal import EpochMoved, journal_head

WRITERS, ROUNDS = 20, 8


class GivenUp(Exception):
    """A writer's change of mind."""


async def write(database: Database, writer: int, chance: random.Random) -> None:
    for number in range(ROUNDS):
        try:
            async with database.transaction() as tx:
                for row in range(chance.randint(1, 3)):
                    record(tx, SYSTEM, "thing.do", "thing", f"{writer}-{number}-{row}")
                if chance.random() < 0.3:
                    raise GivenUp
        except GivenUp:
            continue


async def seen(database: Database) -> tuple[list[int], int]:
    async with database.read() as view:
        head = await view.scalar(select(journal_head.c.audit_seq))
        rows = await view.all(select(audit_record.c.seq).order_by(audit_record.c.seq))
    return [row["seq"] for row in rows], head


@pytest.mark.parametrize("seed", range(3))
async def test_numbers_are_gapless_and_become_visible_in_their_order(database_url: str, seed: int) -> None:
    """Twenty writers, three in ten of whose transactions are rolled back; a reader looks all the time."""
    database = Database(database_url, pool_size=12)
    chance = random.Random(seed)
    looks = 0

    async def watch(writers: asyncio.Future[list[None]]) -> None:
        nonlocal looks
        while not writers.done():
            numbers, head = await seen(database)
            assert numbers == list(range(1, len(numbers) + 1))
            assert head <= len(numbers)
            looks += 1

    writers = asyncio.gather(*(write(database, n, random.Random(chance.random())) for n in range(WRITERS)))
    await asyncio.gather(writers, watch(writers))
    numbers, head = await seen(database)
    assert numbers == list(range(1, head + 1))
    assert looks > 3
    async with database.read() as view:
        rows = await view.all(select(audit_record.c.object).order_by(audit_record.c.seq))
    for writer in range(WRITERS):
        mine = [tuple(map(int, row["object"].split("-"))) for row in rows if row["object"].startswith(f"{writer}-")]
        assert mine == sorted(mine)
    await database.close()


async def test_a_decision_on_old_configuration_is_not_committed(database: Database) -> None:
    async with database.transaction() as tx:
        tx.changed_configuration()
    with pytest.raises(EpochMoved):
        await decide(database, epoch=0)
    assert await seen(database) == ([], 0)
    await decide(database, epoch=1)
    assert await seen(database) == ([1], 1)


async def decide(database: Database, *, epoch: int) -> None:
    async with database.transaction() as tx:
        tx.expect_epoch(epoch)
        record(tx, SYSTEM, "certificate.issue", "certificate", "01")


async def test_reading_takes_no_number(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.scalar(select(journal_head.c.epoch))
    assert await seen(database) == ([], 0)
