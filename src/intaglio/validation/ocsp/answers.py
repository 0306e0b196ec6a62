"""Answers of the responder, and memory for what may be used again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Generic, TypeVar

from intaglio.authority.live_status import Key
from intaglio.core.clock import monotonic

Question = TypeVar("Question")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSP response.

    ``this_update`` and ``next_update`` are None for an error; ``about`` are the certificates in it; ``cacheable`` means
    that it may be given again to the same question until ``stale_at`` (monotonic seconds).
    """

    body: bytes = field(repr=False)
    this_update: datetime | None = None
    next_update: datetime | None = None
    about: tuple[Key, ...] = ()
    cacheable: bool = False
    stale_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    about: tuple[Key, ...]
    octets: int
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

    def get(self, question: Question) -> Value | None:
        """What was put in for a question, while it is fresh."""
        found = self._entries.get(question)
        if found is None:
            return None
        if found.stale_at <= monotonic():
            self._remove(question)
            return None
        self._entries.move_to_end(question)
        return found.value

    def put(
        self, question: Question, value: Value, *, about: tuple[Key, ...], octets: int, stale_at: float = inf
    ) -> None:
        """Keep a value that depends on the status of the certificates ``about``, until ``stale_at`` (monotonic)."""
        if question in self._entries:
            self._remove(question)
        self._entries[question] = _Entry(value, about, octets, stale_at)
        self._octets += octets
        for key in about:
            self._questions.setdefault(key, set()).add(question)
        while self._octets > self._limit:
            self._remove(next(iter(self._entries)))

    def drop(self, keys: Sequence[Key]) -> None:
        """Forget everything that depends on these certificates."""
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
