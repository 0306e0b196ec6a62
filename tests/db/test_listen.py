from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from tests.support.eventually import eventually

from intaglio.audit.record import record
from intaglio.core.principal import SYSTEM
from intaglio.db import listen
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.db.engine import Database
from intaglio.db.journal import STATUS_CHANNEL
from intaglio.db.listen import FRESHNESS, Watch


class Ears:
    """Counts what a watch reports; can be slow or fail."""

    def __init__(self) -> None:
        self.heard = {"config": 0, "event": 0, "audit": 0}
        self.failures = 0
        self.delay = 0.0

    async def config(self) -> None:
        await asyncio.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            raise KeyError("a fault of the callback")
        self.heard["config"] += 1

    async def event(self) -> None:
        self.heard["event"] += 1

    async def audit(self) -> None:
        self.heard["audit"] += 1


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
async def watch(database: Database, ears: Ears) -> AsyncIterator[Watch]:
    watching = Watch(database, on_config=ears.config, on_event=ears.event, on_audit=ears.audit)
    await watching.start()
    await eventually(lambda: watching.current)
    yield watching
    await watching.stop()


async def change_configuration(database: Database) -> None:
    async with database.transaction() as tx:
        tx.changed_configuration()


async def test_a_watch_calls_back_once_at_its_start(watch: Watch, ears: Ears) -> None:
    assert ears.heard == {"config": 1, "event": 1, "audit": 1}
    assert watch.epoch == 0


async def test_changes_of_other_processes_are_heard(watch: Watch, ears: Ears, database_url: str) -> None:
    elsewhere = Database(database_url)
    await change_configuration(elsewhere)
    await eventually(lambda: ears.heard["config"] == 2 and watch.epoch == 1)
    async with elsewhere.transaction() as tx:
        record(tx, SYSTEM, "thing.do", "thing", "one")
    await eventually(lambda: ears.heard["audit"] == 2)
    assert ears.heard["event"] == 1
    await elsewhere.close()


async def test_a_new_version_of_what_is_known_of_others_is_heard_without_waiting_for_the_heartbeat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "HEARTBEAT", 1_000.0)
    watching = Watch(database)
    await watching.start()
    await eventually(lambda: watching.status_version == 0)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE status_head SET version = 7"))
        tx.notify(STATUS_CHANNEL)
    await eventually(lambda: watching.status_version == 7)
    await watching.stop()


async def test_a_version_that_nobody_notified_is_heard_by_the_heartbeat(watch: Watch, database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE status_head SET version = 3"))
    await eventually(lambda: watch.status_version == 3 and watch.current)


async def test_a_callback_slower_than_the_heartbeat_is_called_once_per_change(
    watch: Watch, ears: Ears, database: Database
) -> None:
    ears.delay = FRESHNESS * 1.3
    await change_configuration(database)
    await eventually(lambda: not watch.current)
    await eventually(lambda: watch.current)
    assert ears.heard == {"config": 2, "event": 1, "audit": 1}


async def test_the_numbers_wait_for_what_is_taken_in_and_not_for_who_is_told(database: Database) -> None:
    epochs: dict[str, int] = {}
    behind: dict[str, bool] = {}

    async def take_in() -> None:
        epochs["before"], behind["before"] = watch.epoch, watch.is_taking_in

    async def tell() -> None:
        epochs["after"], behind["after"] = watch.epoch, watch.is_taking_in

    watch = Watch(database, on_config=take_in, after_config=tell)
    await watch.start()
    try:
        await eventually(lambda: watch.current)
        await change_configuration(database)
        await eventually(lambda: epochs["after"] == 1)
        assert epochs["before"] == 0
        assert behind == {"before": True, "after": False}
    finally:
        await watch.stop()


async def test_a_failing_callback_is_called_again(watch: Watch, ears: Ears, database: Database) -> None:
    ears.failures = 2
    await change_configuration(database)
    await eventually(lambda: watch.epoch == 1 and watch.current)
    assert ears.failures == 0


async def test_a_broken_connection_is_made_again_and_nothing_missed(
    watch: Watch, ears: Ears, database: Database
) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        tx.changed_configuration()
    await eventually(lambda: watch.epoch == 1 and watch.current)
    assert ears.heard["config"] >= 2


class _Counted(Database):
    """Counts the connections that were asked for."""

    attempts = 0

    async def raw_connection(self) -> psycopg.AsyncConnection[Any]:
        self.attempts += 1
        return await super().raw_connection()


async def test_without_the_database_nothing_is_current_and_the_log_says_so_once(
    own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intaglio.db.migrate import migrate

    await asyncio.to_thread(migrate, own_server.url)
    said: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(listen.log, level, lambda event, **_: said.append(event))
    database = _Counted(own_server.url)
    watching = Watch(database)
    await watching.start()
    await eventually(lambda: watching.current)
    await asyncio.to_thread(own_server.stop)
    await eventually(lambda: not watching.current)
    await eventually(lambda: database.attempts > 3)
    await asyncio.to_thread(own_server.start)
    await eventually(lambda: watching.current)
    await watching.stop()
    assert [event.partition(";")[0] for event in said] == ["not hearing of changes", "hearing of changes again"]
    await database.close()
