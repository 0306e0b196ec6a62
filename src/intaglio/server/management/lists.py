"""Lists that are in memory (roles, organizations, CAs ...), asked for like the lists in the database."""

from __future__ import annotations

import base64
import binascii
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from intaglio.core.errors import InvalidInput
from intaglio.db.listing import ListQuery

T = TypeVar("T", bound=BaseModel)

_CONDITION = re.compile(r"([a-z][a-z0-9_]*)(!=|>=|<=|=|>|<|~)(.*)", re.DOTALL)


def _contains(member: str, wanted: str) -> bool:
    return wanted.lower() in member.lower()


_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "~": _contains,
}
_MOST_CONDITIONS = 20


class Items(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next_cursor: str | None = Field(default=None, description="Asks for the next page; null at the end.")
    total: int | None = Field(default=None, description="All matching items, when asked with `total=true`.")


def page(items: Iterable[T], asked: ListQuery, *, key: str) -> Items[T]:
    """The page of ``items`` that was asked for; ``key`` is the member that identifies an item and sorts by default.

    Conditions compare the members as they are shown; one of several values is enough for a list member. Raises
    InvalidInput (``filter-invalid``, ``sort-invalid``, ``cursor-invalid``).
    """
    shown = [(item, item.model_dump(mode="json")) for item in items]
    names = set(shown[0][1]) if shown else None
    for text in asked.filter[:_MOST_CONDITIONS]:
        shown = [pair for pair in shown if _holds(pair[1], *_condition(text, names))]
    name, descending = (asked.sort or key).removeprefix("-"), (asked.sort or key).startswith("-")
    if names is not None and name not in names:
        raise InvalidInput(f'The list cannot be sorted by "{name[:50]}".', code="sort-invalid", target="sort")
    shown.sort(key=lambda pair: _order(pair[1], name, key), reverse=descending)
    count = len(shown)
    if asked.cursor is not None:
        after = _position(asked)
        shown = [
            p for p in shown if (_order(p[1], name, key) < after if descending else _order(p[1], name, key) > after)
        ]
    visible = shown[: asked.limit]
    more = len(shown) > asked.limit
    return Items(
        items=[item for item, _ in visible],
        next_cursor=_cursor(asked, _order(visible[-1][1], name, key)) if more else None,
        total=count if asked.total else None,
    )


def _condition(text: str, names: set[str] | None) -> tuple[str, str, str]:
    match = _CONDITION.fullmatch(text) if len(text) <= 1000 else None
    if match is None or (names is not None and match[1] not in names):
        raise InvalidInput(
            f'The condition "{text[:80]}" is not understood.',
            code="filter-invalid",
            remedy=f"Write name=value with one of: {', '.join(sorted(names or ()))}.",
            target="filter",
        )
    return match[1], match[2], match[3]


def _holds(members: Mapping[str, Any], name: str, op: str, wanted: str) -> bool:
    member = members[name]
    values = member if isinstance(member, list) else [member]
    found = [bool(_COMPARE[op](_text(value), wanted)) for value in values]
    return all(found) if op == "!=" else any(found)


def _order(members: Mapping[str, Any], name: str, key: str) -> tuple[str, str]:
    return _text(members[name]), _text(members[key])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cursor(asked: ListQuery, position: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([asked.sort or "", *position]).encode()).decode()


def _position(asked: ListQuery) -> tuple[str, str]:
    try:
        sort, value, identity = json.loads(base64.urlsafe_b64decode((asked.cursor or "").encode("ascii")))
        if sort != (asked.sort or "") or not isinstance(value, str) or not isinstance(identity, str):
            raise ValueError
    except (ValueError, TypeError, UnicodeError, binascii.Error, RecursionError):
        raise InvalidInput(
            "The cursor does not belong to this list.",
            code="cursor-invalid",
            remedy="Use the cursor of the page before, with the same sort.",
            target="cursor",
        ) from None
    return value, identity
