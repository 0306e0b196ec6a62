"""What is recorded of each part of a source: read, and written after every look at it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from intaglio.core.errors import IntaglioError
from intaglio.db.engine import Transaction
from intaglio.validation import models

_S = models.status_source
_LONGEST_ERROR = 1_000

#: A row of ``status_source``.
Part = Mapping[Any, Any]


async def parts_of(view: Transaction, set_id: UUID) -> dict[str, Part]:
    """Everything recorded of a set, by part."""
    rows = await view.all(select(_S).where(_S.c.set_id == set_id).order_by(_S.c.number))
    return {row["part"]: row for row in rows}


def free_number(parts: Mapping[str, Part]) -> int:
    """A number that no part has, for the entries of a new one."""
    return max((row["number"] for row in parts.values()), default=-1) + 1


async def note_ok(tx: Transaction, authority_id: UUID, set_id: UUID, part: str, number: int, **known: Any) -> None:
    """Note a successful look at a part, and what is now ``known`` of it."""
    known.setdefault("last_ok_at", tx.now)
    await note(tx, authority_id, set_id, part, number, last_error=None, **known)


async def note_failure(
    tx: Transaction, authority_id: UUID, set_id: UUID, part: str, number: int, error: IntaglioError
) -> None:
    """Note why a part could not be read; what is known stays."""
    await note(tx, authority_id, set_id, part, number, last_error=f"{error.code}: {error.detail}"[:_LONGEST_ERROR])


async def note(tx: Transaction, authority_id: UUID, set_id: UUID, part: str, number: int, **values: Any) -> None:
    """Note what is known of a part, and that it was looked at."""
    values["last_tried_at"] = tx.now
    statement = insert(_S).values(set_id=set_id, part=part, authority_id=authority_id, number=number, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[_S.c.set_id, _S.c.part], set_=values))


async def forget(tx: Transaction, set_id: UUID, part: str) -> None:
    """Forget that a part was ever read."""
    await tx.execute(delete(_S).where(_S.c.set_id == set_id, _S.c.part == part))


def moment(value: datetime | None) -> str | None:
    """A time for the audit trail."""
    return None if value is None else value.isoformat()
