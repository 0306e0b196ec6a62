"""The gate: timestamps are given only while the clock was found right lately, and was not set since.

GOOD becomes BAD when the clock may be off by more than is allowed, when its source does not answer or does not know the
time, when the last check is older than three intervals, and when the clock was set. BAD becomes GOOD with the next
good check; after the clock was set, with the next one that rests on a new comparison with true time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.timestamping.clock import chrony, kernel, ntp
from intaglio.timestamping.clock.measurement import ClockUnreachable, Measurement
from intaglio.timestamping.settings import Timestamping

log = get_logger(__name__)

#: Intervals after which a check no longer counts.
STALE_AFTER = 3


@dataclass(frozen=True)
class ClockState:
    """What the last check found. ``offset`` (how far this clock is ahead) and ``error`` are in seconds, None when
    nothing was measured; ``cause`` says what is wrong."""

    good: bool
    source: str
    offset: float | None
    error: float | None
    checked_at: datetime | None
    cause: str = ""
    remedy: str = ""


_NEVER = ClockState(False, "", None, None, None, "The clock has not been checked yet.")

Measure = Callable[[Timestamping], Awaitable[Measurement]]


async def measure(settings: Timestamping) -> Measurement:
    """Ask the source that the settings name. Raises Unavailable: unreachable, not synchronized."""
    timeout = settings.connection_timeout
    if settings.clock_source == "chrony":
        return await chrony.measure(settings.chrony_address, timeout)
    if settings.clock_source == "ntp":
        return await ntp.measure(settings.ntp_servers, timeout)
    if settings.clock_source == "system":
        return kernel.measure()
    if settings.clock_source == "none":
        return Measurement("none", 0.0, 0.0)
    try:
        return await chrony.measure(settings.chrony_address, timeout)
    except ClockUnreachable as away:
        try:
            return kernel.measure()
        except Unavailable as error:
            error.detail = f"{away.detail} {error.detail}"
            raise


async def check_once(settings: Timestamping) -> ClockState:
    """Ask the source of time now, and judge what it says; nothing is remembered."""
    asked = ClockGate()
    asked._settings = settings
    await asked._check(settings)
    return asked._state


class ClockGate:
    """The clock of this process, judged at intervals.

    ``require`` is for hot paths. ``replace`` takes new settings; checking begins with the first of them.
    """

    def __init__(self, ask: Measure = measure) -> None:
        self._ask = ask
        self._settings: Timestamping | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._checked = float("-inf")
        self._ahead = 0.0  # of the wall clock before the monotonic one, at the last check
        self._mark: object = None
        self._state = _NEVER
        self._troubles = Troubles()

    @property
    def checked(self) -> bool:
        """Whether there was a first check, however it ended."""
        return self._checked > float("-inf")

    @property
    def state(self) -> ClockState:
        """The state as of now: what the last check found, unless that is too old or the clock was set since."""
        if self._state.good and (wrong := self._since_then(clock.now())):
            last = self._state
            return ClockState(False, last.source, last.offset, last.error, last.checked_at, wrong)
        return self._state

    def require(self, now: datetime) -> None:
        """Raise Unavailable (``clock-bad``) unless the clock, which shows ``now``, is good."""
        if self._state.good and not self._since_then(now):
            return
        state = self.state
        raise Unavailable(state.cause, code="clock-bad", remedy=state.remedy, retry_after=1)

    async def replace(self, settings: Timestamping) -> None:
        """Check by these settings from now on; returns after the first check under new ones, whoever began it."""
        async with self._replacing:
            if settings == self._settings:
                return
            self._settings = settings
            self._mark = None
            await self._check(settings)
            self._again.set()
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="clock-gate")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self._again.clear()
            settings = self._settings
            assert settings is not None
            # A bad clock is looked at more often, so that service comes back soon after it was set right.
            wait = settings.poll_interval if self.state.good else min(settings.poll_interval, 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._again.wait()
                continue
            await self._check(settings)

    async def _check(self, settings: Timestamping) -> None:
        try:
            found = await self._ask(settings)
        except IntaglioError as error:
            self._conclude(_failed(settings, error.detail, error.remedy))
            return
        except Exception as error:  # what nobody foresaw is no reason to trust the clock
            if self._troubles.worth_reporting("unexpected"):
                log.exception("the clock could not be checked")
            self._conclude(_failed(settings, f"The clock could not be checked: {error}."))
            return
        self._judge(settings, found)

    def _judge(self, settings: Timestamping, found: Measurement) -> None:
        now = clock.now()
        ahead = now.timestamp() - monotonic()
        was_set = self._mark is not None and abs(ahead - self._ahead) > settings.maximum_error
        cause, remedy = "", ""
        if found.error > settings.maximum_error and found.source != "none":
            cause = f"The clock may be off by {found.error:.3f} seconds; {settings.maximum_error:g} are allowed."
            remedy = "Let NTP set the clock right; timestamping then goes on by itself."
        elif was_set and found.mark is not None and found.mark == self._mark:
            cause = "The clock was set, and has not been compared with true time since."
            remedy = "Wait for the next comparison; timestamping then goes on by itself."
        else:
            self._ahead, self._mark = ahead, found.mark
        self._conclude(ClockState(not cause, found.source, found.offset, found.error, now, cause, remedy))

    def _conclude(self, state: ClockState) -> None:
        before, self._state, self._checked = self._state, state, monotonic()
        if state.good:
            if self._troubles.over("bad") or not before.good:
                log.info("GetClockData.Good", source=state.source, offset=state.offset, error=state.error)
            else:
                log.debug("GetClockData.Good", source=state.source, offset=state.offset, error=state.error)
        elif self._troubles.worth_reporting("bad"):
            log.warning("GetClockData.Failed", source=state.source, cause=state.cause, remedy=state.remedy)

    def _since_then(self, now: datetime) -> str:
        """What speaks against the last check by now; empty when nothing does."""
        settings, at = self._settings, monotonic()
        assert settings is not None
        if at - self._checked > STALE_AFTER * settings.poll_interval + settings.connection_timeout:
            return "The clock has not been checked for too long."
        if abs(now.timestamp() - at - self._ahead) > settings.maximum_error:
            return "The clock was set, and has not been checked since."
        return ""


def _failed(settings: Timestamping, cause: str, remedy: str = "") -> ClockState:
    return ClockState(False, settings.clock_source, None, None, clock.now(), cause, remedy)
