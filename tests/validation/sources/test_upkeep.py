"""Who reads which source: one process each, another one within seconds when it dies."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import update
from tests.support.authority import OPERATOR
from tests.support.crl_server import FileServer, crl
from tests.support.eventually import eventually
from tests.support.foreign import ForeignCa
from tests.validation.sources.conftest import Open

from intaglio.validation import models
from intaglio.validation.authorities import reading, service
from intaglio.validation.context import Validation
from intaglio.validation.sources import leases
from intaglio.validation.sources import service as source_service
from intaglio.validation.sources.upkeep import SourceReader


async def test_one_process_reads_and_another_takes_over_when_it_dies(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")}, wait_to_pull="1s", wait_on_error="1s")
    first, second = SourceReader(validation), SourceReader(validation)
    await first.turn()
    await second.turn()
    assert len(first._tasks) == 1
    assert not second._tasks
    await eventually(lambda: bool(files.requests))
    for task in first._tasks.values():
        task.task.cancel()  # it dies without giving anything back
    assert timedelta(seconds=10) >= leases.LEASE
    async with validation.database.transaction() as tx:  # and the lease runs out
        await tx.execute(update(models.status_pull).values(held_until=models.status_pull.c.held_until - leases.LEASE))
    await second.turn()
    assert len(second._tasks) == 1
    files.files["ca.crl"] = crl(ca, 2, {2: None})

    async def is_read() -> bool:
        return await reader.statuses() == {2: "revoked"}

    await eventually(is_read)
    await second.stop()


async def test_a_process_that_ends_in_order_gives_its_sources_back_at_once(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {})
    await open_reader({"url": files.url("ca.crl")})
    first, second = SourceReader(validation), SourceReader(validation)
    await first.turn()
    await first.stop()
    await second.turn()
    assert len(second._tasks) == 1
    await second.stop()


async def test_a_look_that_somebody_asks_for_happens_at_once(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")}, wait_to_pull="1h")
    process = SourceReader(validation)
    await process.turn()

    async def was_read() -> bool:
        return bool(await reader.statuses())

    await eventually(was_read)
    files.files["ca.crl"] = crl(ca, 2, {2: None})
    asked = await source_service.pull(validation, OPERATOR, "foreign")
    assert asked.waiting

    async def is_done() -> bool:
        await process.turn()
        async with validation.database.read() as view:
            found = await leases.pull_of(view, (await reading.load(view, "foreign")).id)
        return not found.waiting and found.ended_at is not None and found.outcome == "changed"

    await eventually(is_done)
    assert await reader.statuses() == {2: "revoked"}
    await process.stop()


async def test_a_disabled_or_deleted_authority_is_not_read_any_more(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {})
    await open_reader({"url": files.url("ca.crl")})
    process = SourceReader(validation)
    await process.turn()
    spec = (await service.get(validation, OPERATOR, "foreign")).authority.spec
    await service.change(validation, OPERATOR, "foreign", spec.model_copy(update={"enabled": False}))
    await process.turn()
    assert not process._tasks
    await service.change(validation, OPERATOR, "foreign", spec)
    await process.turn()
    assert len(process._tasks) == 1
    await service.remove(validation, OPERATOR, "foreign")
    await process.turn()
    assert not process._tasks
    await process.stop()


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("ca.crl", {"wait_to_pull": "1s", "wait_on_error": "1h"}),
        ("nowhere.crl", {"wait_to_pull": "1h", "wait_on_error": "1s"}),
    ],
)
async def test_the_waits_between_looks_are_those_that_were_set(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation, file: str, options: dict[str, str]
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {})
    await open_reader({"url": files.url(file)}, **options)
    process = SourceReader(validation)
    await process.turn()
    try:
        await eventually(lambda: len(files.times) >= 3)
    finally:
        await process.stop()
    waits = [after - before for before, after in pairwise(files.times)]
    assert min(waits) >= 0.9 * 0.99, "up to a tenth less, so that not all sources are read at one time"
