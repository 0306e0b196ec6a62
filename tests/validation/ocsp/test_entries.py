"""What a process remembers of other CAs' certificates, and when it does not rely on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest_asyncio
from sqlalchemy import delete, text
from tests.support.eventually import eventually
from tests.support.foreign import REVOKED, ForeignCa, Known, learn
from tests.support.status_authorities import Establish

from intaglio.core.identifiers import serial_octets
from intaglio.db.engine import Database
from intaglio.db.journal import STATUS_CHANNEL
from intaglio.db.listen import Watch
from intaglio.db.live import Change
from intaglio.validation import models
from intaglio.validation.ocsp.entries import EntrySource


class _Heard:
    """What was told to have changed."""

    def __init__(self) -> None:
        self.changes: list[Sequence[Change] | None] = []

    def __call__(self, changes: Sequence[Change] | None) -> None:
        self.changes.append(changes)


@pytest_asyncio.fixture
async def heard() -> _Heard:
    return _Heard()


@pytest_asyncio.fixture
async def entries(database: Database, watch: Watch, heard: _Heard) -> AsyncIterator[EntrySource]:
    source = EntrySource(database, watch, heard)
    yield source
    await source.close()


async def _caught_up(entries: EntrySource, watch: Watch, version: int) -> None:
    await eventually(lambda: watch.status_version >= version)
    await entries.catch_up()


async def test_what_is_remembered_is_dropped_by_the_change_of_it_and_of_its_set(
    database: Database, watch: Watch, entries: EntrySource, heard: _Heard, establish: Establish
) -> None:
    authority = await establish(ForeignCa(), "foreign", "basic")
    await learn(database, authority, {7: Known(), 8: Known()})
    await _caught_up(entries, watch, 1)
    assert heard.changes == [None]
    keys = [(authority.set_id, serial_octets(serial)) for serial in (7, 8)]
    assert [(await entries.get(key)).revoked for key in keys] == [False, False]
    await learn(database, authority, {7: Known(REVOKED, reason=1)})
    await _caught_up(entries, watch, 2)
    assert heard.changes[1:] == [[keys[0]]]
    assert [(await entries.get(key)).revoked for key in keys] == [True, False]
    assert (await entries.get(keys[1])).version == 2
    await learn(database, authority, {})
    await _caught_up(entries, watch, 3)
    assert heard.changes[2:] == [[(authority.set_id, None)]]
    assert (await entries.get(keys[1])).version == 3


async def test_changes_that_are_no_longer_kept_make_everything_forgotten(
    database: Database, watch: Watch, entries: EntrySource, heard: _Heard, establish: Establish
) -> None:
    authority = await establish(ForeignCa(), "foreign", "basic")
    await learn(database, authority, {7: Known()})
    await _caught_up(entries, watch, 1)
    key = (authority.set_id, serial_octets(7))
    assert not (await entries.get(key)).revoked
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE status_entry SET state = 1"))
        await tx.execute(text("UPDATE status_head SET version = version + 1"))
        await tx.execute(delete(models.status_change))
        tx.notify(STATUS_CHANNEL)
    await _caught_up(entries, watch, 2)
    assert heard.changes == [None, None]
    assert (await entries.get(key)).revoked


async def test_no_entry_is_older_than_the_times_it_is_given_out_with(
    database: Database, watch: Watch, entries: EntrySource, establish: Establish
) -> None:
    authority = await establish(ForeignCa(), "foreign", "basic")
    await learn(database, authority, {7: Known()})
    await _caught_up(entries, watch, 1)
    key = (authority.set_id, serial_octets(7))
    assert (await entries.get(key)).version == 1
    async with database.transaction() as tx:  # committed, and not heard of yet
        await tx.execute(text("UPDATE status_entry SET state = 1"))
    assert not (await entries.get(key)).revoked
    assert (await entries.get(key, since=2)).revoked


async def test_what_nobody_knows_is_looked_up_every_time(
    database: Database, watch: Watch, entries: EntrySource, establish: Establish
) -> None:
    authority = await establish(ForeignCa(), "foreign", "basic")
    await learn(database, authority, {7: Known()})
    await _caught_up(entries, watch, 1)
    key = (authority.set_id, serial_octets(9))
    assert not (await entries.get(key)).known
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE status_entry SET serial = '\\x09'"))
    assert (await entries.get(key)).known
