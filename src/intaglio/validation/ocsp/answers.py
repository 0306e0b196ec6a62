"""Answers of the responder, and the memory of those that may be given again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from intaglio.core.clock import monotonic
from intaglio.validation.conditional import Document
from intaglio.validation.ocsp.status import Key

#: Answers kept by one process, in octets of answers.
CACHE_OCTETS = 48 * 1024 * 1024

#: What was asked, as it arrived: the path of a GET, path and body of a POST.
Question = str | tuple[str, bytes]


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


class AnswerCache:
    """Finished answers by question, dropped by certificate; bounded, the longest unused go first."""

    def __init__(self, limit: int = CACHE_OCTETS) -> None:
        self._limit = limit
        self._octets = 0
        self._entries: OrderedDict[Question, tuple[Answer, Document]] = OrderedDict()
        self._questions: dict[Key, set[Question]] = {}

    def get(self, question: Question) -> Document | None:
        """The document with the answer to a question, while it is fresh."""
        found = self._entries.get(question)
        if found is None:
            return None
        if found[0].stale_at <= monotonic():
            self._remove(question)
            return None
        self._entries.move_to_end(question)
        return found[1]

    def put(self, question: Question, answer: Answer, sent_as: Document) -> None:
        """Keep a cacheable answer and the document it is sent as."""
        if question in self._entries:
            self._remove(question)
        self._entries[question] = (answer, sent_as)
        self._octets += len(answer.body)
        for key in answer.about:
            self._questions.setdefault(key, set()).add(question)
        while self._octets > self._limit:
            self._remove(next(iter(self._entries)))

    def drop(self, keys: Sequence[Key]) -> None:
        """Forget every answer about these certificates."""
        for key in keys:
            for question in list(self._questions.get(key, ())):
                self._remove(question)

    def clear(self) -> None:
        self._entries.clear()
        self._questions.clear()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def _remove(self, question: Question) -> None:
        answer, _ = self._entries.pop(question)
        self._octets -= len(answer.body)
        for key in answer.about:
            questions = self._questions.get(key)
            if questions is not None:
                questions.discard(question)
                if not questions:
                    del self._questions[key]
