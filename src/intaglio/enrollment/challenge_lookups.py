"""What one process asks the database about challenges: many in one statement, for devices come in crowds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.db.gathered import Gathered
from intaglio.enrollment import models
from intaglio.enrollment.credentials import StoredCredential
from intaglio.enrollment.limits import stored_name


@dataclass(frozen=True)
class Looked:
    """The usable credential with a digest, None when there is none; and for how long its asker has to wait, None when
    he need not."""

    credential: StoredCredential | None
    wait: timedelta | None


class _Question(NamedTuple):
    endpoint_id: UUID
    digest: bytes
    failures: str
    most: int


class ChallengeLookups:
    """The challenges of all endpoints. ``key`` is that of the installation for their digests, once it was read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looking = Gathered(self._look)
        self.key: bytes | None = None

    async def look(self, endpoint_id: UUID, digest: bytes, failures: str, most: int) -> Looked:
        """What is known of a challenge, asked for by somebody whose failures are counted under that name."""
        return await self._looking.do(_Question(endpoint_id, digest, stored_name(failures), most))

    async def _look(self, questions: Sequence[_Question]) -> list[Looked]:
        c, n, now = models.credential.c, models.counter.c, clock.now()
        known = select(models.credential).where(
            c.digest.in_({each.digest for each in questions}),
            c.endpoint_id.in_({each.endpoint_id for each in questions}),
            c.kind != "spent",
        )
        counted = select(models.counter).where(n.name.in_({each.failures for each in questions}), n.expires_at > now)
        async with self._database.read() as view:
            rows = await view.all(known)
            counters = {row["name"]: row for row in await view.all(counted)}
        usable = {
            (found.endpoint_id, bytes(row["digest"])): found
            for row in rows
            if (found := StoredCredential.of(row)).is_usable(now)
        }
        answers = []
        for each in questions:
            counter = counters.get(each.failures)
            full = counter is not None and counter["count"] >= each.most
            wait = counter["expires_at"] - now if counter is not None and full else None
            answers.append(Looked(usable.get((each.endpoint_id, each.digest)), wait))
        return answers
