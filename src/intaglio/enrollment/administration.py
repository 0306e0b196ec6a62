"""Tenants and endpoints: make, change, look at, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, insert, select, update

from intaglio.audit.record import record
from intaglio.authority.access import memberships_of, require_ca, sees_all
from intaglio.authority.directory import CaView
from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.outgoing import networks_of
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.enrollment import models
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import canonical_profile
from intaglio.enrollment.protocols import PROTOCOLS, read_options
from intaglio.enrollment.storage import Tenant, endpoint_of, find_endpoint, find_tenant, load_endpoints, load_tenants
from intaglio.enrollment.storage import unknown as endpoint_unknown
from intaglio.enrollment.values import Approval, Endpoint, Protocol
from intaglio.profiles.model import CertificateProfile

DEFAULT_TENANT: Final = "main"
_TENANT = re.compile(r"[A-Za-z0-9_~-]{1,64}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,118}[a-z0-9])?")
#: CAs that serve the platform itself, or that have no key here.
_NO_ISSUERS: Final = frozenset({"client", "platform", "external-root"})
Unset = Literal["unset"]


class NewEndpoint(BaseModel):
    """An endpoint to be made. Without ``name`` it is called after CA and profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Protocol
    ca: str
    profile: str
    name: str | None = None
    tenant: str = DEFAULT_TENANT
    enabled: bool = True
    approval: Approval = "automatic"
    networks: tuple[str, ...] = Field(default=(), max_length=100)
    hourly_limit: int | None = Field(default=None, ge=1, le=10_000_000)
    options: Mapping[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class EndpointChanges:
    """What is to be changed of an endpoint; None stays. ``options`` are merged; one that is None gets its default.
    ``hourly_limit`` 0 takes the limit away."""

    enabled: bool | None = None
    approval: Approval | None = None
    networks: tuple[str, ...] | None = None
    hourly_limit: int | None = None
    options: Mapping[str, Any] | None = None


# ---- tenants ---------------------------------------------------------------------------------------------------------


async def list_tenants(enrollment: Enrollment, principal: Principal) -> list[Tenant]:
    """All tenants by name. Needs ``enrollment.view``."""
    principal.require(Permission.ENROLLMENT_VIEW)
    async with enrollment.database.read() as view:
        return await load_tenants(view)


async def create_tenant(enrollment: Enrollment, principal: Principal, name: str, description: str = "") -> Tenant:
    """Make a tenant. Needs ``enrollment.manage``. Raises InvalidInput (``tenant-name``), StateConflict
    (``tenant-exists``)."""
    principal.require(Permission.ENROLLMENT_MANAGE)
    async with enrollment.database.transaction() as tx:
        if await find_tenant(tx, name) is not None:
            raise StateConflict(f'There is a tenant "{name}" already.', code="tenant-exists", target="name")
        return await _add_tenant(tx, principal, name, description)


async def delete_tenant(enrollment: Enrollment, principal: Principal, name: str) -> None:
    """Delete a tenant that has no endpoints. Needs ``enrollment.manage``. Raises NotFound, StateConflict
    (``tenant-in-use``)."""
    principal.require(Permission.ENROLLMENT_MANAGE)
    async with enrollment.database.transaction() as tx:
        tenant_id = await find_tenant(tx, name, lock=True)
        if tenant_id is None:
            raise NotFound(f'There is no tenant "{name[:100]}".', code="tenant-unknown", target="name")
        e = models.endpoint.c
        if await tx.scalar(select(e.id).where(e.tenant_id == tenant_id).limit(1)) is not None:
            raise StateConflict(
                f'The tenant "{name}" has endpoints.',
                code="tenant-in-use",
                remedy="Delete them first: intaglio enroll endpoint list.",
            )
        await tx.execute(delete(models.tenant).where(models.tenant.c.id == tenant_id))
        record(tx, principal, "enrollment-tenant.delete", "enrollment-tenant", name)


async def _add_tenant(tx: Transaction, principal: Principal, name: str, description: str) -> Tenant:
    if not _TENANT.fullmatch(name):
        raise InvalidInput(
            f'"{name[:80]}" cannot be the name of a tenant.',
            code="tenant-name",
            remedy="Use 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '~'; case counts.",
            target="name",
        )
    made = Tenant(new_id(), name, description[:1000], 0, principal.name, tx.now)
    values = {"id": made.id, "name": name, "description": made.description}
    await tx.execute(insert(models.tenant).values(**values, created_by=principal.name, created_at=tx.now))
    record(tx, principal, "enrollment-tenant.create", "enrollment-tenant", name)
    return made


# ---- endpoints -------------------------------------------------------------------------------------------------------


async def create_endpoint(enrollment: Enrollment, principal: Principal, wish: NewEndpoint) -> Endpoint:
    """Make an endpoint, and its tenant when that is the default one.

    Needs ``enrollment.manage``, and the organization of the CA. Raises InvalidInput (``endpoint-name``,
    ``endpoint-options-invalid``, ``network-invalid``), NotFound (``ca-unknown``, ``profile-unknown``,
    ``tenant-unknown``), Refused (``ca-not-for-enrolment``, ``channel-not-allowed``, ``profile-not-for-enrolment``),
    StateConflict (``endpoint-exists``), and what the options of the protocol raise that do not fit the CA.
    """
    principal.require(Permission.ENROLLMENT_MANAGE)
    options = read_options(wish.protocol, wish.options)
    networks = tuple(networks_of(wish.networks))
    snapshot = await enrollment.authority.current()
    async with enrollment.database.transaction() as tx:
        ca = await require_ca(tx, snapshot, principal, wish.ca, Permission.ENROLLMENT_MANAGE)
        profile = require_offered(ca, wish.profile, wish.protocol)
        options.require_fit(ca)
        tenant_id = await _tenant(tx, principal, wish.tenant)
        name = _checked_name(wish.protocol, wish.name or f"{ca.name}-{profile.id}")
        await _require_free(tx, wish.protocol, name, tenant_id, ca, profile.id, wish.tenant)
        values = {
            "id": new_id(),
            "protocol": wish.protocol.value,
            "name": name,
            "tenant_id": tenant_id,
            "ca_id": ca.id,
            "profile": profile.id,
            "enabled": wish.enabled,
            "approval": wish.approval,
            "networks": list(networks),
            "hourly_limit": wish.hourly_limit,
            "options": options.model_dump(mode="json"),
            "version": 1,
            "created_by": principal.name,
            "created_at": tx.now,
            "changed_at": tx.now,
        }
        await tx.execute(insert(models.endpoint).values(**values))
        made = endpoint_of(
            {
                **values,
                "tenant": wish.tenant,
                "ca_name": ca.name,
                "organization": ca.organization,
                "organization_id": ca.organization_id,
            }
        )
        record(
            tx,
            principal,
            "enrollment-endpoint.create",
            "enrollment-endpoint",
            made.address,
            organization=ca.organization,
            tenant=wish.tenant,
            **facts_of(made),
        )
        tx.changed_configuration()
    return made


async def list_endpoints(
    enrollment: Enrollment, principal: Principal, protocol: Protocol | None = None
) -> list[Endpoint]:
    """The endpoints of all CAs the principal sees, by protocol and name. Needs ``enrollment.view``."""
    principal.require(Permission.ENROLLMENT_VIEW)
    async with enrollment.database.read() as view:
        found = await load_endpoints(view, protocol)
        if sees_all(principal):
            return found
        mine = await visible_organizations(view, principal)
    return [each for each in found if each.organization_id in mine]


async def show_endpoint(enrollment: Enrollment, principal: Principal, protocol: Protocol, name: str) -> Endpoint:
    """One endpoint. Needs ``enrollment.view``. Raises NotFound."""
    async with enrollment.database.read() as view:
        return await require_endpoint(view, principal, protocol, name, Permission.ENROLLMENT_VIEW)


async def change_endpoint(
    enrollment: Enrollment,
    principal: Principal,
    protocol: Protocol,
    name: str,
    changes: EndpointChanges,
    *,
    version: int | None = None,
) -> Endpoint:
    """Change an endpoint; counts on every process at once. Needs ``enrollment.manage``.

    Raises NotFound, StateConflict (``version-moved``), InvalidInput, and what the options of the protocol raise that do
    not fit the CA.
    """
    snapshot = await enrollment.authority.current()
    async with enrollment.database.transaction() as tx:
        found = await require_endpoint(tx, principal, protocol, name, Permission.ENROLLMENT_MANAGE, lock=True)
        if version is not None and version != found.version:
            raise StateConflict(
                f'The endpoint "{found.address}" is at version {found.version}, not {version}.',
                code="version-moved",
                remedy="Read it again and repeat the change.",
            )
        before, after = facts_of(found), _changed(found, changes)
        changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
        if "options" in changed:
            read_options(protocol, after["options"]).require_fit(snapshot.ca(found.ca))
        if changed:
            table = models.endpoint
            values = {key: after[key] for key in ("enabled", "approval", "networks", "hourly_limit", "options")}
            statement = update(table).where(table.c.id == found.id)
            await tx.execute(statement.values(**values, version=found.version + 1, changed_at=tx.now))
            record(
                tx,
                principal,
                "enrollment-endpoint.change",
                "enrollment-endpoint",
                found.address,
                organization=found.organization,
                changed=changed,
            )
            tx.changed_configuration()
        return await find_endpoint(tx, protocol, name)


async def delete_endpoint(enrollment: Enrollment, principal: Principal, protocol: Protocol, name: str) -> None:
    """Delete an endpoint with its credentials and requests; certificates stay. Needs ``enrollment.manage``. Raises
    NotFound."""
    async with enrollment.database.transaction() as tx:
        found = await require_endpoint(tx, principal, protocol, name, Permission.ENROLLMENT_MANAGE, lock=True)
        await tx.execute(delete(models.endpoint).where(models.endpoint.c.id == found.id))
        record(
            tx,
            principal,
            "enrollment-endpoint.delete",
            "enrollment-endpoint",
            found.address,
            organization=found.organization,
        )
        tx.changed_configuration()


async def require_endpoint(
    view: Transaction,
    principal: Principal,
    protocol: Protocol,
    name: str,
    permission: Permission,
    *,
    lock: bool = False,
) -> Endpoint:
    """An endpoint, for a principal with the permission who may see its organization. Raises Forbidden, NotFound."""
    principal.require(permission)
    found = await find_endpoint(view, protocol, name, lock=lock)
    if not sees_all(principal) and found.organization_id not in await visible_organizations(view, principal):
        raise endpoint_unknown(protocol, name)
    return found


async def visible_organizations(view: Transaction, principal: Principal) -> frozenset[UUID]:
    """The ids of the organizations a user is a member of."""
    if principal.kind != "user":
        return frozenset()
    rows = await view.all(memberships_of(principal.name))
    return frozenset(row["organization_id"] for row in rows)


def require_offered(ca: CaView, profile_id: str, protocol: Protocol) -> CertificateProfile:
    """The profile of a CA, if a protocol can offer it. Raises NotFound, Refused."""
    if ca.kind in _NO_ISSUERS:
        raise Refused(
            f'CA "{ca.full_id}" issues no certificates for applicants.',
            code="ca-not-for-enrolment",
            remedy="Choose an issuing CA: intaglio ca list.",
            target="ca",
        )
    profile = ca.profile(canonical_profile(profile_id))
    if protocol.value not in profile.channels:
        fitting = [each.id for each in ca.profiles if protocol.value in each.channels and each.kind == "end-entity"]
        raise Refused(
            f'Profile "{profile.id}" is not offered through {protocol}.',
            code="channel-not-allowed",
            remedy=f"Profiles of this CA for {protocol}: {', '.join(fitting) or 'none'}.",
            target="profile",
        )
    if profile.id in PROTOCOLS[protocol].reserved:
        raise _no_protocol_profile(profile, f"is called like something else in the URLs of {protocol}")
    if profile.kind != "end-entity":
        raise _no_protocol_profile(profile, f"makes certificates of the kind {profile.kind}")
    wanted = [*profile.required_variables, *(each.name for each in profile.requested_properties if each.required)]
    if wanted:
        raise _no_protocol_profile(profile, f"needs values that no {protocol} client sends ({', '.join(wanted)})")
    return profile


def facts_of(endpoint: Endpoint) -> dict[str, Any]:
    """What an audit record says of an endpoint."""
    return {
        "enabled": endpoint.enabled,
        "approval": endpoint.approval,
        "networks": list(endpoint.networks),
        "hourly_limit": endpoint.hourly_limit,
        "options": endpoint.options.model_dump(mode="json"),
    }


def _no_protocol_profile(profile: CertificateProfile, why: str) -> Refused:
    return Refused(
        f'Profile "{profile.id}" {why}.',
        code="profile-not-for-enrolment",
        remedy="Choose another profile: intaglio profile list.",
        target="profile",
    )


def _changed(found: Endpoint, changes: EndpointChanges) -> dict[str, Any]:
    present = facts_of(found)
    if changes.options is not None:
        merged = {**present["options"], **changes.options}
        kept = {name: value for name, value in merged.items() if changes.options.get(name, ...) is not None}
        present["options"] = read_options(found.protocol, kept).model_dump(mode="json")
    if changes.enabled is not None:
        present["enabled"] = changes.enabled
    if changes.approval is not None:
        present["approval"] = changes.approval
    if changes.networks is not None:
        present["networks"] = list(networks_of(changes.networks))
    if changes.hourly_limit is not None:
        present["hourly_limit"] = changes.hourly_limit or None
    return present


async def _tenant(tx: Transaction, principal: Principal, name: str) -> UUID:
    found = await find_tenant(tx, name)
    if found is not None:
        return found
    if name != DEFAULT_TENANT:
        raise NotFound(
            f'There is no tenant "{name[:100]}".',
            code="tenant-unknown",
            remedy="Make it first: intaglio enroll tenant create NAME.",
            target="tenant",
        )
    return (await _add_tenant(tx, principal, name, "")).id


def _checked_name(protocol: Protocol, name: str) -> str:
    if not _NAME.fullmatch(name) or name in PROTOCOLS[protocol].reserved:
        raise InvalidInput(
            f'"{name[:120]}" cannot be the name of an endpoint of {protocol}.',
            code="endpoint-name",
            remedy="Use 1 to 120 of a-z, 0-9, '-' and '_', beginning and ending with a letter or digit"
            + (f"; not {', '.join(sorted(PROTOCOLS[protocol].reserved))}." if PROTOCOLS[protocol].reserved else "."),
            target="name",
        )
    return name


async def _require_free(
    tx: Transaction, protocol: Protocol, name: str, tenant_id: UUID, ca: CaView, profile: str, tenant: str
) -> None:
    e = models.endpoint.c
    named = await tx.scalar(select(e.id).where(e.protocol == protocol.value, e.name == name))
    if named is not None:
        raise _exists(f'There is an endpoint "{protocol}/{name}" already.', "name")
    place: Sequence[Any] = (e.protocol == protocol.value, e.tenant_id == tenant_id, e.ca_id == ca.id)
    other = await tx.scalar(select(e.name).where(*place, e.profile == profile))
    if other is not None:
        where = f'profile "{profile}" of CA "{ca.full_id}" for tenant "{tenant}"'
        raise _exists(f'The endpoint "{protocol}/{other}" offers {where} already.', "profile")


def _exists(detail: str, target: str) -> StateConflict:
    return StateConflict(
        detail, code="endpoint-exists", remedy="Change that one, or choose another name or tenant.", target=target
    )
