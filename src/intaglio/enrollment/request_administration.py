"""The queue of requests that wait for approval: list, look at, approve, reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from intaglio.audit.record import record
from intaglio.authority import models as authority
from intaglio.authority.access import sees_all
from intaglio.core.errors import NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.enrollment import approvals, models
from intaglio.enrollment.administration import visible_organizations
from intaglio.enrollment.approvals import WaitingRequest
from intaglio.enrollment.context import Enrollment

_r, _e, _ca = models.request.c, models.endpoint.c, authority.ca.c
_QUERY = select(
    models.request,
    _e.protocol,
    _e.name.label("endpoint_name"),
    _ca.organization_id,
    authority.organization.c.name.label("organization"),
).select_from(
    models.request.join(models.endpoint, _e.id == _r.endpoint_id)
    .join(authority.ca, _ca.id == _e.ca_id)
    .join(authority.organization, authority.organization.c.id == _ca.organization_id)
)
_COLUMNS = {
    "id": _r.id,
    "state": _r.state,
    "protocol": _e.protocol,
    "endpoint": _e.name,
    "applicant": _r.applicant,
    "source": _r.source,
    "subject": _r.subject,
    "created_at": _r.created_at,
    "expires_at": _r.expires_at,
}


@dataclass(frozen=True)
class RequestView:
    """A request and where it was made; ``endpoint`` is ``protocol/name``."""

    request: WaitingRequest
    endpoint: str
    organization: str


@dataclass(frozen=True)
class RequestPage:
    """A page of requests; see ``db.listing.Page``."""

    items: Sequence[RequestView]
    next_cursor: str | None
    total: int | None


async def list_requests(enrollment: Enrollment, principal: Principal, asked: ListQuery) -> RequestPage:
    """Requests at the endpoints of all CAs the principal sees. Needs ``enrollment.view``. Raises InvalidInput."""
    principal.require(Permission.ENROLLMENT_VIEW)
    query = _QUERY
    async with enrollment.database.read() as view:
        if not sees_all(principal):
            query = query.where(_ca.organization_id.in_(await visible_organizations(view, principal)))
        page = await Listing(query, _COLUMNS, models.request.c.id, "-created_at").page(view, asked)
    return RequestPage([_view(row) for row in page.rows], page.next_cursor, page.total)


async def show_request(enrollment: Enrollment, principal: Principal, request_id: UUID) -> RequestView:
    """One request. Needs ``enrollment.view``. Raises NotFound."""
    async with enrollment.database.read() as view:
        return _view(await _require(view, principal, request_id, Permission.ENROLLMENT_VIEW))


async def approve_request(
    enrollment: Enrollment, principal: Principal, request_id: UUID, note: str = ""
) -> RequestView:
    """Let a request be issued when its applicant asks again. Needs ``enrollment.approve``.

    Raises NotFound, StateConflict (``request-decided``).
    """
    return await _decide(enrollment, principal, request_id, "approved", note)


async def reject_request(
    enrollment: Enrollment, principal: Principal, request_id: UUID, reason: str = ""
) -> RequestView:
    """Refuse a request; its applicant is told the reason. Needs ``enrollment.approve``. Raises like
    :func:`approve_request`."""
    return await _decide(enrollment, principal, request_id, "rejected", reason)


async def _decide(
    enrollment: Enrollment, principal: Principal, request_id: UUID, state: str, reason: str
) -> RequestView:
    async with enrollment.database.transaction() as tx:
        row = await _require(tx, principal, request_id, Permission.ENROLLMENT_APPROVE, lock=True)
        found = _view(row)
        if found.request.state != "pending" or found.request.expires_at <= tx.now:
            raise StateConflict(
                f"The request is {found.request.state if found.request.state != 'pending' else 'expired'}.",
                code="request-decided",
                remedy="Only a request that is pending can be decided.",
            )
        values: dict[str, Any] = {
            "state": state,
            "reason": reason[:1000],
            "decided_by": principal.name,
            "decided_at": tx.now,
            "expires_at": tx.now + approvals.WAITS,
        }
        await tx.execute(update(models.request).where(models.request.c.id == request_id).values(**values))
        record(
            tx,
            principal,
            "enrollment-request.approve" if state == "approved" else "enrollment-request.reject",
            "enrollment-request",
            str(request_id),
            organization=found.organization,
            endpoint=found.endpoint,
            subject=found.request.subject,
            reason=reason[:1000],
        )
        return _view({**row, **values})


async def _require(
    view: Transaction, principal: Principal, request_id: UUID, permission: Permission, *, lock: bool = False
) -> Row:
    principal.require(permission)
    query = _QUERY.where(models.request.c.id == request_id)
    row = await view.one_or_none(query.with_for_update(of=models.request) if lock else query)
    unseen = row is None or not (
        sees_all(principal) or row["organization_id"] in await visible_organizations(view, principal)
    )
    if row is None or unseen:
        raise NotFound(f"There is no request {request_id}.", code="enrollment-request-unknown", target="id")
    return row


def _view(row: Row) -> RequestView:
    return RequestView(WaitingRequest.of(row), f"{row['protocol']}/{row['endpoint_name']}", row["organization"])
