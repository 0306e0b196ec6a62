"""The one way to filter, sort and page a list.

``filter`` is a list of conditions ``name OP value`` that must all hold, with OP one of ``=`` ``!=`` ``>=`` ``<=``
``>`` ``<`` and ``~`` (contains, whatever the case): ``outcome=refused``, ``at>=2026-01-01T00:00:00Z``. ``sort`` is a
name, with ``-`` in front for descending. ``cursor`` is the opaque end of the page before: paging follows the sort key
and the row's identity (keyset paging), so a page costs the same wherever it is, and rows that come or go meanwhile are
neither repeated nor skipped.
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Integer,
    LargeBinary,
    Select,
    String,
    Uuid,
    and_,
    collate,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.types import Boolean

from intaglio.core.errors import InvalidInput
from intaglio.db.engine import Row, Transaction

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 1000
_MOST_CONDITIONS, _LONGEST_VALUE, _LONGEST_CURSOR = 20, 1000, 4000
_NO_TEXT = (DateTime, Integer, LargeBinary, Boolean, PG_UUID, Uuid)
_CONDITION = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(!=|>=|<=|=|>|<|~)(.*)", re.DOTALL)
_COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class ListQuery:
    """What a caller asked for: conditions, sort key, page size, the end of the page before, whether to count."""

    filter: Sequence[str] = ()
    sort: str | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    total: bool = False


@dataclass(frozen=True)
class Page:
    """Rows, the cursor of the next page (None at the end), and how many rows match in all when asked."""

    rows: Sequence[Row]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True)
class Listing:
    """A list that can be asked for: a query, its public names for columns, and a unique column that settles ties.

    ``columns`` are never null where they can be sorted by (``sortable``; all of them unless given).
    """

    query: Select[Any]
    columns: Mapping[str, ColumnElement[Any]]
    identity: Column[Any]
    sort: str
    sortable: frozenset[str] | None = None

    async def page(self, view: Transaction, asked: ListQuery) -> Page:
        """One page. Raises InvalidInput (``filter-invalid``, ``sort-invalid``, ``limit-invalid``,
        ``cursor-invalid``)."""
        if not 1 <= asked.limit <= LARGEST_LIMIT:
            raise InvalidInput(f"limit is 1 to {LARGEST_LIMIT}.", code="limit-invalid", target="limit")
        name, descending = self._sort_key(asked.sort)
        column = self.columns[name]
        matching = self.query.where(*self._conditions(asked.filter))
        total = None
        if asked.total:
            total = int(await view.scalar(select(func.count()).select_from(matching.order_by(None).subquery())))
        query = matching.add_columns(column.label("_sort"), self.identity.label("_identity"))
        if asked.cursor is not None:
            query = query.where(_beyond(column, self.identity, descending, *self._position(asked, name)))
        order = [column.desc(), self.identity.desc()] if descending else [column.asc(), self.identity.asc()]
        rows = await view.all(query.order_by(*order).limit(asked.limit + 1))
        more = len(rows) > asked.limit
        shown = rows[: asked.limit]
        return Page(shown, _cursor(asked, shown[-1]) if more else None, total)

    def _sort_key(self, sort: str | None) -> tuple[str, bool]:
        name = (sort or self.sort).removeprefix("-")
        allowed = self.sortable if self.sortable is not None else frozenset(self.columns)
        if name not in allowed:
            raise InvalidInput(
                f'The list cannot be sorted by "{name[:50]}".',
                code="sort-invalid",
                remedy=f"Sort by one of: {', '.join(sorted(allowed))}.",
                target="sort",
            )
        return name, (sort or self.sort).startswith("-")

    def _conditions(self, conditions: Sequence[str]) -> list[ColumnElement[bool]]:
        if len(conditions) > _MOST_CONDITIONS:
            raise InvalidInput(f"At most {_MOST_CONDITIONS} conditions.", code="filter-invalid", target="filter")
        return [self._condition(text) for text in conditions]

    def _condition(self, text: str) -> ColumnElement[bool]:
        match = _CONDITION.fullmatch(text) if len(text) <= _LONGEST_VALUE else None
        if match is None or match[1] not in self.columns:
            raise InvalidInput(
                f'The condition "{text[:80]}" is not understood.',
                code="filter-invalid",
                remedy=f"Write name=value with one of: {', '.join(sorted(self.columns))}.",
                target="filter",
            )
        column = self.columns[match[1]]
        if match[2] == "~":
            return _contains(column, match[1], match[3])
        condition: ColumnElement[bool] = _COMPARE[match[2]](column, _parsed(column, match[3], "filter"))
        return condition

    def _position(self, asked: ListQuery, name: str) -> tuple[Any, Any]:
        try:
            text = asked.cursor or ""
            if len(text) > _LONGEST_CURSOR:
                raise ValueError
            sort, value, identity = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
            if sort != (asked.sort or "") or not isinstance(value, str) or not isinstance(identity, str):
                raise ValueError
            return _parsed(self.columns[name], value, "cursor"), _parsed(self.identity, identity, "cursor")
        except (ValueError, TypeError, UnicodeError, binascii.Error, InvalidInput, RecursionError):
            raise InvalidInput(
                "The cursor does not belong to this list.",
                code="cursor-invalid",
                remedy="Use the cursor of the page before, with the same sort.",
                target="cursor",
            ) from None


def _contains(column: ColumnElement[Any], name: str, part: str) -> ColumnElement[bool]:
    if isinstance(column.type, _NO_TEXT):
        raise InvalidInput(
            f'"{name}" is not a text, so "~" cannot search in it.',
            code="filter-invalid",
            remedy="Compare it with = != >= <= > or <.",
            target="filter",
        )
    # Of ASCII only A to Z have another case, which PostgreSQL folds in half the time.
    searched = collate(type_coerce(column, String), "C") if part.isascii() else column
    return func.strpos(func.lower(searched), part.lower()) > 0


def _beyond(
    column: ColumnElement[Any], identity: Column[Any], descending: bool, value: Any, of: Any
) -> ColumnElement[bool]:
    if descending:
        return or_(column < value, and_(column == value, identity < of))
    return or_(column > value, and_(column == value, identity > of))


def _cursor(asked: ListQuery, row: Row) -> str:
    parts = [asked.sort or "", _spelled(row["_sort"]), _spelled(row["_identity"])]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _spelled(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def _parsed(column: ColumnElement[Any], text: str, target: str) -> Any:
    kind = column.type
    try:
        if isinstance(kind, DateTime):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(kind, Integer):
            number = int(text)
            if not -(2**63) <= number < 2**63:
                raise ValueError
            return number
        if isinstance(kind, Boolean):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(kind, PG_UUID | Uuid):
            return UUID(text)
        if isinstance(kind, LargeBinary):
            return bytes.fromhex(text)
    except (ValueError, KeyError, OverflowError):
        detail = f'"{text[:80]}" is not a value of this field.'
        raise InvalidInput(detail, code="filter-invalid", target=target) from None
    if "\0" in text:
        raise InvalidInput("Text cannot contain NUL characters.", code="filter-invalid", target=target)
    return text
