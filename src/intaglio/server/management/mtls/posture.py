"""Posture: the report, waivers, service edges and recorded scans."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.posture import forms, scan_results, service_edges, waivers
from intaglio.mtls.posture.checks import CHECKS
from intaglio.mtls.posture.report import make_report
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["posture"])

_HTML_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
Of = Annotated[str, Query(description="The organization.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True)


# ---- the report ------------------------------------------------------------------------------------------------------


class Waiver(_Shown):
    """A finding that is borne until ``until``; ``subject`` ``*`` covers all findings of the check."""

    id: UUID
    organization: str
    check: str
    subject: str
    owner: str
    reason: str
    until: datetime
    state: Literal["pending", "approved", "rejected", "withdrawn"]
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None


class PostureFinding(_Shown):
    """What breaks the rule of a check; ``waiver`` covers it, ``expired`` did until it ended."""

    check: str
    subject: str
    evidence: str
    waiver: Waiver | None
    expired: Waiver | None


class CheckResult(_Shown):
    """One check; ``count`` is how many findings there are, of which the first are listed."""

    id: str
    title: str
    rule: str
    stage: int
    status: Literal["pass", "fail", "waived", "unknown"]
    evidence: str
    remedy: str
    count: int
    findings: Sequence[PostureFinding]


class RolloutStep(_Shown):
    """One of the six steps of a rollout, and what to do next."""

    number: int
    label: str
    title: str
    done: bool
    passed: int
    checks: Sequence[str]
    next_action: str


class Barriers(_Shown):
    """Whether address and certificate each refuse on their own; null where it could not be tried."""

    ingress: str
    address_refuses: bool | None
    certificate_refuses: bool | None
    proved: bool


class PostureReport(_Shown):
    """``passed``: no check failed. ``score`` is the percentage of checks that hold, a waived one counting half."""

    organization: str
    made_at: datetime
    passed: bool
    score: int
    stage: int
    results: Sequence[CheckResult]
    steps: Sequence[RolloutStep]
    barriers: Sequence[Barriers]
    waivers: Sequence[Waiver]


class PostureCheck(_Shown):
    """A check: what it is about and what to do when it fails."""

    id: str
    title: str
    rule: str
    stage: int
    remedy: str


@router.get(
    "/posture",
    response_model=PostureReport,
    responses={200: {"content": {"text/plain": {}, "text/html": {}, "application/sarif+json": {}}}},
)
async def get_posture(
    mtls: GivenMtls,
    asker: Asker,
    organization: Of,
    format: Annotated[Literal["json", "text", "html", "sarif"], Query()] = "json",
) -> PostureReport | Response:
    """The posture of an organization as of now."""
    report = await make_report(mtls, asker, organization)
    if format == "text":
        return PlainTextResponse(forms.as_text(report))
    if format == "html":
        return Response(forms.as_html(report), media_type="text/html", headers=_HTML_HEADERS)
    if format == "sarif":
        return JSONResponse(forms.as_sarif(report), media_type="application/sarif+json")
    return PostureReport.model_validate(report)


@router.get("/posture/checks")
async def list_posture_checks(asker: Asker, asked: Asked) -> Items[PostureCheck]:
    """What is checked."""
    return page([PostureCheck.model_validate(each) for each in CHECKS.values()], asked, key="id")


# ---- waivers ---------------------------------------------------------------------------------------------------------


class WaiverWish(_Body):
    """``subject`` is that of the finding, or ``*`` for all findings of the check."""

    organization: str
    check: str
    subject: str
    owner: str
    reason: str
    until: datetime


class WaiverDecision(_Body):
    """Approved by another person than who asked; withdrawn also after that."""

    state: Literal["approved", "rejected", "withdrawn"]


@router.get("/posture/waivers")
async def list_waivers(mtls: GivenMtls, asker: Asker, asked: Asked, organization: Of) -> Items[Waiver]:
    """The waivers of an organization."""
    found = await waivers.list_waivers(mtls, asker, organization)
    return page([Waiver.model_validate(each) for each in found], asked, key="id")


@router.post("/posture/waivers", status_code=201)
async def request_waiver(mtls: GivenMtls, asker: Asker, body: WaiverWish) -> Waiver:
    """Ask for a waiver; it counts once somebody else has approved it."""
    return Waiver.model_validate(await waivers.request_waiver(mtls, asker, waivers.NewWaiver(**body.model_dump())))


@router.put("/posture/waivers/{waiver}")
async def decide_waiver(mtls: GivenMtls, asker: Asker, waiver: UUID, body: WaiverDecision) -> Waiver:
    """Approve, reject or withdraw a waiver."""
    return Waiver.model_validate(await waivers.decide_waiver(mtls, asker, waiver, body.state))


# ---- service edges ---------------------------------------------------------------------------------------------------


class ServiceEdge(_Shown):
    """A call from one service to another, and how mutual TLS protects it."""

    id: UUID
    organization: str
    caller: str
    callee: str
    protocol: str
    state: Literal["none", "permissive", "enforced"]
    origin: Literal["declared", "discovered"]
    changed_by: str
    changed_at: datetime


class ServiceEdgeWish(_Body):
    """A call, declared."""

    organization: str
    caller: str
    callee: str
    state: Literal["none", "permissive", "enforced"]
    protocol: str = "https"


class Discovery(_Body):
    """Whose access events are looked at."""

    organization: str


@router.get("/service-edges")
async def list_service_edges(mtls: GivenMtls, asker: Asker, asked: Asked, organization: Of) -> Items[ServiceEdge]:
    """Who calls whom."""
    found = await service_edges.list_edges(mtls, asker, organization)
    return page([ServiceEdge.model_validate(each) for each in found], asked, key="id")


@router.post("/service-edges", status_code=201)
async def declare_service_edge(mtls: GivenMtls, asker: Asker, body: ServiceEdgeWish) -> ServiceEdge:
    """Declare a call, or change how it is protected."""
    made = await service_edges.declare_edge(
        mtls, asker, body.organization, body.caller, body.callee, body.state, protocol=body.protocol
    )
    return ServiceEdge.model_validate(made)


@router.post("/service-edges/discover")
async def discover_service_edges(mtls: GivenMtls, asker: Asker, body: Discovery) -> Items[ServiceEdge]:
    """Write down the calls that ingresses have let in during the last seven days."""
    found = await service_edges.discover_edges(mtls, asker, body.organization)
    return Items[ServiceEdge](items=[ServiceEdge.model_validate(each) for each in found], total=len(found))


@router.delete("/service-edges/{edge}", status_code=204)
async def remove_service_edge(mtls: GivenMtls, asker: Asker, edge: UUID) -> None:
    """Forget a service edge."""
    await service_edges.remove_edge(mtls, asker, edge)


# ---- scans -----------------------------------------------------------------------------------------------------------


class ScanFinding(BaseModel):
    """A finding of `intaglio mtls scan ... --format json`; what else it has is ignored."""

    rule: str = Field(max_length=200)
    place: str = Field(max_length=4096)
    text: str = Field(max_length=4096)
    waived: str | None = None


class ScanWish(_Body):
    """The report of a scan."""

    organization: str
    kind: Literal["code", "keys", "endpoints"]
    place: str
    complete: bool
    findings: list[ScanFinding] = Field(max_length=scan_results.MOST_FINDINGS)


class ScanResult(_Shown):
    """The newest result of a scan of one place."""

    id: UUID
    kind: str
    place: str
    complete: bool
    open_findings: int
    recorded_by: str
    recorded_at: datetime


@router.get("/posture/scans")
async def list_recorded_scans(mtls: GivenMtls, asker: Asker, asked: Asked, organization: Of) -> Items[ScanResult]:
    """The newest result of every scan that was recorded."""
    found = await scan_results.list_scans(mtls, asker, organization)
    return page([ScanResult.model_validate(each) for each in found], asked, key="id")


@router.post("/posture/scans", status_code=201)
async def record_scan_result(mtls: GivenMtls, asker: Asker, body: ScanWish) -> ScanResult:
    """Record what a scan found, instead of what it found there before."""
    findings: Any = [scan_results.ScanFinding(**each.model_dump()) for each in body.findings]
    made = await scan_results.record_scan(
        mtls, asker, body.organization, body.kind, body.place, complete=body.complete, findings=findings
    )
    return ScanResult.model_validate(made)
