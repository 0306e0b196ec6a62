from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import select, text
from tests.support.eventually import eventually

from intaglio.audit.record import record
from intaglio.core.errors import IntaglioError, InvalidInput, StateConflict, TimedOut, Unavailable
from intaglio.core.principal import SYSTEM
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.db.engine import Database, translated_errors
from intaglio.db.journal import journal_head


async def test_the_first_request_after_a_restart_of_postgresql_works(own_server: EmbeddedPostgres) -> None:
    database = Database(own_server.url, pool_size=3)
    await asyncio.gather(*(database.ping() for _ in range(3)))
    own_server.stop()
    with pytest.raises(Unavailable) as refused:
        await database.ping()
    assert refused.value.code == "database-unavailable"
    own_server.start()
    for _ in range(4):
        await database.ping()
    await database.close()


async def test_a_request_during_a_crash_fails_clearly_and_the_next_works(own_server: EmbeddedPostgres) -> None:
    database = Database(own_server.url, pool_size=2)
    await database.ping()
    sleeping = asyncio.create_task(_run(database, "SELECT pg_sleep(8)"))
    await eventually(lambda: _is_sleeping(database))
    assert own_server.pid is not None
    os.kill(own_server.pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        await sleeping
    await asyncio.to_thread(own_server.ensure_running)
    await database.ping()
    await database.close()


async def _run(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(text(statement))


async def _is_sleeping(database: Database) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    async with database.read() as view:
        return bool(await view.scalar(text(query)))


async def test_nobody_waits_for_ever_for_a_server_that_hangs(own_server: EmbeddedPostgres) -> None:
    database = Database(own_server.url, pool_size=2, timeout=0.5)
    sleeping = asyncio.create_task(_run(database, "SELECT pg_sleep(0.3)"))
    await eventually(lambda: _is_sleeping(database))
    processes = _processes_of(own_server)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(TimedOut) as refused:
            async with asyncio.timeout(8):
                await sleeping
        assert refused.value.code == "database-timeout"
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    await eventually(lambda: _answers(database))
    await database.close()


def _processes_of(server: EmbeddedPostgres) -> list[int]:
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


async def _answers(database: Database) -> bool:
    try:
        await database.ping()
    except IntaglioError:
        return False
    return True


async def test_a_slow_statement_is_stopped(database_url: str) -> None:
    database = Database(database_url, timeout=0.2)
    with pytest.raises(TimedOut) as refused:
        await _run(database, "SELECT pg_sleep(30)")
    assert (refused.value.code, refused.value.status) == ("database-timeout", 504)
    await database.ping()
    await database.close()


async def test_when_all_connections_are_busy_the_caller_is_told_to_come_back(database_url: str) -> None:
    database = Database(database_url, pool_size=2, timeout=0.3)
    async with database.transaction(), database.transaction():
        with pytest.raises(Unavailable) as refused:
            await database.ping()
    assert (refused.value.code, refused.value.retry_after) == ("database-busy", 1)
    await database.ping()
    await database.close()


async def test_a_cancelled_request_leaves_a_clean_connection_and_no_trace(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    observer = Database(database_url, pool_size=1)

    async def write_slowly() -> None:
        async with database.transaction() as tx:
            await tx.execute(text("UPDATE journal_head SET epoch = 99"))
            await tx.execute(text("SELECT pg_sleep(8)"))

    for _ in range(3):
        request = asyncio.create_task(write_slowly())
        await eventually(lambda: _is_sleeping(observer))
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        async with database.transaction() as tx:
            assert await tx.scalar(select(journal_head.c.epoch)) == 0
        assert database.connections_in_use == 0
        assert not await _is_sleeping(observer)
    await database.close()
    await observer.close()


async def test_a_timeout_of_the_callers_own_is_not_taken_for_a_lost_database(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), database.transaction() as tx:
            await tx.execute(text("SELECT pg_sleep(8)"))
    with pytest.raises(FileNotFoundError):
        async with database.transaction():
            raise FileNotFoundError("something of the caller's")
    await database.ping()


async def test_a_failed_block_changes_nothing_and_calls_nobody(database: Database) -> None:
    called: list[str] = []
    with pytest.raises(RuntimeError, match="no"):
        await _write_and_fail(database, called)
    async with database.read() as view:
        head = await view.one_or_none(select(journal_head))
    assert head is not None
    assert (head["audit_seq"], head["epoch"], called) == (0, 0, [])


async def _write_and_fail(database: Database, called: list[str]) -> None:
    async with database.transaction() as tx:
        record(tx, SYSTEM, "thing.do", "thing", "one")
        tx.changed_configuration()
        tx.after_commit(lambda: called.append("committed"))
        raise RuntimeError("no")


async def test_a_view_cannot_write_and_does_not_hinder_later_writers(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    with pytest.raises(IntaglioError) as refused:
        async with database.read() as view:
            await view.execute(text("UPDATE journal_head SET epoch = 1"))
    assert refused.value.code == "database-read-only"
    await _run(database, "UPDATE journal_head SET epoch = 1")
    await database.close()


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        ("53100", Unavailable, "database-full"),
        ("40001", StateConflict, "concurrent-change"),
        ("40P01", StateConflict, "concurrent-change"),
        ("23505", StateConflict, "already-exists"),
        ("25006", Unavailable, "database-read-only"),
        ("57014", TimedOut, "database-timeout"),
        ("55P03", TimedOut, "database-timeout"),
        ("57P01", Unavailable, "database-unavailable"),
        ("53300", Unavailable, "database-unavailable"),
        ("22003", InvalidInput, "not-storable"),
    ],
)
async def test_what_postgresql_reports_is_said_in_our_words(
    database: Database, state: str, error: type[IntaglioError], code: str
) -> None:
    with pytest.raises(error) as refused:
        await _run(database, f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
    assert refused.value.code == code


async def test_a_fault_in_a_statement_stays_a_fault() -> None:
    with pytest.raises(ZeroDivisionError), translated_errors():
        raise ZeroDivisionError


async def test_text_with_nul_is_refused_as_input(database: Database) -> None:
    with pytest.raises(InvalidInput):
        async with database.read() as view:
            await view.execute(text("SELECT :value"), {"value": "a\0b"})


async def test_options_of_the_url_are_kept(database_url: str) -> None:
    database = Database(database_url + "&options=-c%20work_mem%3D7MB&application_name=mine", timeout=7)
    async with database.read() as view:
        assert await view.scalar(text("SHOW work_mem")) == "7MB"
        assert await view.scalar(text("SHOW statement_timeout")) == "7s"
        assert await view.scalar(text("SHOW application_name")) == "mine"
        assert await view.scalar(text("SHOW timezone")) == "UTC"
    await database.close()


async def test_an_address_that_does_not_answer_is_unavailable() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable):
        await nowhere.raw_connection()
    with pytest.raises(Unavailable):
        await nowhere.ping()
    await nowhere.close()
