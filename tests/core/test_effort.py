"""Costly work: bounded for the process, shared between callers, refused with the time to wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from intaglio.core import effort
from intaglio.core.effort import Effort
from intaglio.core.errors import RateLimited
from intaglio.core.principal import Principal, operator

ALICE, BOB = Principal("user", "alice"), Principal("user", "bob")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What is running goes on once this is set."""
    made = threading.Event()
    yield made
    made.set()


async def test_work_is_done_in_a_thread_and_its_error_is_told() -> None:
    work = Effort()
    assert await work.run(ALICE, threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await work.run(ALICE, lambda: 1 // 0)


async def test_one_caller_keeps_nobody_else_from_working(gate: threading.Event) -> None:
    work = Effort(at_a_time=5, each=2)
    running = [asyncio.create_task(work.run(ALICE, gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refusal:
        await work.run(ALICE, lambda: None)
    assert (refusal.value.code, refusal.value.status, refusal.value.retry_after) == ("too-much-work", 429, 2)
    assert await work.run(BOB, lambda: "done") == "done"
    gate.set()
    await asyncio.gather(*running)
    assert await work.run(ALICE, lambda: "done") == "done"


async def test_no_more_waits_than_there_is_room_for(gate: threading.Event) -> None:
    work = Effort(at_a_time=1, waiting=1)
    running = [asyncio.create_task(work.run(each, gate.wait)) for each in (ALICE, BOB)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await work.run("somebody", lambda: None)
    gate.set()
    await asyncio.gather(*running)


async def test_whoever_goes_away_does_not_make_room_before_his_work_is_done(gate: threading.Event) -> None:
    work, begun = Effort(each=1), threading.Event()

    def call() -> None:
        begun.set()
        gate.wait()

    running = asyncio.create_task(work.run(ALICE, call))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(RateLimited):
        await work.run(ALICE, lambda: None)
    gate.set()
    async with asyncio.timeout(30):
        while True:
            try:
                return await work.run(ALICE, lambda: None)
            except RateLimited:
                await asyncio.sleep(0)


async def test_a_budget_of_processor_time_is_spent_and_regained(monkeypatch: pytest.MonkeyPatch) -> None:
    at, used = 1000.0, 0.0
    monkeypatch.setattr(effort, "monotonic", lambda: at)

    def call() -> None:
        nonlocal used
        used += 8.0

    work = Effort(budget=10.0, regained=0.5, processor_time=lambda: used)
    await work.run(ALICE, call)
    await work.run(ALICE, call)  # 2 seconds were left: what is begun is finished
    with pytest.raises(RateLimited) as refusal:
        await work.run(ALICE, call)
    assert refusal.value.retry_after == 13
    await work.run(BOB, call)
    host = operator("root")
    for _ in range(3):
        await work.run(host, call)
    at += refusal.value.retry_after
    await work.run(ALICE, call)
