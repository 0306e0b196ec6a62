"""What one process asks the database about challenges: many in one statement, for devices come in crowds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.db.gathered import Gathered
from intaglio.enrollment.credentials import StoredCredential
from intaglio.enrollment.limits import stored_name
from intaglio.enrollment.own_statements import OwnStatements


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


_LOOK: Final = """
SELECT q.n, c.*, k.count AS failures, k.expires_at AS failures_end
FROM unnest(%(endpoints)s::uuid[], %(digests)s::bytea[], %(names)s::text[])
     WITH ORDINALITY AS q(endpoint, digest, name, n)
LEFT JOIN enrollment_credential AS c ON c.endpoint_id = q.endpoint AND c.digest = q.digest AND c.kind <> 'spent'
LEFT JOIN enrollment_counter AS k ON k.name = q.name AND k.expires_at > %(now)s
ORDER BY q.n
"""


class ChallengeLookups:
    """The challenges of all endpoints. ``key`` is that of the installation for their digests, once it was read."""

    def __init__(self, database: Database) -> None:
        self._statements = OwnStatements(database)
        self._looking = Gathered(self._look)
        self.key: bytes | None = None

    async def look(self, endpoint_id: UUID, digest: bytes, failures: str, most: int) -> Looked:
        """What is known of a challenge, asked for by somebody whose failures are counted under that name."""
        return await self._looking.do(_Question(endpoint_id, digest, stored_name(failures), most))

    async def close(self) -> None:
        """Give the connection back."""
        await self._statements.close()

    async def _look(self, questions: Sequence[_Question]) -> list[Looked]:
        now = clock.now()
        asked = {
            "endpoints": [each.endpoint_id for each in questions],
            "digests": [each.digest for each in questions],
            "names": [each.failures for each in questions],
            "now": now,
        }
        rows = await self._statements.all(_LOOK, asked)
        return [_looked(row, each.most, now) for row, each in zip(rows, questions, strict=True)]


def _looked(row: Mapping[str, Any], most: int, now: datetime) -> Looked:
    found = None if row["id"] is None else StoredCredential.of(row)
    full = row["failures"] is not None and row["failures"] >= most
    return Looked(
        found if found is not None and found.is_usable(now) else None, row["failures_end"] - now if full else None
    )
