"""Who trusts whom: trust edges, the design document, and CAs whose key is elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from intaglio.authority.bootstrap import platform_root
from intaglio.mtls.enrolment import bodies
from intaglio.mtls.identities import cert_manager, design, edges, lifetimes, registry, subordinates
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items
from intaglio.server.management.mtls.given import GivenMtls
from intaglio.x509.certificates import pem

router = APIRouter(prefix="/mtls/v1", tags=["trust design"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustEdge(BaseModel):
    """A service takes callers of a trust domain; of the ``cas`` only, where any are named."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    identity_id: UUID
    service: str
    domain: str
    environment: str
    trusted_domain: str
    cas: list[str]
    reason: str
    state: Literal["proposed", "approved"]
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None
    approved_at: datetime | None


class NewTrustEdge(_Body):
    """A trust edge to be approved."""

    service: str = Field(description="The service that is called: id, `name`, `kind:name@trust-domain`.")
    trusted_domain: str
    cas: list[str] = []
    reason: str = ""


class Design(BaseModel):
    """A version of the design document. ``current`` says whether it still shows what holds."""

    organization: str
    version: int
    digest: str
    created_by: str
    created_at: datetime
    current: bool
    content: dict[str, Any]

    @classmethod
    def of(cls, found: design.DesignDocument) -> Design:
        return cls.model_validate({**vars(found), "content": dict(found.content)})


class SubordinateWish(_Body):
    """A certificate request whose key shall be a CA below the trust domain, and what for."""

    csr: str = Field(max_length=131_072)
    purpose: str
    lifetime: str = Field(default="P90D", description="ISO 8601 duration, at most P366D.")


class Subordinate(BaseModel):
    """The certificate of a CA whose key is elsewhere, and what that means."""

    ca: str
    subject: str
    serial: str
    not_after: datetime
    certificate: str
    chain: list[str]
    warning: str


class CertManagerWish(_Body):
    """What cert-manager's resources for a service shall say."""

    issuer: Literal["vault", "acme", "ca"] = "vault"
    server: str | None = Field(default=None, description="URL of the enrolment listener, as the cluster reaches it.")
    namespace: str = "default"
    issuer_name: str = "internal-ca"
    secret: str = ""
    lifetime: str | None = None
    cluster: bool = False


@router.get("/edges")
async def list_trust_edges(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[TrustEdge]:
    """Trust edges, newest first."""
    found = await edges.list_edges(mtls, asker, asked)
    items = [TrustEdge.model_validate(edge) for edge in found.edges]
    return Items(items=items, next_cursor=found.next_cursor, total=found.total)


@router.post("/edges", status_code=201)
async def propose_trust_edge(mtls: GivenMtls, asker: Asker, body: NewTrustEdge) -> TrustEdge:
    """Propose that a service takes callers of a trust domain."""
    made = await edges.propose_edge(
        mtls, asker, body.service, body.trusted_domain, cas=body.cas, reason=body.reason
    )
    return TrustEdge.model_validate(made)


@router.post("/edges/{edge}/approve")
async def approve_trust_edge(mtls: GivenMtls, asker: Asker, edge: UUID) -> TrustEdge:
    """Approve a trust edge that somebody else has proposed."""
    return TrustEdge.model_validate(await edges.approve_edge(mtls, asker, edge))


@router.delete("/edges/{edge}", status_code=204)
async def remove_trust_edge(mtls: GivenMtls, asker: Asker, edge: UUID) -> None:
    """Withdraw a trust edge."""
    await edges.remove_edge(mtls, asker, edge)


@router.post("/designs/{organization}")
async def generate_trust_design(mtls: GivenMtls, asker: Asker, organization: str) -> Design:
    """The design document as of now; a new version when something has changed."""
    return Design.of(await design.generate_design(mtls, asker, organization))


@router.get(
    "/designs/{organization}",
    response_model=Design,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
async def get_trust_design(
    mtls: GivenMtls,
    asker: Asker,
    organization: str,
    version: Annotated[int | None, Query(description="The newest unless given.")] = None,
    format: Annotated[Literal["json", "markdown", "html"], Query()] = "json",
) -> Design | Response:
    """A version of the design document."""
    found = await design.get_design(mtls, asker, organization, version)
    if format == "markdown":
        return PlainTextResponse(design.as_markdown(found), media_type="text/markdown")
    if format == "html":
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(design.as_html(found), media_type="text/html", headers=headers)
    return Design.of(found)


@router.post("/domains/{domain}/subordinates", status_code=201)
async def certify_subordinate_ca(
    mtls: GivenMtls, asker: Asker, domain: str, body: SubordinateWish
) -> Subordinate:
    """Certify a CA below a trust domain whose key is elsewhere, such as in a Kubernetes cluster."""
    await bodies.screened(mtls, asker, body.csr.encode(), at="subordinates")
    lifetime = lifetimes.duration_of(body.lifetime, target="lifetime")
    made = await subordinates.certify_subordinate(
        mtls, asker, domain, body.csr, purpose=body.purpose, lifetime=lifetime
    )
    return Subordinate(
        ca=made.ca,
        subject=made.subject,
        serial=made.serial,
        not_after=made.not_after,
        certificate=pem(made.certificate),
        chain=[pem(each) for each in made.chain],
        warning=made.warning,
    )


@router.post(
    "/identities/{identity}/cert-manager",
    response_class=PlainTextResponse,
    responses={200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}},
)
async def generate_cert_manager_resources(
    services: Given, mtls: GivenMtls, asker: Asker, identity: str, body: CertManagerWish
) -> PlainTextResponse:
    """The resources with which cert-manager gets the certificates of a service (YAML)."""
    found = await registry.get_identity(mtls, asker, identity)
    options = cert_manager.CertManagerOptions(
        issuer=body.issuer,
        server=body.server or f"https://{services.settings.hostname}:{services.settings.enroll.port}",
        ca_bundle=pem(await platform_root(services.authority)),
        namespace=body.namespace,
        issuer_name=body.issuer_name,
        secret=body.secret,
        lifetime=None if body.lifetime is None else lifetimes.duration_of(body.lifetime, target="lifetime"),
        cluster=body.cluster,
    )
    return PlainTextResponse(cert_manager.resources(found, options), media_type="application/yaml")
