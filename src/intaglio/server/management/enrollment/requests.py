"""Certificate requests that wait for approval."""

from __future__ import annotations

import base64
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.enrollment import request_administration
from intaglio.enrollment.request_administration import RequestView
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items
from intaglio.x509.requests import request_pem

router = APIRouter(tags=["enrollment"])


class EnrollmentRequest(BaseModel):
    """A request at an endpoint that wants approval. ``state``: pending, approved, rejected, issued, expired."""

    id: UUID
    state: str
    endpoint: str
    organization: str
    applicant: str
    method: str
    source: str
    subject: str
    sans: list[str]
    note: str
    csr: str | None = Field(description="PEM.")
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str
    certificate_id: UUID | None


class Decision(BaseModel):
    """Why; whoever asked is told the reason of a rejection."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)


@router.get("/enrollment/requests")
async def list_enrollment_requests(services: Given, asker: Asker, asked: Asked) -> Items[EnrollmentRequest]:
    """Requests, newest first; `filter=state=pending` shows those that wait."""
    found = await request_administration.list_requests(services.enrollment, asker, asked)
    return Items(items=[_request(each) for each in found.items], next_cursor=found.next_cursor, total=found.total)


@router.get("/enrollment/requests/{id}")
async def get_enrollment_request(services: Given, asker: Asker, id: UUID) -> EnrollmentRequest:
    """One request."""
    return _request(await request_administration.show_request(services.enrollment, asker, id))


@router.post("/enrollment/requests/{id}/approve")
async def approve_enrollment_request(
    services: Given, asker: Asker, id: UUID, body: Decision | None = None
) -> EnrollmentRequest:
    """Let it be issued when its client asks again."""
    reason = "" if body is None else body.reason
    return _request(await request_administration.approve_request(services.enrollment, asker, id, reason))


@router.post("/enrollment/requests/{id}/reject")
async def reject_enrollment_request(
    services: Given, asker: Asker, id: UUID, body: Decision | None = None
) -> EnrollmentRequest:
    """Refuse it; its client is told the reason."""
    reason = "" if body is None else body.reason
    return _request(await request_administration.reject_request(services.enrollment, asker, id, reason))


def _request(found: RequestView) -> EnrollmentRequest:
    request = found.request
    csr = request.application.get("csr")
    return EnrollmentRequest(
        id=request.id,
        state=request.state,
        endpoint=found.endpoint,
        organization=found.organization,
        applicant=request.applicant,
        method=request.method,
        source=request.source,
        subject=request.subject,
        sans=list(request.sans),
        note=request.note,
        csr=None if csr is None else request_pem(base64.b64decode(csr)),
        created_at=request.created_at,
        expires_at=request.expires_at,
        decided_by=request.decided_by,
        decided_at=request.decided_at,
        reason=request.reason,
        certificate_id=request.certificate_id,
    )
