"""The gate between a clock and those who rely on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from intaglio.core import clock
from intaglio.core.errors import Unavailable
from intaglio.timestamping.clock import gate as module
from intaglio.timestamping.clock.gate import ClockGate
from intaglio.timestamping.clock.measurement import ClockUnreachable, Measurement
from intaglio.timestamping.settings import Timestamping

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SETTINGS = Timestamping(poll_interval=10, maximum_error=0.5)


class Source:
    """What the gate is told."""

    def __init__(self) -> None:
        self.found: Measurement | Exception = Measurement("test", 0.0, 0.01, 1)

    async def ask(self, settings: Timestamping) -> Measurement:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
async def gate(source: Source) -> ClockGate:
    made = ClockGate(source.ask)
    made._settings = SETTINGS  # judged by hand: nothing runs in the background
    return made


@pytest.fixture
def source() -> Source:
    return Source()


def is_good(gate: ClockGate) -> bool:
    """What ``require`` and ``state`` say alike."""
    state = gate.state
    if state.good:
        gate.require(clock.now())
        return True
    with pytest.raises(Unavailable) as refused:
        gate.require(clock.now())
    assert (refused.value.code, refused.value.detail) == ("clock-bad", state.cause)
    return False


async def test_a_clock_that_was_never_checked_is_bad(gate: ClockGate) -> None:
    assert not is_good(gate)


async def test_an_error_above_the_maximum_is_bad_and_the_next_good_check_good(gate: ClockGate, source: Source) -> None:
    await gate._check(SETTINGS)
    assert is_good(gate)
    source.found = Measurement("test", 0.4, 0.6, 2)
    await gate._check(SETTINGS)
    assert not is_good(gate)
    source.found = Measurement("test", 0.0, 0.4, 3)
    await gate._check(SETTINGS)
    assert is_good(gate)


async def test_a_source_that_cannot_be_asked_is_bad_with_its_reason(gate: ClockGate, source: Source) -> None:
    source.found = ClockUnreachable("chronyd is gone.", remedy="Start it.")
    await gate._check(SETTINGS)
    assert (gate.state.cause, gate.state.remedy) == ("chronyd is gone.", "Start it.")
    source.found = RuntimeError("a bug")
    await gate._check(SETTINGS)
    assert not is_good(gate)


async def test_a_check_that_is_too_old_counts_no_more(gate: ClockGate, monkeypatch: pytest.MonkeyPatch) -> None:
    await gate._check(SETTINGS)
    at = clock.monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: at + 29)
    moment = clock.now() + timedelta(seconds=29)
    gate.require(moment)
    monkeypatch.setattr(module, "monotonic", lambda: at + 40)
    with pytest.raises(Unavailable, match="too long"):
        gate.require(moment + timedelta(seconds=11))


async def test_a_clock_that_was_set_waits_for_a_new_comparison(gate: ClockGate, source: Source) -> None:
    with clock.frozen(NOON) as advance:
        await gate._check(SETTINGS)
        assert is_good(gate)
        advance(timedelta(minutes=5))
        with pytest.raises(Unavailable, match="was set"):
            gate.require(clock.now())
        await gate._check(SETTINGS)  # the source has not looked at true time since
        assert not is_good(gate)
        source.found = Measurement("test", 0.0, 0.01, 2)
        await gate._check(SETTINGS)
        assert is_good(gate)


async def test_a_gate_checks_by_itself_and_comes_back(source: Source) -> None:
    from tests.support.eventually import eventually

    made = ClockGate(source.ask)
    settings = Timestamping(poll_interval=1)
    await made.replace(settings)
    assert is_good(made)
    source.found = ClockUnreachable("gone")
    await eventually(lambda: not is_good(made))
    source.found = Measurement("test", 0.0, 0.01)
    await eventually(lambda: is_good(made))
    await made.close()


async def test_nobody_checks_only_when_an_operator_said_so() -> None:
    found = await module.check_once(Timestamping(clock_source="none"))
    assert (found.good, found.source) == (True, "none")
    away = Timestamping(clock_source="automatic", chrony_address="127.0.0.1:9")
    assert (await module.check_once(away)).source in ("automatic", "system")  # as the kernel of this machine says
    assert not (await module.check_once(Timestamping(clock_source="ntp"))).good
