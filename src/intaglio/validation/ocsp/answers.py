"""Answers of the responder, and memory for what may be used again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from math import inf
from typing import Generic, TypeVar

from intaglio.core.clock import monotonic
from intaglio.db.live import Change, Key

_LAST_FIFTH = 0.2

Question = TypeVar("Question")
Value = TypeVar("Value")


class Outcome(Enum):
    """What became of a request: answered; not a request at all; a request that could not be processed; one about a
    certificate that is not known yet and may be in a moment."""

    ANSWERED = "answered"
    INVALID = "invalid"
    UNPROCESSED = "unprocessed"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSP response.

    ``produced_at`` and ``next_update`` are None for an error, ``next_update`` also when newer information is always to
    be had; ``about`` are the certificates in it; ``cacheable`` means that it may be given again to the same question
    until ``stale_at`` (monotonic seconds). ``http_error``: whoever asks wants to hear of a failure by HTTP status too.
    """

    body: bytes = field(repr=False)
    produced_at: datetime | None = None
    next_update: datetime | None = None
    about: tuple[Key, ...] = ()
    cacheable: bool = False
    stale_at: float = 0.0
    outcome: Outcome = Outcome.ANSWERED
    http_error: bool = False

    @property
    def http_status(self) -> int:
        """400 for an invalid request, 404 for one that could not be processed, when that is wanted; else 200."""
        if not self.http_error or self.outcome is Outcome.ANSWERED:
            return 200
        return 400 if self.outcome is Outcome.INVALID else 404


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    about: tuple[Key, ...]
    octets: int
    refresh_at: float
    stale_at: float


class Memory(Generic[Question, Value]):
    """What may be used again, by question; forgotten by certificate. Bounded: the longest unused go first.

    ``limit`` is in octets of what is kept, as the caller counts them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._octets = 0
        self._entries: OrderedDict[Question, _Entry[Value]] = OrderedDict()
        self._questions: dict[Key, set[Question]] = {}

    def get(self, question: Question, refresh: Callable[[Question], None] | None = None) -> Value | None:
        """What was put in for a question, while it is fresh. In the last fifth of its life ``refresh`` is called with
        the question, once."""
        found = self._entries.get(question)
        if found is None:
            return None
        if found.refresh_at <= (now := monotonic()):
            if found.stale_at <= now:
                self._remove(question)
                return None
            found.refresh_at = found.stale_at
            if refresh is not None:
                refresh(question)
        self._entries.move_to_end(question)
        return found.value

    def put(
        self, question: Question, value: Value, *, about: tuple[Key, ...], octets: int, stale_at: float = inf
    ) -> None:
        """Keep a value that depends on the status of the certificates ``about``, until ``stale_at`` (monotonic)."""
        if question in self._entries:
            self._remove(question)
        refresh_at = stale_at if stale_at == inf else stale_at - (stale_at - monotonic()) * _LAST_FIFTH
        self._entries[question] = _Entry(value, about, octets, refresh_at, stale_at)
        self._octets += octets
        for key in about:
            self._questions.setdefault(key, set()).add(question)
        while self._octets > self._limit:
            self._remove(next(iter(self._entries)))

    def drop(self, changes: Sequence[Change]) -> None:
        """Forget everything that depends on these certificates, or on any certificate of an owner."""
        owners = {owner for owner, serial in changes if serial is None}
        keys = [(owner, serial) for owner, serial in changes if serial is not None]
        if owners:
            keys += [key for key in self._questions if key[0] in owners]
        for key in keys:
            for question in list(self._questions.get(key, ())):
                self._remove(question)

    def clear(self) -> None:
        self._entries.clear()
        self._questions.clear()
        self._octets = 0

    def _remove(self, question: Question) -> None:
        entry = self._entries.pop(question)
        self._octets -= entry.octets
        for key in entry.about:
            questions = self._questions.get(key)
            if questions is not None:
                questions.discard(question)
                if not questions:
                    del self._questions[key]
