"""A master key is put to use, and an old one dropped, only when every server holds the new one."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update
from tests.support.eventually import eventually

from intaglio.core import clock
from intaglio.core.errors import StateConflict, Unavailable
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore import holders
from intaglio.keystore.holders import Place
from intaglio.keystore.models import master_key_holder

FAR = Place("far.example", "/var/lib/intaglio", "worker-0")


async def report(database: Database, master: MasterKey, place: Place = FAR) -> None:
    await holders.report(database, master, place, clock.now())


async def test_a_server_without_the_new_key_is_named(database: Database, master_key: MasterKey) -> None:
    ring = master_key.rotated()
    await report(database, master_key)
    await report(database, ring, Place("near.example", "/data", "jobs"))
    with pytest.raises(StateConflict) as refused:
        holders.require_held(await holders.running(database), ring.current)
    assert refused.value.code == "restart-needed"
    assert "worker-0 on far.example (/var/lib/intaglio)" in refused.value.detail
    assert "near.example" not in refused.value.detail


async def test_after_its_restart_with_the_new_file_nothing_stands_in_the_way(
    database: Database, master_key: MasterKey
) -> None:
    ring = master_key.rotated()
    await report(database, master_key)
    await report(database, ring)
    (found,) = await holders.running(database)
    assert found.keys == (ring.current.hex(), master_key.current.hex())
    holders.require_held([found], ring.current)


async def test_many_servers_without_the_key_make_a_short_refusal(database: Database, master_key: MasterKey) -> None:
    for number in range(8):
        await report(database, master_key, Place(f"host-{number}", "/data", "jobs"))
    with pytest.raises(StateConflict) as refused:
        holders.require_held(await holders.running(database), master_key.rotated().current)
    assert refused.value.detail.count("jobs on host-") == 5
    assert "and 3 more" in refused.value.detail


async def test_a_server_that_ended_properly_counts_no_more(database: Database, master_key: MasterKey) -> None:
    await report(database, master_key)
    await holders.withdraw(database, FAR)
    assert await holders.running(database) == []


async def test_a_lost_server_counts_for_ten_minutes(database: Database, master_key: MasterKey) -> None:
    await report(database, master_key)
    for minutes, counted in ((9, 1), (11, 0)):
        async with database.transaction() as tx:
            seen = text("now() - make_interval(mins => :minutes)").bindparams(minutes=minutes)
            await tx.execute(update(master_key_holder).values(seen_at=seen))
        assert len(await holders.running(database)) == counted


async def test_a_process_that_was_killed_on_this_host_does_not_count(
    database: Database, master_key: MasterKey, tmp_path: Path
) -> None:
    await report(database, master_key, Place.here(tmp_path, "jobs"))
    (alive,) = await holders.running(database)
    assert alive.pid == os.getpid()
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    async with database.transaction() as tx:
        await tx.execute(update(master_key_holder).values(pid=ended.pid))
    assert await holders.running(database) == []


async def test_reporting_survives_an_outage(
    database: Database, master_key: MasterKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, really = [], holders.report

    async def sometimes(*arguments: object) -> None:
        attempts.append(arguments)
        if len(attempts) == 1:
            raise Unavailable("The database is not reachable.")
        await really(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(holders, "report", sometimes)
    monkeypatch.setattr(holders, "_RETRY", 0.01)
    reporting = asyncio.create_task(holders.keep_reporting(database, master_key, FAR))

    async def reported() -> bool:
        return bool(await holders.running(database, absence=timedelta(minutes=1)))

    await eventually(reported)
    reporting.cancel()
    await asyncio.wait([reporting])
