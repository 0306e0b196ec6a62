"""Serial numbers and ordered times: unique and in order, whoever makes them."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.timestamping.conftest import House

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.timestamping.numbering import BLOCK, OrderedTimes, SerialNumbers, ensure_numbers, scattered

KEY = bytes(range(32))
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, (1 << 62) - 300), unique=True, max_size=9), st.integers(8, 20))
def test_different_counters_have_different_serial_numbers(counters: list[int], octets: int) -> None:
    every = {number for counter in counters for number in range(counter, counter + 5)}
    serials = {serial for counter in counters for serial in scattered(KEY, range(counter, counter + 5), octets)}
    assert len(serials) == len(every)
    assert all(len(serial) == octets and 0x40 <= serial[0] < 0x80 for serial in serials)


@given(st.integers(0, (1 << 62) - 300), st.integers(8, 20), st.integers(1, 256))
def test_a_counter_has_the_same_number_in_every_company(counter: int, octets: int, company: int) -> None:
    (alone,) = scattered(KEY, range(counter, counter + 1), octets)
    assert scattered(KEY, range(counter, counter + company), octets)[0] == alone


@given(st.integers(0, (1 << 62) - 300), st.integers(8, 20))
def test_neighbours_look_unrelated_and_depend_on_the_key(counter: int, octets: int) -> None:
    one, next_one = scattered(KEY, range(counter, counter + 2), octets)
    assert one[1:5] != next_one[1:5]
    assert scattered(KEY[::-1], range(counter, counter + 1), octets) != [one]


async def numbers(database: Database, master: MasterKey, count: int) -> list[bytes]:
    """What one process gives out."""
    mine = SerialNumbers(database, master)
    found = [await mine.next(8) for _ in range(count)]
    await mine.close()
    return found


async def test_processes_and_restarts_never_give_a_number_twice(database: Database, master_key: MasterKey) -> None:
    async with database.transaction() as tx:
        await ensure_numbers(tx, master_key)
        await ensure_numbers(tx, master_key)
    side_by_side = await asyncio.gather(*(numbers(database, master_key, BLOCK + 100) for _ in range(2)))
    after = await numbers(database, master_key, 1000)
    every = [*side_by_side[0], *side_by_side[1], *after]
    assert len(every) == len(set(every))


async def test_a_restored_database_does_not_count_again(database: Database, master_key: MasterKey) -> None:
    async with database.transaction() as tx:
        await ensure_numbers(tx, master_key)
    before = await numbers(database, master_key, 100)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE timestamp_serial SET given = 0"))
    assert not set(before) & set(await numbers(database, master_key, 100))


async def test_without_an_issuer_there_are_no_numbers(database: Database, master_key: MasterKey) -> None:
    with pytest.raises(Unavailable):
        await numbers(database, master_key, 1)


async def test_ordered_times_increase_strictly_over_processes(house: House) -> None:
    signer = (await house.issuer()).record.signer.id
    database = house.timestamps.authority.database
    processes = [OrderedTimes(database) for _ in range(3)]
    given_out: list[datetime] = []

    async def ask(times: OrderedTimes) -> list[datetime]:
        mine = []
        for _ in range(40):
            mine.append(await times.next(signer))
        return mine

    for mine in await asyncio.gather(*(ask(times) for times in processes for _ in range(3))):
        assert mine == sorted(mine)
        given_out += mine
    assert len(set(given_out)) == len(given_out) == 360
    for times in processes:
        await times.close()


async def test_a_clock_that_went_back_gives_no_ordered_times_until_it_has_caught_up(house: House) -> None:
    signer = (await house.issuer()).record.signer.id
    times = OrderedTimes(house.timestamps.authority.database)
    with clock.frozen(NOON) as advance:
        assert await times.next(signer) > NOON
        advance(timedelta(seconds=-30))
        with pytest.raises(Unavailable, match="lies in the future"):
            await times.next(signer)
        advance(timedelta(seconds=31))
        assert await times.next(signer) > NOON
    await times.close()


async def test_times_of_different_signers_do_not_wait_for_each_other(house: House) -> None:
    first = (await house.issuer("first")).record.signer.id
    second = (await house.issuer("second")).record.signer.id
    times = OrderedTimes(house.timestamps.authority.database)
    with clock.frozen(NOON):
        found = await asyncio.gather(times.next(first), times.next(second), times.next(first))
    assert found[0] != found[2]
    assert found[1] in (found[0], found[2])
    await times.close()


async def test_the_database_being_away_is_told(master_key: MasterKey) -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none", timeout=1.0)
    with pytest.raises(Unavailable):
        await OrderedTimes(away).next(UUID(int=secrets.randbits(128)))
    with pytest.raises(Unavailable):
        await SerialNumbers(away, master_key).next(8)
