"""Reading tenants and endpoints from their tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select

from intaglio.authority import models as authority
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.protocols import read_options
from intaglio.enrollment.values import Endpoint, Protocol

log = get_logger(__name__)


@dataclass(frozen=True)
class Tenant:
    """A partition of enrolment, as it is stored; ``endpoints`` is how many it has."""

    id: UUID
    name: str
    description: str
    endpoints: int
    created_by: str
    created_at: datetime


async def load_endpoints(
    view: Transaction, protocol: Protocol | None = None, *, deleted_cas: bool = True
) -> list[Endpoint]:
    """All endpoints, or those of a protocol, by protocol and name; ``deleted_cas`` takes in those of CAs that are
    gone, whose ids other CAs may have by now."""
    query = _endpoints().order_by(models.endpoint.c.protocol, models.endpoint.c.name)
    if not deleted_cas:
        query = query.where(authority.ca.c.state != "deleted")
    if protocol is not None:
        query = query.where(models.endpoint.c.protocol == protocol.value)
    return list(_readable(await view.all(query)))


def _readable(rows: Iterable[Mapping[Any, Any]]) -> Iterator[Endpoint]:
    """Those that this version understands: one that another version has written must not take all others away."""
    for row in rows:
        try:
            yield endpoint_of(row)
        except InvalidInput as error:
            log.error("an endpoint cannot be read", endpoint=f"{row['protocol']}/{row['name']}", reason=error.detail)


async def find_endpoint(view: Transaction, protocol: Protocol, name: str, *, lock: bool = False) -> Endpoint:
    """One endpoint; ``lock`` holds its row until the end of the transaction. Raises NotFound."""
    c = models.endpoint.c
    query = _endpoints().where(c.protocol == protocol.value, c.name == name)
    row = await view.one_or_none(query.with_for_update(of=models.endpoint) if lock else query)
    if row is None:
        raise unknown(protocol, name)
    return endpoint_of(row)


async def load_endpoint(view: Transaction, endpoint_id: UUID) -> Endpoint:
    """One endpoint by row id. Raises NotFound."""
    row = await view.one_or_none(_endpoints().where(models.endpoint.c.id == endpoint_id))
    if row is None:
        raise NotFound("The endpoint was deleted.", code="endpoint-unknown")
    return endpoint_of(row)


def unknown(protocol: Protocol, name: str) -> NotFound:
    """The refusal of an endpoint that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no endpoint "{protocol}/{name[:100]}".', code="endpoint-unknown", target="name")


async def load_tenants(view: Transaction) -> list[Tenant]:
    """All tenants by name."""
    t, e = models.tenant, models.endpoint
    count = select(func.count()).where(e.c.tenant_id == t.c.id).scalar_subquery()
    rows = await view.all(select(t, count.label("endpoints")).order_by(t.c.name))
    return [Tenant(**{name: row[name] for name in Tenant.__dataclass_fields__}) for row in rows]


async def find_tenant(view: Transaction, name: str, *, lock: bool = False) -> UUID | None:
    """The id of a tenant; None when there is none."""
    query = select(models.tenant.c.id).where(models.tenant.c.name == name)
    found: UUID | None = await view.scalar(query.with_for_update() if lock else query)
    return found


def endpoint_of(row: Mapping[Any, Any]) -> Endpoint:
    """The endpoint of a row of :func:`_endpoints`."""
    protocol = Protocol(row["protocol"])
    return Endpoint(
        id=row["id"],
        name=row["name"],
        tenant=row["tenant"],
        protocol=protocol,
        ca=f"{row['organization']}~{row['ca_name']}",
        ca_id=row["ca_id"],
        organization_id=row["organization_id"],
        profile=row["profile"],
        enabled=row["enabled"],
        approval=row["approval"],
        networks=tuple(row["networks"]),
        hourly_limit=row["hourly_limit"],
        options=read_options(protocol, row["options"]),
        version=row["version"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def _endpoints() -> Select[Any]:
    e, ca, organization = models.endpoint, authority.ca, authority.organization
    joined = (
        e.join(models.tenant, models.tenant.c.id == e.c.tenant_id)
        .join(ca, ca.c.id == e.c.ca_id)
        .join(organization, organization.c.id == ca.c.organization_id)
    )
    return select(
        e,
        models.tenant.c.name.label("tenant"),
        ca.c.name.label("ca_name"),
        ca.c.organization_id,
        organization.c.name.label("organization"),
    ).select_from(joined)
