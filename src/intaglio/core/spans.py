"""Spans of time as operators write them: 500ms, 5s, 10m, 4h, 30d, also put together (1h30m)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema

from intaglio.core.errors import InvalidInput

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}  # milliseconds
_PART = re.compile(r"(\d{1,9})(ms|d|h|m|s)", re.ASCII)
_SPAN = re.compile(r"(?:\d{1,9}(?:ms|d|h|m|s))+", re.ASCII)


def parse_span(text: str) -> timedelta:
    """The span that ``text`` says: whole numbers with ``d``, ``h``, ``m``, ``s`` or ``ms``, each unit once.

    Raises InvalidInput (``span-unreadable``).
    """
    compact = text.strip().lower()
    parts = _PART.findall(compact)
    if len(compact) > 60 or not _SPAN.fullmatch(compact) or len({unit for _, unit in parts}) != len(parts):
        raise InvalidInput(
            f'"{text[:40]}" is not a span of time.', code="span-unreadable", remedy="Write for example 500ms, 5s or 8h."
        )
    return timedelta(milliseconds=sum(int(number) * _UNITS[unit] for number, unit in parts))


def format_span(span: timedelta) -> str:
    """The shortest text that :func:`parse_span` reads as this span of whole milliseconds, not negative."""
    left, text = round(span / timedelta(milliseconds=1)), ""
    for unit, size in _UNITS.items():
        number, left = divmod(left, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def _from_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_span(value)
    except InvalidInput as error:
        raise ValueError(f"{error.detail.rstrip('.')}; write for example 500ms, 5s or 8h") from None


#: A span as a pydantic field, written as its text.
Span = Annotated[
    InstanceOf[timedelta],
    BeforeValidator(_from_text),
    PlainSerializer(format_span, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["5s", "4h"]}),
]
