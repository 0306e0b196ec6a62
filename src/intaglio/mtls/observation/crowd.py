"""Strangers may come as often as they like: past a burst, what they do is counted instead of kept one by one.

Whoever has no good certificate can be made to answer for nothing, and must not be able to fill a disk. Nothing is
forgotten: who came from where with what is kept for as many as a person would read, and the number of all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from intaglio.core.clock import monotonic

if TYPE_CHECKING:
    from intaglio.mtls.observation.events import AccessEvent

#: Events of strangers that an ingress may have kept singly: at once, and a second in the long run, in each process.
BURST, PER_SECOND = 600, 10.0
#: Different strangers of an ingress that are counted apart in one period, and its seconds.
MOST_STRANGERS, PERIOD = 50, 5.0
_MOST_INGRESSES = 10_000
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Budget:
    left: float
    since: float


class Crowd:
    """The events of strangers of one process that are counted."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._budgets: dict[UUID | None, _Budget] = {}
        self._counted: Counter[AccessEvent] = Counter()
        self._last: dict[AccessEvent, datetime] = {}
        self._strangers: Counter[UUID | None] = Counter()
        self._begun = now()

    def __len__(self) -> int:
        return len(self._counted)

    @property
    def due(self) -> bool:
        """Whether it is time to write what was counted."""
        return bool(self._counted) and self._now() - self._begun >= PERIOD

    def takes(self, event: AccessEvent) -> bool:
        """Count an event, if it is one too many of a stranger."""
        if not _is_strange(event) or self._affords(event.ingress_id):
            return False
        if not self._counted:
            self._begun = self._now()
        key = _folded(event)
        if key not in self._counted:
            if self._strangers[event.ingress_id] >= MOST_STRANGERS:
                key = replace(key, source_ip="", claimed="")
            else:
                self._strangers[event.ingress_id] += 1
        self._counted[key] += event.count
        self._last[key] = max(event.at, self._last.get(key, _NEVER))
        return True

    def take(self) -> list[AccessEvent]:
        """What was counted since the last time, an event for each kind of stranger."""
        found = [
            replace(key, at=self._last[key], count=number, detail=f"{number} like it, not kept singly. {key.detail}")
            for key, number in self._counted.items()
        ]
        self._counted.clear()
        self._last.clear()
        self._strangers.clear()
        return found

    def _affords(self, ingress: UUID | None) -> bool:
        now = self._now()
        budget = self._budgets.get(ingress)
        if budget is None:
            if len(self._budgets) >= _MOST_INGRESSES:
                self._budgets.clear()
            budget = self._budgets[ingress] = _Budget(BURST, now)
        budget.left = min(float(BURST), budget.left + (now - budget.since) * PER_SECOND)
        budget.since = now
        if budget.left < 1:
            return False
        budget.left -= 1
        return True


def _is_strange(event: AccessEvent) -> bool:
    """Whether nobody can be made to answer for it: no certificate, or none that is good."""
    return not event.identity and bool(event.certificate_reason or not event.fingerprint)


def _folded(event: AccessEvent) -> AccessEvent:
    """What events of one kind of stranger have in common."""
    return replace(
        event, at=_NEVER, count=1, serial=b"", fingerprint=b"", issuer="", san="", not_after=None, tls_version="",
        cipher="", method="", host="", path="", policy="", detail="",
    )  # fmt: skip
