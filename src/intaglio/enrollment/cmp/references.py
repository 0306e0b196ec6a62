"""Shared secrets by their reference, looked up for many messages at once, with what was guessed wrong lately."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from intaglio.core.errors import Unauthenticated
from intaglio.db.engine import Row
from intaglio.db.gathered import Gathered
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credentials import Bound, SharedSecret, credential_unknown, purpose_of
from intaglio.enrollment.limits import source_network, too_many
from intaglio.enrollment.values import Endpoint

MOST_FAILURES: Final = 20
FAILURE_PERIOD: Final = timedelta(minutes=10)
_LONGEST_REFERENCE: Final = 400

_LOOKUP = text("""
SELECT c.id, c.name, c.sealed, c.bound, c.uses_left, c.not_after IS NULL OR c.not_after > :now AS in_time,
    k.count AS failures, k.expires_at - :now AS locked_for
FROM unnest(CAST(:endpoints AS uuid[]), CAST(:references AS text[]), CAST(:counters AS text[])) WITH ORDINALITY
    AS asked(endpoint_id, reference, counter, position)
LEFT JOIN enrollment_credential AS c
    ON c.endpoint_id = asked.endpoint_id AND c.kind = 'mac' AND c.name = asked.reference
LEFT JOIN enrollment_counter AS k ON k.name = asked.counter AND k.expires_at > :now
ORDER BY asked.position
""")


class _Asked(NamedTuple):
    endpoint_id: UUID
    reference: str
    counter: str


class References:
    """The shared secrets of one process. Nothing is remembered: a secret that was deleted counts no more at once."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._gathered = Gathered(self._look_up)

    async def secret(self, endpoint: Endpoint, reference: str, source: str, *, finishing: bool) -> SharedSecret:
        """The secret with a reference; ``finishing`` when what it is asked for was begun before it was used up.

        Raises Unauthenticated (``credential-unknown``), RateLimited where too much was guessed wrong, Unavailable.
        """
        asked = _Asked(endpoint.id, reference.replace("\0", "")[:_LONGEST_REFERENCE], _counter(endpoint, source))
        found = await self._gathered.do(asked)
        if (found["failures"] or 0) >= MOST_FAILURES:
            raise too_many(found["locked_for"])
        usable = finishing or (found["uses_left"] != 0 and found["in_time"])
        if found["sealed"] is None or found["name"] != reference or not usable:
            raise await self.failed(endpoint, source)
        secret = self._enrollment.master_key.open(found["sealed"], purpose=purpose_of(found["id"]))
        bound = Bound.model_validate(found["bound"])
        return SharedSecret(found["id"], reference, secret, bound, found["uses_left"] is not None)

    async def failed(self, endpoint: Endpoint, source: str) -> Unauthenticated:
        """Count a wrong guess; the refusal of it. Raises RateLimited beyond the limit."""
        await self._enrollment.limits.take(_counter(endpoint, source), MOST_FAILURES, FAILURE_PERIOD)
        return credential_unknown()

    async def _look_up(self, asked: Sequence[_Asked]) -> Sequence[Row]:
        endpoints, references, counters = (list(column) for column in zip(*asked, strict=True))
        async with self._enrollment.database.read() as view:
            parameters = {"endpoints": endpoints, "references": references, "counters": counters, "now": view.now}
            return await view.all(_LOOKUP, parameters)


def _counter(endpoint: Endpoint, source: str) -> str:
    return f"cmp-mac:{endpoint.id}:{source_network(source)}"
