"""Drills: revocation and rotation rehearsed, their evidence, and the rotation runbook."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.drills import rotation, runbook, service
from intaglio.mtls.drills.probes import Network
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1/drills", tags=["drills"])

Of = Annotated[str, Query(description="The organization.")]
_HTML_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class DrillRow(BaseModel):
    """One thing that was tried; ``seconds`` where a time was measured."""

    model_config = ConfigDict(from_attributes=True)

    step: str
    ingress: str
    expected: str
    observed: str
    passed: bool
    seconds: float | None


class Drill(BaseModel):
    """A drill with its evidence; ``figures`` are seconds."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization: str
    domain: str
    kind: Literal["revoke", "rotate", "runbook"]
    state: Literal["running", "passed", "failed", "aborted"]
    rows: Sequence[DrillRow]
    figures: dict[str, float]
    started_by: str
    started_at: datetime
    finished_at: datetime | None


class DueDrill(BaseModel):
    """When a drill has to be repeated."""

    model_config = ConfigDict(from_attributes=True)

    domain: str
    kind: Literal["revoke", "rotate", "runbook"]
    last: datetime | None
    due_at: datetime
    overdue: bool


class _Rehearsal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    connect: dict[str, str] = Field(
        default_factory=dict, description="Where ingresses are reached (https://host:port/), by name."
    )
    server_ca: str = Field(default="", description="What vouches for their servers (PEM).")

    @property
    def network(self) -> Network:
        return Network(self.connect, self.server_ca.encode())


class RevocationDrill(_Rehearsal):
    """Without ``service``, an identity is made for it, and retired afterwards."""

    domain: str
    service: str | None = None


class RotationDrill(_Rehearsal):
    """``rollover``: exchange a CA too, in a trust domain made for it."""

    domain: str
    rollover: bool = True


class RunbookWish(BaseModel):
    """Whose runbook."""

    model_config = ConfigDict(extra="forbid")

    domain: str
    format: Literal["markdown", "html"] = "markdown"


@router.get("")
async def list_drills(mtls: GivenMtls, asker: Asker, asked: Asked, organization: Of) -> Items[Drill]:
    """The drills of an organization."""
    found = await service.list_drills(mtls, asker, organization)
    return page([Drill.model_validate(each) for each in found], asked, key="id")


@router.get("/due")
async def list_due_drills(mtls: GivenMtls, asker: Asker, asked: Asked, organization: Of) -> Items[DueDrill]:
    """When each drill has to be repeated."""
    found = await service.due_drills(mtls, asker, organization)
    return page([DueDrill.model_validate(each) for each in found], asked, key="domain")


@router.post("/revoke", status_code=201)
async def drill_revocation(mtls: GivenMtls, asker: Asker, body: RevocationDrill) -> Drill:
    """Revoke a certificate made for it, and measure until every ingress refuses it. Takes up to a minute or two."""
    made = await service.revocation_drill(mtls, asker, body.domain, service=body.service, network=body.network)
    return Drill.model_validate(made)


@router.post("/rotate", status_code=201)
async def drill_rotation(mtls: GivenMtls, asker: Asker, body: RotationDrill) -> Drill:
    """Renew, revoke and re-issue a certificate, and exchange a CA."""
    made = await rotation.rotation_drill(mtls, asker, body.domain, network=body.network, rollover=body.rollover)
    return Drill.model_validate(made)


@router.post(
    "/runbook",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
async def generate_runbook(mtls: GivenMtls, asker: Asker, body: RunbookWish) -> Response:
    """The rotation runbook of a trust domain, from what is recorded."""
    made = await runbook.make_runbook(mtls, asker, body.domain)
    if body.format == "html":
        return Response(runbook.as_html(made), media_type="text/html", headers=_HTML_HEADERS)
    return PlainTextResponse(runbook.as_markdown(made), media_type="text/markdown")


@router.get("/{drill}")
async def get_drill(mtls: GivenMtls, asker: Asker, drill: UUID) -> Drill:
    """One drill with its evidence."""
    return Drill.model_validate(await service.get_drill(mtls, asker, drill))
