"""Threads for keys in tokens: who works when, and that nobody waits behind a call that does not end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from intaglio.core.errors import Unavailable
from intaglio.keystore import dispatch
from intaglio.keystore.dispatch import Dispatcher

_LONG = 60.0  # seconds; longer than any test takes


def _late() -> Unavailable:
    return Unavailable("late", code="token-unavailable")


@pytest_asyncio.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    made = Dispatcher(3, _LONG, _late, "dispatched")
    yield made
    made.close()


async def test_calls_that_take_no_time_are_left_to_one_thread(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LOOK", _LONG)  # a busy machine is no reason to call for help here
    monkeypatch.setattr(dispatch, "_SHORT", _LONG)
    used = await asyncio.gather(*[dispatcher.run(threading.get_ident) for _ in range(500)])
    assert len(set(used)) == 1


async def test_calls_that_take_their_time_are_spread_over_all_threads(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LOOK", _LONG)
    monkeypatch.setattr(dispatch, "_SHORT", 0.0)
    together = threading.Barrier(3)
    places = await asyncio.gather(*[dispatcher.run(together.wait) for _ in range(3)])
    assert sorted(places) == [0, 1, 2]


async def test_who_waits_behind_a_call_that_takes_long_gets_another_thread(dispatcher: Dispatcher) -> None:
    assert await asyncio.gather(*[dispatcher.run(lambda n=n: n) for n in range(50)]) == [*range(50)]  # type: ignore[misc]
    together = threading.Barrier(3)
    places = await asyncio.gather(*[dispatcher.run(together.wait) for _ in range(3)])
    assert sorted(places) == [0, 1, 2]


async def test_a_result_does_not_wait_for_the_call_behind_it(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_GATHER", _LONG)
    go_on = threading.Event()
    await dispatcher.run(lambda: None)
    quick = dispatcher.run(lambda: "done")
    slow = [dispatcher.run(go_on.wait) for _ in range(4)]
    assert await quick == "done"
    go_on.set()
    assert await asyncio.gather(*slow) == [True] * 4


async def test_calls_are_begun_in_the_order_in_which_they_came(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_LOOK", _LONG)
    monkeypatch.setattr(dispatch, "_SHORT", _LONG)
    begun: list[int] = []
    await asyncio.gather(*[dispatcher.run(lambda n=n: begun.append(n)) for n in range(200)])  # type: ignore[misc]
    assert begun == [*range(200)]


async def test_an_error_goes_to_whoever_asked(dispatcher: Dispatcher) -> None:
    def fails() -> None:
        raise ValueError("wrong")

    outcomes = await asyncio.gather(
        *[dispatcher.run(fails if n % 2 else lambda: None) for n in range(10)], return_exceptions=True
    )
    assert [isinstance(each, ValueError) for each in outcomes] == [False, True] * 5


async def test_what_nobody_waits_for_is_not_held_up_by_a_stuck_thread(dispatcher: Dispatcher) -> None:
    go_on, done = threading.Event(), threading.Event()
    stuck = dispatcher.run(go_on.wait)
    dispatcher.start(done.set)
    assert await asyncio.to_thread(done.wait, _LONG)
    go_on.set()
    assert await stuck


async def test_threads_that_were_called_to_help_serve_again_and_again() -> None:
    dispatcher = Dispatcher(3, _LONG, _late, "helping")
    for _ in range(20):
        together = threading.Barrier(3)
        await asyncio.gather(
            *[dispatcher.run(together.wait) for _ in range(3)], *[dispatcher.run(lambda: None) for _ in range(30)]
        )
    assert sum(each.name.startswith("helping") for each in threading.enumerate()) == 3
    dispatcher.close()
