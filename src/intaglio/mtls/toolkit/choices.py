"""Reads a word as one of the choices of an enumeration."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from intaglio.core.errors import InvalidInput

E = TypeVar("E", bound=StrEnum)


def chosen_from(kind: type[E], text: str, target: str) -> E:
    """The member of ``kind`` called ``text``. Raises InvalidInput (``choice-unknown``) listing the choices."""
    try:
        return kind(text.strip().lower())
    except ValueError:
        raise InvalidInput(
            f'"{text[:40]}" is not one of the choices.',
            code="choice-unknown",
            remedy=f"Use one of: {', '.join(kind)}.",
            target=target,
        ) from None
