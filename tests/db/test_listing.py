"""Filters of lists that PostgreSQL answers."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import insert, select

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.db.engine import Database
from intaglio.db.listing import Listing, ListQuery
from intaglio.keystore.models import private_key

_C = private_key.c
_LISTING = Listing(
    select(private_key),
    {"id": _C.id, "label": _C.label, "public_key": _C.public_key, "created_at": _C.created_at},
    identity=_C.id,
    sort="id",
)
LABELS = ("ca:demo~issuing", "Zoë Example", "ЖУРНАЛ", "100%_sure")


async def found(database: Database, *conditions: str) -> list[str]:
    async with database.transaction() as tx:
        for number, label in enumerate(LABELS):
            await tx.execute(
                insert(private_key).values(
                    id=UUID(int=number), provider="software", algorithm="ed25519", label=label,
                    public_key=bytes([0x30, number]), created_at=clock.now(),
                )
            )  # fmt: skip
        return [row["label"] for row in (await _LISTING.page(tx, ListQuery(list(conditions)))).rows]


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ("label~DEMO~ISS", "ca:demo~issuing"),
        ("label~zoë", "Zoë Example"),
        ("label~ZOË", "Zoë Example"),
        ("label~zo", "Zoë Example"),
        ("label~журнал", "ЖУРНАЛ"),
        ("label~%_s", "100%_sure"),
    ],
)
async def test_a_part_of_a_text_is_found_whatever_its_case(database: Database, condition: str, label: str) -> None:
    assert await found(database, condition) == [label]


@pytest.mark.parametrize("name", ["id", "public_key", "created_at"])
async def test_only_texts_are_searched_for_a_part(database: Database, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await found(database, f"{name}~30")
    assert refused.value.code == "filter-invalid"
