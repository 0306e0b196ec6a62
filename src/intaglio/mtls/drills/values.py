"""What a drill did and saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

#: A revoked certificate is refused within so many seconds.
TARGET_SECONDS: Final = 60.0
#: A drill has to be repeated after so long.
INTERVAL: Final = timedelta(days=92)

Kind = Literal["revoke", "rotate", "runbook"]
KINDS: Final = ("revoke", "rotate", "runbook")


@dataclass(frozen=True)
class Row:
    """One thing that was tried: what had to come of it, what did, and after how many seconds where that counts."""

    step: str
    ingress: str
    expected: str
    observed: str
    passed: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Drill:
    """A drill, or for ``runbook`` the making of the document. ``state`` is running, passed, failed or aborted (its
    process ended before it did). ``figures`` are seconds."""

    id: UUID
    organization: str
    domain: str
    kind: Kind
    state: str
    rows: tuple[Row, ...]
    figures: Mapping[str, float]
    started_by: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Due:
    """When a kind of drill has to be repeated for a trust domain; ``last`` is the newest one that was passed."""

    domain: str
    kind: Kind
    last: datetime | None
    due_at: datetime
    overdue: bool
