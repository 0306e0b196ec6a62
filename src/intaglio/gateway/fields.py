"""Field selection: ``$fields=ca.chain,-events.certificate``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from intaglio.core.errors import InvalidInput

_MAX_FIELDS = 50
_PATH = re.compile(r"-?[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60}){0,5}")
_ALIASES = {"cert": "certificate"}


@dataclass(frozen=True)
class FieldSelection:
    """Which expensive fields a caller wants and which he does not want to see.

    Selecting a field adds it to those that are always there; a leading ``-`` removes it. Paths are kept without the
    name of the object they start from.
    """

    added: frozenset[tuple[str, ...]] = frozenset()
    removed: frozenset[tuple[str, ...]] = frozenset()

    @classmethod
    def parse(cls, values: Iterable[str], roots: Sequence[str]) -> FieldSelection:
        """Read comma-separated dotted names; ``roots`` are the names an object goes by at the start of a path.

        Raises InvalidInput (``request-malformed``).
        """
        names = [name.strip() for value in values for name in value.split(",") if name.strip()]
        if len(names) > _MAX_FIELDS:
            raise _malformed(f"more than {_MAX_FIELDS} fields are selected")
        added: set[tuple[str, ...]] = set()
        removed: set[tuple[str, ...]] = set()
        for name in names:
            if not _PATH.fullmatch(name):
                raise _malformed(f'"{name[:60]}" is not a field name')
            parts = [_ALIASES.get(part, part) for part in name.removeprefix("-").split(".")]
            path = tuple(parts[1:] if parts[0] in roots and len(parts) > 1 else parts)
            (removed if name.startswith("-") else added).add(path)
        return cls(frozenset(added), frozenset(removed))

    def wants(self, name: str) -> bool:
        """Whether an optional top-level field was selected, as a whole or in part, and not removed."""
        return any(path[0] == name for path in self.added) and (name,) not in self.removed

    def keeps(self, name: str) -> bool:
        """Whether a field that is there by default was left in."""
        return (name,) not in self.removed

    def prune(self, value: dict[str, Any]) -> dict[str, Any]:
        """``value`` without the removed fields; changed in place."""
        for path in self.removed:
            _remove(value, path)
        return value


def _remove(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, list):
        for item in value:
            _remove(item, path)
    elif isinstance(value, dict):
        if len(path) == 1:
            value.pop(path[0], None)
        else:
            _remove(value.get(path[0]), path[1:])


def _malformed(why: str) -> InvalidInput:
    return InvalidInput(
        f"The field selection cannot be read: {why}.",
        code="request-malformed",
        remedy="Write $fields=ca.certificate,ca.chain or $fields=-events.certificate.",
        target="$fields",
    )
