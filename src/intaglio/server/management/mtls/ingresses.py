"""Ingresses: where client certificates are demanded, and how strictly."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.access import ingresses, modes, readiness
from intaglio.mtls.access.ingress_values import FORWARDS, TYPES, IngressChanges, NewIngress
from intaglio.mtls.access.ingress_values import Ingress as Found
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["ingresses"])

Mode = Literal["off", "permissive", "enforce"]
_RULE = Field(
    default=None, description="Networks that are allowed, all others denied; null: no such rule, empty: nobody."
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ingress(BaseModel):
    """A place where client certificates are demanded. ``request`` waits for a second person's approval."""

    id: str
    name: str
    full_name: str
    organization: str
    domain: str
    environment: str
    type: str
    description: str
    listener: str
    hosts: list[str]
    mode: Mode
    mode_since: datetime
    permissive_until: datetime | None
    ip_rule: list[str] | None
    policy: str | None
    revocation_source: Literal["live", "crl", "ocsp"]
    refresh_seconds: int
    forward: list[str]
    fail_mode: Literal["closed", "open"]
    token_made_at: datetime | None
    created_by: str
    created_at: datetime
    request: str | None

    @classmethod
    def of(cls, found: Found) -> Ingress:
        lists = {"hosts": list(found.hosts), "forward": list(found.forward)}
        rule = None if found.ip_rule is None else list(found.ip_rule)
        request = None if found.request is None else str(found.request)
        return cls.model_validate(
            {**vars(found), **lists, "id": str(found.id), "full_name": found.full_name, "ip_rule": rule,
             "request": request}
        )  # fmt: skip


class IngressWithToken(BaseModel):
    """An ingress with its token, which is shown this once."""

    ingress: Ingress
    token: str


class IngressWish(_Body):
    """An ingress to be registered."""

    name: str
    organization: str
    domain: str = Field(description="Trust domain whose certificates count.")
    type: str = Field(default="nginx", description=f"One of {', '.join(TYPES)}.")
    description: str = ""
    listener: str = Field(default="", description="Address and port: 0.0.0.0:443.")
    hosts: list[str] = []
    mode: Mode = "permissive"
    ip_rule: list[str] | None = _RULE
    policy: str | None = None
    revocation_source: Literal["live", "crl", "ocsp"] = "live"
    refresh_seconds: int = 10
    forward: list[str] = list(FORWARDS)
    fail_mode: Literal["closed", "open"] = Field(
        default="closed", description="What happens while the status of certificates cannot be looked up."
    )
    permissive_days: int | None = None


class IngressEdit(_Body):
    """What is left out stays. ``"none"`` takes the IP rule or the policy away."""

    description: str | None = None
    listener: str | None = None
    hosts: list[str] | None = None
    ip_rule: list[str] | Literal["none"] | None = None
    policy: str | None = None
    revocation_source: Literal["live", "crl", "ocsp"] | None = None
    refresh_seconds: int | None = None
    forward: list[str] | None = None
    fail_mode: Literal["closed", "open"] | None = None


class ModeWish(_Body):
    """The mode to switch to. ``force`` asks a second person where the readiness report is not clean."""

    mode: Mode
    force: bool = False
    reason: str = ""
    days: int | None = Field(default=None, description="How long it may stay permissive.")


class ModeRequest(BaseModel):
    """A wish to enforce without clean evidence."""

    id: str
    ingress: str
    reason: str
    evidence: dict[str, Any]
    state: Literal["pending", "approved", "rejected", "withdrawn", "expired"]
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None

    @classmethod
    def of(cls, found: modes.ModeRequest) -> ModeRequest:
        return cls.model_validate({**vars(found), "id": str(found.id)})


class ModeChange(BaseModel):
    """The ingress as it is now; with a pending ``request`` nothing has changed yet."""

    ingress: Ingress
    request: ModeRequest | None

    @classmethod
    def of(cls, found: modes.ModeChange) -> ModeChange:
        request = None if found.request is None else ModeRequest.of(found.request)
        return cls(ingress=Ingress.of(found.ingress), request=request)


