"""Limits of time that cost nothing while nobody waits."""

from __future__ import annotations

import asyncio

import pytest

from intaglio.core.patience import OutOfPatience, Patience


async def test_what_happens_in_time_is_returned() -> None:
    patience = Patience()

    async def at_once() -> str:
        return "now"

    async def later() -> str:
        await asyncio.sleep(0)
        return "later"

    assert await patience.limited(at_once(), 0) == "now"
    assert await patience.limited(later(), 60) == "later"


async def test_what_takes_too_long_is_given_up_and_the_task_goes_on() -> None:
    patience = Patience()
    with pytest.raises(OutOfPatience):
        await patience.limited(asyncio.Event().wait(), 0.01)
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_failure_and_a_cancellation_by_others_pass_through() -> None:
    patience = Patience()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await patience.limited(fails(), 60)
    waiting = asyncio.create_task(_wait(patience))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _wait(patience: Patience) -> None:
    await patience.limited(asyncio.Event().wait(), 60)
