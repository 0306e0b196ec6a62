"""What concurrent callers ask is done together, and nobody suffers for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from intaglio.core.errors import InvalidInput
from intaglio.db.gathered import Gathered


async def test_one_item_that_cannot_be_stored_does_not_fail_its_neighbours() -> None:
    batches: list[list[int]] = []

    async def execute(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        if 13 in items:
            raise InvalidInput("That cannot be stored.", code="not-storable")
        return [item * 2 for item in items]

    gathered = Gathered(execute)
    found = await asyncio.gather(*(gathered.do(item) for item in (1, 13, 3)), return_exceptions=True)
    assert isinstance(found[1], InvalidInput)
    assert [found[0], found[2]] == [2, 6]
    assert batches[0] == [1, 13, 3]
