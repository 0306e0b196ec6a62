"""Memory for what may be made again: bounded, the longest unused goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Generic, TypeVar

T = TypeVar("T", str, bytes)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most ``limit`` entries."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> V:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return value


def remembered(*, entries: int, longest: int) -> Callable[[Callable[[T], V]], Callable[[T], V]]:
    """Remember what a function makes of short texts; long ones are worked out every time, so memory stays bounded
    whatever is sent. ``longest`` is in characters or octets."""

    def wrap(function: Callable[[T], V]) -> Callable[[T], V]:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def look(value: T) -> V:
            return kept(value) if len(value) <= longest else function(value)

        return look

    return wrap
