"""What a source of time says about the clock of this host."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.core.errors import Unavailable


@dataclass(frozen=True)
class Measurement:
    """``offset`` is how far this host's clock is ahead, ``error`` how far it may be off in all, both in seconds;
    ``mark`` changes with every comparison with true time that the source made (None where it cannot tell)."""

    source: str
    offset: float
    error: float
    mark: object = None


class ClockUnreachable(Unavailable):
    """The source of time does not answer, or answers what is no answer."""

    default_code = "clock-source-unreachable"


class ClockUnsynchronized(Unavailable):
    """The source of time answers that it does not know the time."""

    default_code = "clock-unsynchronized"
