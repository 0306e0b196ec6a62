"""Reading access events, and letting old ones go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select

from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Database, Row
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation.models import access_event

_BATCH = 20_000

_FILTERS = (
    "at", "kind", "recorder", "ingress", "source_ip", "identity", "claimed", "identity_kind", "serial", "fingerprint",
    "issuer", "san", "tls_version", "cipher", "decision", "mode", "reason", "certificate_reason", "ip_allowed",
    "method", "host", "path", "policy",
)  # fmt: skip


@dataclass(frozen=True)
class EventPage:
    """Events as rows of the table, newest first unless asked otherwise."""

    rows: Sequence[Row]
    next_cursor: str | None
    total: int | None


async def list_events(
    mtls: Mtls, principal: Principal, asked: ListQuery | None = None, *, organization: str | None = None
) -> EventPage:
    """Access events of the organizations one sees. Needs ``mtls.view``.

    ``asked.filter`` knows the columns of an event (``reason=expired``, ``at>=2026-01-01T00:00:00Z``, ``path~admin``).
    Raises Forbidden, NotFound, InvalidInput as every list.
    """
    principal.require(Permission.MTLS_VIEW)
    e = access_event.c
    query = select(access_event)
    async with mtls.database.read() as view:
        if organization is not None:
            found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
            query = query.where(e.organization_id == found.id)
        elif not sees_all(principal):
            query = query.where(e.organization_id.in_(memberships_of(principal.name)))
        listing = replace(_LISTING, query=query)
        page = await listing.page(view, asked or ListQuery())
        return EventPage(page.rows, page.next_cursor, page.total)


_LISTING = Listing(
    select(access_event),
    {name: access_event.c[name] for name in _FILTERS},
    identity=access_event.c.id,
    sort="-at",
    sortable=frozenset({"at"}),
)


async def expire_events(database: Database, days: int) -> int:
    """Delete events that are older, in batches that hold nobody up. Returns how many."""
    e = access_event.c
    deleted = 0
    while True:
        async with database.transaction() as tx:
            old = select(e.id).where(e.at < tx.now - timedelta(days=days)).limit(_BATCH)
            result: Any = await tx.execute(delete(access_event).where(e.id.in_(old)))
            gone = int(result.rowcount)
            deleted += gone
            if gone < _BATCH:
                return deleted
