"""When to renew, when to try again, and when to raise the alarm. Pure: times come in, times go out.

The agent goes by the clock of the server, which it hears with every answer, so that a wrong clock of its own machine
neither renews too late nor all the time.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from intaglio.core import clock

#: Certificates are renewed at two thirds of their life, each a little earlier by chance: not all at the same moment.
RENEW_AT = 2 / 3
EARLIER_BY = 0.1
FIRST_WAIT, LONGEST_WAIT = 2.0, 300.0
CRITICAL = timedelta(hours=72)
SKEW_WORTH_TELLING = timedelta(seconds=60)


class Health(StrEnum):
    """What an operator has to do: nothing, look soon, or act."""

    GOOD = "good"
    OVERDUE = "overdue"  # less than a third of its life is left, and it was not renewed
    CRITICAL = "critical"  # less than 72 hours are left, or a tenth of a life below nine days
    EXPIRED = "expired"
    NONE = "none"


@dataclass(frozen=True)
class Validity:
    """From when to when a certificate is good."""

    not_before: datetime
    not_after: datetime

    @property
    def life(self) -> timedelta:
        return self.not_after - self.not_before


def renewal_time(validity: Validity, chance: random.Random) -> datetime:
    """When to ask for the next certificate: at two thirds of the life, up to a tenth of that earlier."""
    return validity.not_before + validity.life * RENEW_AT * (1 - EARLIER_BY * chance.random())


def wait_after(failures: int, chance: random.Random) -> float:
    """Seconds to the next attempt after so many failures in a row: doubled each time, at most five minutes, half of it
    by chance."""
    most = min(LONGEST_WAIT, FIRST_WAIT * float(1 << min(failures - 1, 20)))
    return most / 2 + chance.random() * most / 2


def health(validity: Validity | None, now: datetime) -> Health:
    """How a certificate is doing."""
    if validity is None:
        return Health.NONE
    left = validity.not_after - now
    if left <= timedelta(0):
        return Health.EXPIRED
    # A certificate of a day always has less than 72 hours left.
    critical = CRITICAL if validity.life > 3 * CRITICAL else validity.life / 10
    if left < critical:
        return Health.CRITICAL
    return Health.OVERDUE if left < validity.life / 3 else Health.GOOD


class ServerClock:
    """The time by the server's clock, kept by a clock of this machine that never jumps and counts sleep."""

    def __init__(self) -> None:
        self._base, self._since = clock.now(), _ticks()
        self.skew = timedelta(0)

    def heard(self, server: datetime) -> None:
        """The server said what time it is."""
        self.skew = clock.now() - server
        self._base, self._since = server, _ticks()

    def now(self) -> datetime:
        return self._base + timedelta(seconds=_ticks() - self._since)


def _ticks() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