class Verdict(_Body):
    """What a second person says."""

    state: Literal["approved", "rejected"]


class Offender(BaseModel):
    """A caller that got through only because the ingress does not enforce."""

    reason: str
    claimed: str
    source_ip: str
    count: int
    first_seen: datetime
    last_seen: datetime
    detail: str


class Readiness(BaseModel):
    """Whether an ingress may enforce, and what stands against it."""

    ingress: str
    mode: Mode
    since: datetime
    until: datetime
    observed: int
    offences: int
    lost: int
    ready: bool
    why: list[str]
    by_reason: dict[str, int]
    offenders: list[Offender]


@router.get("/ingresses")
async def list_ingresses(
    mtls: GivenMtls,
    asker: Asker,
    asked: Asked,
    organization: Annotated[str | None, Query()] = None,
    domain: Annotated[str | None, Query()] = None,
) -> Items[Ingress]:
    """The ingresses of the organizations one belongs to."""
    found = await ingresses.list_ingresses(mtls, asker, organization=organization, domain=domain)
    return page(map(Ingress.of, found), asked, key="full_name")


@router.post("/ingresses", status_code=201)
async def create_ingress(mtls: GivenMtls, asker: Asker, body: IngressWish) -> IngressWithToken:
    """Register an ingress; its token is shown this once."""
    made = await ingresses.create_ingress(mtls, asker, NewIngress(**body.model_dump()))
    return IngressWithToken(ingress=Ingress.of(made.ingress), token=made.token)


@router.get("/ingresses/{ingress}")
async def get_ingress(mtls: GivenMtls, asker: Asker, ingress: str) -> Ingress:
    """One ingress: `ORGANIZATION~NAME`, or a name that is unique."""
    return Ingress.of(await ingresses.get_ingress(mtls, asker, ingress))


@router.patch("/ingresses/{ingress}")
async def edit_ingress(mtls: GivenMtls, asker: Asker, ingress: str, body: IngressEdit) -> Ingress:
    """Change an ingress, everything but its mode."""
    return Ingress.of(await ingresses.edit_ingress(mtls, asker, ingress, IngressChanges(**body.model_dump())))


@router.delete("/ingresses/{ingress}", status_code=204)
async def retire_ingress(mtls: GivenMtls, asker: Asker, ingress: str) -> None:
    """Retire an ingress; its token counts no more."""
    await ingresses.retire_ingress(mtls, asker, ingress)


@router.post("/ingresses/{ingress}/token")
async def rotate_ingress_token(mtls: GivenMtls, asker: Asker, ingress: str) -> IngressWithToken:
    """Give an ingress a new token; the one before counts no more."""
    made = await ingresses.rotate_token(mtls, asker, ingress)
    return IngressWithToken(ingress=Ingress.of(made.ingress), token=made.token)


@router.put("/ingresses/{ingress}/mode")
async def change_ingress_mode(mtls: GivenMtls, asker: Asker, ingress: str, body: ModeWish) -> ModeChange:
    """Switch the mode. To enforce needs a clean readiness report, or `force` and a second person."""
    return ModeChange.of(await modes.change_mode(mtls, asker, ingress, **body.model_dump()))


@router.get("/ingresses/{ingress}/readiness")
async def get_readiness(
    mtls: GivenMtls, asker: Asker, ingress: str, hours: Annotated[int | None, Query(ge=1, le=2160)] = None
) -> Readiness:
    """Who would be refused if the ingress enforced."""
    found = await readiness.readiness(mtls, asker, ingress, hours=hours)
    return Readiness.model_validate(found.as_json())


@router.get("/ingress-requests")
async def list_ingress_requests(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[ModeRequest]:
    """Requests to enforce without clean evidence, newest first."""
    found = await modes.list_requests(mtls, asker)
    return page(map(ModeRequest.of, found), asked, key="id")


@router.put("/ingress-requests/{request}")
async def decide_ingress_request(mtls: GivenMtls, asker: Asker, request: UUID, body: Verdict) -> ModeChange:
    """Approve or reject a request; to approve one has to be another person than who asked."""
    return ModeChange.of(await modes.decide_request(mtls, asker, request, body.state))
