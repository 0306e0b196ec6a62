"""Reading the audit trail: filter, sort, page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, and_, false, or_, select

from intaglio.audit.models import audit_record
from intaglio.audit.record import Outcome
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery


class AuditRecord(BaseModel):
    """Who did what to which object, when, with what outcome."""

    model_config = ConfigDict(frozen=True)

    seq: int
    at: datetime
    actor_kind: str
    actor: str
    action: str
    object_kind: str
    object: str
    outcome: Outcome
    organization: str | None
    detail: dict[str, Any]
    correlation_id: str
    source: str


class AuditPage(BaseModel):
    """A page of the trail."""

    items: list[AuditRecord]
    next_cursor: str | None
    total: int | None = None


_LISTING = Listing(
    select(audit_record),
    {
        "seq": audit_record.c.seq,
        "at": audit_record.c.at,
        "actor": audit_record.c.actor,
        "actor_kind": audit_record.c.actor_kind,
        "action": audit_record.c.action,
        "object": audit_record.c.object,
        "object_kind": audit_record.c.object_kind,
        "outcome": audit_record.c.outcome,
        "organization": audit_record.c.organization,
        "correlation_id": audit_record.c.correlation_id,
        "source": audit_record.c.source,
    },
    identity=audit_record.c.seq,
    sort="-seq",
    sortable=frozenset({"seq", "at"}),
)


async def search(
    view: Transaction,
    principal: Principal,
    asked: ListQuery | None = None,
    *,
    organizations: Mapping[str, datetime] | None = None,
) -> AuditPage:
    """Records, newest first unless told otherwise. The whole trail needs ``audit.view``.

    ``asked.filter`` knows seq, at, actor, actor_kind, action, object, object_kind, outcome, organization,
    correlation_id and source (see :mod:`intaglio.db.listing`). ``organizations`` limits the view to the records of
    these, each from the instant it was created: an earlier one may have had its name. Whether ``principal`` may see
    them is for the caller to know. Raises Forbidden, InvalidInput.
    """
    listing = _LISTING
    if organizations is None:
        principal.require(Permission.AUDIT_VIEW)
    else:
        limited = _LISTING.query.where(_within(organizations))
        listing = Listing(limited, _LISTING.columns, _LISTING.identity, _LISTING.sort, _LISTING.sortable)
    page = await listing.page(view, asked or ListQuery())
    return AuditPage(items=[_record(row) for row in page.rows], next_cursor=page.next_cursor, total=page.total)


async def get(
    view: Transaction, principal: Principal, seq: int, *, organizations: Mapping[str, datetime] | None = None
) -> AuditRecord:
    """One record; who may see it as for :func:`search`. Raises Forbidden, NotFound."""
    query = select(audit_record).where(audit_record.c.seq == seq)
    if organizations is None:
        principal.require(Permission.AUDIT_VIEW)
    else:
        query = query.where(_within(organizations))
    row = await view.one_or_none(query)
    if row is None:
        raise NotFound(f"There is no audit record {seq}.", code="audit-record-unknown")
    return _record(row)


def _within(organizations: Mapping[str, datetime]) -> ColumnElement[bool]:
    r = audit_record.c
    # The names once more, for the index.
    each = (and_(r.organization == name, r.at >= created_at) for name, created_at in organizations.items())
    return and_(r.organization.in_(list(organizations)), or_(false(), *each))


def _record(row: Row) -> AuditRecord:
    return AuditRecord(**{name: row[name] for name in AuditRecord.model_fields})
