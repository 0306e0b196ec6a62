"""The registry of identities."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.mtls.enrolment import bodies
from intaglio.mtls.identities import issuing, lifetimes, registry, revoking
from intaglio.mtls.identities.values import Channel
from intaglio.mtls.identities.values import Identity as Found
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items
from intaglio.server.management.mtls.given import GivenMtls
from intaglio.x509.certificates import pem

router = APIRouter(prefix="/mtls/v1", tags=["identities"])

Kind = Literal["user", "device", "workload", "service", "pipeline"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Identity(BaseModel):
    """A registered person, device, workload, service or pipeline, and what its certificates say."""

    id: str
    domain: str
    environment: str
    kind: Kind
    name: str
    uri: str
    display_name: str
    email: str
    team: str
    service: str
    roles: list[str]
    version: str
    owner: str
    owner_confirmed: bool = Field(description="The account of that name is the owner, and not only the name.")
    state: Literal["active", "suspended", "retired"]
    dns_names: list[str]
    properties: dict[str, str]
    created_at: datetime

    @classmethod
    def of(cls, found: Found) -> Identity:
        return cls.model_validate(
            {
                "id": str(found.id),
                "domain": found.domain.name,
                "environment": found.environment,
                "kind": found.kind.value,
                "name": found.name,
                "uri": found.uri,
                "display_name": found.display_name,
                "email": found.email,
                "team": found.team,
                "service": found.service,
                "roles": list(found.roles),
                "version": found.version,
                "owner": found.owner,
                "owner_confirmed": found.owner_confirmed,
                "state": found.state,
                "dns_names": list(found.dns_names),
                "properties": dict(found.properties),
                "created_at": found.created_at,
            }
        )


class NewIdentity(_Body):
    """Who is to be registered. The name of a user is made by the server, and that of a device where none is given."""

    domain: str
    kind: Kind
    name: str = ""
    display_name: str = ""
    email: str = ""
    team: str = ""
    service: str = ""
    roles: list[str] = []
    version: str = ""
    owner: str = Field(default="", description="User who answers for it.")
    dns_names: list[str] = []
    properties: dict[str, str] = {}

    @property
    def wish(self) -> registry.NewIdentity:
        return registry.NewIdentity(**self.model_dump())


class IdentityImport(_Body):
    """Many identities: all of them are registered, or none."""

    identities: list[NewIdentity] = Field(min_length=1, max_length=registry.MOST_AT_ONCE)
    skip_existing: bool = False


class Imported(BaseModel):
    """How many were new."""

    added: int
    skipped: int


class IdentityChanges(_Body):
    """What is left out stays. Certificates say so from the next one on."""

    display_name: str | None = None
    email: str | None = None
    team: str | None = None
    service: str | None = None
    roles: list[str] | None = None
    version: str | None = None
    owner: str | None = None
    dns_names: list[str] | None = None
    properties: dict[str, str] | None = None


class Comment(_Body):
    """Why, for the audit trail."""

    comment: str = Field(default="", max_length=1000)


class CertificateWish(_Body):
    """A certificate request in PEM, of which only the key counts, and how long the certificate shall live."""

    csr: str = Field(max_length=131_072)
    lifetime: str | None = Field(default=None, description="ISO 8601 duration; what the trust domain gives otherwise.")
    dns_names: list[str] = []


class IssuedCertificate(BaseModel):
    """A certificate of an identity; ``chain`` is its issuers upwards."""

    identity: str
    binding: str
    serial: str
    certificate: str
    chain: list[str]
    not_before: datetime
    not_after: datetime
    warnings: list[str]


@router.get("/identities")
async def list_identities(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[Identity]:
    """Identities, newest first; with `mtls.own` alone one's own."""
    found = await registry.list_identities(mtls, asker, asked)
    return Items(items=list(map(Identity.of, found.identities)), next_cursor=found.next_cursor, total=found.total)


@router.post("/identities", status_code=201)
async def add_identity(mtls: GivenMtls, asker: Asker, body: NewIdentity) -> Identity:
    """Register an identity."""
    return Identity.of(await registry.add_identity(mtls, asker, body.wish))


@router.post("/identities/import")
async def import_identities(mtls: GivenMtls, asker: Asker, body: IdentityImport) -> Imported:
    """Register many identities at once."""
    wanted = [each.wish for each in body.identities]
    added = await registry.add_identities(mtls, asker, wanted, skip_existing=body.skip_existing)
    return Imported(added=len(added), skipped=len(wanted) - len(added))


@router.get("/identities/{identity}")
async def get_identity(mtls: GivenMtls, asker: Asker, identity: str) -> Identity:
    """One identity: by id, `name`, `kind:name` or `kind:name@trust-domain`."""
    return Identity.of(await registry.get_identity(mtls, asker, identity))


@router.patch("/identities/{identity}")
async def edit_identity(mtls: GivenMtls, asker: Asker, identity: str, body: IdentityChanges) -> Identity:
    """Change what is registered."""
    changes = registry.IdentityChanges(**body.model_dump())
    return Identity.of(await registry.edit_identity(mtls, asker, identity, changes))


@router.post("/identities/{identity}/suspend")
async def suspend_identity(mtls: GivenMtls, asker: Asker, identity: str, body: Comment) -> Identity:
    """Revoke its certificates, and give it none until it is resumed."""
    return Identity.of(await revoking.suspend_identity(mtls, asker, identity, comment=body.comment))


@router.post("/identities/{identity}/resume")
async def resume_identity(mtls: GivenMtls, asker: Asker, identity: str) -> Identity:
    """Let a suspended identity get certificates again."""
    return Identity.of(await revoking.resume_identity(mtls, asker, identity))


@router.post("/identities/{identity}/retire")
async def retire_identity(mtls: GivenMtls, asker: Asker, identity: str, body: Comment) -> Identity:
    """Revoke its certificates and end it for good."""
    return Identity.of(await revoking.retire_identity(mtls, asker, identity, comment=body.comment))


@router.post("/identities/{identity}/certificates", status_code=201)
async def issue_identity_certificate(
    mtls: GivenMtls, asker: Asker, identity: str, body: CertificateWish
) -> IssuedCertificate:
    """Issue a certificate by hand; reports point at those, since nothing renews them."""
    found = await registry.get_identity(mtls, asker, identity)
    await bodies.screened(mtls, asker, body.csr.encode(), at="identities", identity=found)
    issued = await issuing.issue_identity(
        mtls,
        asker,
        found,
        body.csr,
        channel=Channel.MANUAL,
        lifetime=None if body.lifetime is None else lifetimes.duration_of(body.lifetime, target="lifetime"),
        source=asker.source,
        also_dns=body.dns_names,
    )
    return IssuedCertificate(
        identity=issued.identity.uri,
        binding=str(issued.binding_id),
        serial=issued.serial.hex().upper(),
        certificate=pem(issued.certificate),
        chain=[pem(each) for each in issued.chain],
        not_before=issued.not_before,
        not_after=issued.not_after,
        warnings=list(issued.warnings),
    )


