"""Tenants and endpoints of the enrolment protocols, and where they are reached."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.core.principal import Permission
from intaglio.enrollment import administration
from intaglio.enrollment.administration import DEFAULT_TENANT, EndpointChanges, NewEndpoint
from intaglio.enrollment.protocols import PROTOCOLS
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.storage import Tenant as StoredTenant
from intaglio.enrollment.urls import Bases, EndpointUrls, addresses_of, bases, urls_of
from intaglio.enrollment.values import Approval, Protocol
from intaglio.enrollment.values import Endpoint as StoredEndpoint
from intaglio.platform import live_settings
from intaglio.server.management.access import Asked, Asker, Given
from intaglio.server.management.lists import Items, page
from intaglio.server.services import Services

router = APIRouter(tags=["enrollment"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tenant(BaseModel):
    """A partition of enrolment; part of URLs, where case counts."""

    name: str
    description: str
    endpoints: int
    created_by: str
    created_at: datetime


class TenantWish(_Body):
    """A tenant to be made."""

    name: str
    description: str = ""


class EnrollmentEndpoint(BaseModel):
    """A place at which certificates are asked for. ``address`` is ``protocol/name``."""

    id: UUID
    address: str
    protocol: Protocol
    name: str
    tenant: str
    ca: str
    profile: str
    enabled: bool
    approval: Approval
    networks: list[str]
    hourly_limit: int | None
    options: dict[str, Any]
    url: str = Field(description="What clients are told.")
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime


class EndpointWish(_Body):
    """An endpoint to be made. Without ``name`` it is called after CA and profile."""

    protocol: Protocol
    ca: str = Field(description="Issuing CA, ORGANIZATION~ID.")
    profile: str
    name: str | None = None
    tenant: str = DEFAULT_TENANT
    enabled: bool = True
    approval: Approval = "automatic"
    networks: list[str] = Field(default=[], max_length=100, description="Whence requests may come (CIDR).")
    hourly_limit: int | None = Field(default=None, ge=1, le=10_000_000)
    options: dict[str, Any] = {}


class EndpointEdit(_Body):
    """What is left out stays. ``options`` are merged, null gives one its default; an ``hourly_limit`` of 0 takes the
    limit away. ``version`` refuses the change when somebody else was faster."""

    enabled: bool | None = None
    approval: Approval | None = None
    networks: list[str] | None = Field(default=None, max_length=100)
    hourly_limit: int | None = Field(default=None, ge=0, le=10_000_000)
    options: dict[str, Any] | None = None
    version: int | None = Field(default=None, ge=1)


class ClientCommand(BaseModel):
    """Lines to copy into a terminal."""

    title: str
    url: str
    lines: list[str]


class UrlsOfEndpoint(BaseModel):
    """Where an endpoint is reached, and how clients are told."""

    address: str
    protocol: Protocol
    tenant: str
    ca: str
    profile: str
    enabled: bool
    urls: list[str]
    commands: list[ClientCommand]


@router.get("/enrollment/tenants")
async def list_enrollment_tenants(services: Given, asker: Asker, asked: Asked) -> Items[Tenant]:
    """All tenants."""
    found = await administration.list_tenants(services.enrollment, asker)
    return page(map(_tenant, found), asked, key="name")


@router.post("/enrollment/tenants", status_code=201)
async def create_enrollment_tenant(services: Given, asker: Asker, body: TenantWish) -> Tenant:
    """Make a tenant."""
    return _tenant(await administration.create_tenant(services.enrollment, asker, body.name, body.description))


@router.delete("/enrollment/tenants/{name}", status_code=204)
async def delete_enrollment_tenant(services: Given, asker: Asker, name: str) -> None:
    """Delete a tenant that has no endpoints."""
    await administration.delete_tenant(services.enrollment, asker, name)


@router.get("/enrollment/endpoints")
async def list_enrollment_endpoints(services: Given, asker: Asker, asked: Asked) -> Items[EnrollmentEndpoint]:
    """All endpoints."""
    found = await administration.list_endpoints(services.enrollment, asker)
    where = await _bases(services)
    return page((_endpoint(each, where) for each in found), asked, key="address")


@router.post("/enrollment/endpoints", status_code=201)
async def create_enrollment_endpoint(services: Given, asker: Asker, body: EndpointWish) -> EnrollmentEndpoint:
    """Make an endpoint, and the tenant `main` when that is its tenant and not there yet."""
    made = await administration.create_endpoint(services.enrollment, asker, NewEndpoint(**body.model_dump()))
    return _endpoint(made, await _bases(services))


@router.get("/enrollment/endpoints/{protocol}/{name}")
async def get_enrollment_endpoint(
    services: Given, asker: Asker, protocol: Protocol, name: str
) -> EnrollmentEndpoint:
    """One endpoint."""
    found = await administration.show_endpoint(services.enrollment, asker, protocol, name)
    return _endpoint(found, await _bases(services))


@router.patch("/enrollment/endpoints/{protocol}/{name}")
async def change_enrollment_endpoint(
    services: Given, asker: Asker, protocol: Protocol, name: str, body: EndpointEdit
) -> EnrollmentEndpoint:
    """Change an endpoint; counts on every process at once."""
    changes = EndpointChanges(
        body.enabled,
        body.approval,
        None if body.networks is None else tuple(body.networks),
        body.hourly_limit,
        body.options,
    )
    changed = await administration.change_endpoint(
        services.enrollment, asker, protocol, name, changes, version=body.version
    )
    return _endpoint(changed, await _bases(services))


@router.delete("/enrollment/endpoints/{protocol}/{name}", status_code=204)
async def delete_enrollment_endpoint(services: Given, asker: Asker, protocol: Protocol, name: str) -> None:
    """Delete an endpoint with its credentials and requests. Certificates stay as they are."""
    await administration.delete_endpoint(services.enrollment, asker, protocol, name)


@router.get("/enrollment/options/{protocol}")
async def get_enrollment_options(asker: Asker, protocol: Protocol) -> dict[str, Any]:
    """What endpoints of a protocol can be told: a JSON schema."""
    asker.require(Permission.ENROLLMENT_VIEW)
    return PROTOCOLS[protocol].options_type().model_json_schema()


@router.get("/enrollment/urls")
async def list_enrollment_urls(services: Given, asker: Asker, asked: Asked) -> Items[UrlsOfEndpoint]:
    """Where endpoints are reached, with ready commands of their clients."""
    found = await administration.list_endpoints(services.enrollment, asker)
    where = await _bases(services)
    return page((_urls(urls_of(each, where)) for each in _served(found)), asked, key="address")


def _served(found: Iterable[StoredEndpoint]) -> list[StoredEndpoint]:
    return [each for each in found if each.enabled]


async def _bases(services: Services) -> Bases:
    async with services.database.read() as view:
        return bases(services.settings, await live_settings.current(view, EnrollmentSettings))


def _tenant(found: StoredTenant) -> Tenant:
    return Tenant(
        name=found.name,
        description=found.description,
        endpoints=found.endpoints,
        created_by=found.created_by,
        created_at=found.created_at,
    )


def _endpoint(found: StoredEndpoint, where: Bases) -> EnrollmentEndpoint:
    return EnrollmentEndpoint(
        id=found.id,
        address=found.address,
        protocol=found.protocol,
        name=found.name,
        tenant=found.tenant,
        ca=found.ca,
        profile=found.profile,
        enabled=found.enabled,
        approval=found.approval,
        networks=list(found.networks),
        hourly_limit=found.hourly_limit,
        options=found.options.model_dump(mode="json"),
        url=addresses_of(found, where)[0],
        version=found.version,
        created_by=found.created_by,
        created_at=found.created_at,
        changed_at=found.changed_at,
    )


def _urls(found: EndpointUrls) -> UrlsOfEndpoint:
    endpoint = found.endpoint
    return UrlsOfEndpoint(
        address=endpoint.address,
        protocol=endpoint.protocol,
        tenant=endpoint.tenant,
        ca=endpoint.ca,
        profile=endpoint.profile,
        enabled=endpoint.enabled,
        urls=list(found.urls),
        commands=[ClientCommand(title=each.title, url=each.url, lines=list(each.lines)) for each in found.commands],
    )
