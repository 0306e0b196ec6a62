"""Tenants and endpoints of enrolment in declarations. Credentials are made by command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.principal import Permission, Principal
from intaglio.enrollment import administration
from intaglio.enrollment.administration import DEFAULT_TENANT, EndpointChanges, NewEndpoint
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import canonical_profile
from intaglio.enrollment.protocols import read_options
from intaglio.enrollment.values import Endpoint, Protocol
from intaglio.profiles import registry
from intaglio.server.management.declarative.document import (
    DeclaredEndpoint,
    DeclaredExternalRoot,
    DeclaredTenant,
    Document,
)
from intaglio.server.management.declarative.steps import Step, changed_fields

_FIXED: Final = ("tenant", "ca", "profile")
_CHANGEABLE: Final = ("enabled", "approval", "networks", "hourly_limit", "options")


async def read_tenants(enrollment: Enrollment, principal: Principal) -> list[DeclaredTenant] | None:
    """All tenants; None for who may not see them."""
    if not principal.may(Permission.ENROLLMENT_VIEW):
        return None
    found = await administration.list_tenants(enrollment, principal)
    return [DeclaredTenant(name=each.name, description=each.description) for each in found]


async def read_endpoints(enrollment: Enrollment, principal: Principal) -> list[DeclaredEndpoint] | None:
    """All endpoints; None for who may not see them."""
    if not principal.may(Permission.ENROLLMENT_VIEW):
        return None
    return [_declared(each) for each in await administration.list_endpoints(enrollment, principal)]


def endpoint_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Tenants and endpoints to make, endpoints to change.

    Raises Refused (``setting-frozen``) for what is said once, InvalidInput (``endpoint-options-invalid``).
    """
    tenants = {each.name for each in current.enrollment_tenants or ()}
    for tenant in wanted.enrollment_tenants or ():
        if tenant.name not in tenants:
            yield Step("enrolment tenant", "create", tenant.name, wanted=tenant)
    known = {each.address: each for each in current.enrollment_endpoints or ()}
    for given in wanted.enrollment_endpoints or ():
        endpoint, before = _normalized(given), known.get(given.address)
        if before is None:
            yield Step("enrolment endpoint", "create", endpoint.address, wanted=endpoint)
            continue
        if frozen := [change.name for change in changed_fields(endpoint, before, _FIXED)]:
            raise Refused(
                f"enrolment endpoint {endpoint.address}: {', '.join(frozen)} cannot be changed.",
                code="setting-frozen",
                remedy="Declare another endpoint, or delete this one first.",
                target=frozen[0],
                extra={"fields": frozen},
            )
        if changes := changed_fields(endpoint, before, _CHANGEABLE):
            yield Step("enrolment endpoint", "change", endpoint.address, wanted=endpoint, fields=changes)


def endpoint_findings(wanted: Document, current: Document) -> Iterator[tuple[str, str]]:
    """Where endpoints are wrong, and what is wrong there, as far as that can be told before anything is changed."""
    declared = (*(wanted.enrollment_tenants or ()), *(current.enrollment_tenants or ()))
    tenants = {DEFAULT_TENANT, *(each.name for each in declared)}
    offered = _offered(wanted, current)
    known = {each.address: each for each in current.enrollment_endpoints or ()}
    taken = {_place(each): address for address, each in known.items()}
    for number, endpoint in enumerate(wanted.enrollment_endpoints or ()):
        where = f"/enrollment_endpoints/{number}"
        try:
            read_options(endpoint.protocol, endpoint.options)
        except InvalidInput as error:
            yield from ((f"{where}/options{field}", text) for field, text in error.fields)
        if endpoint.address in known:
            continue
        if endpoint.tenant not in tenants:
            yield f"{where}/tenant", f'There is no tenant "{endpoint.tenant[:40]}".'
        yield from _profile_findings(where, endpoint, offered)
        if (other := taken.setdefault(_place(endpoint), endpoint.address)) != endpoint.address:
            yield where, f"{other} has the same protocol, tenant, CA and profile."


def _profile_findings(
    where: str, endpoint: DeclaredEndpoint, offered: Mapping[str, set[str]] | None
) -> Iterator[tuple[str, str]]:
    profile = canonical_profile(endpoint.profile)
    if offered is not None and endpoint.ca not in offered:
        yield f"{where}/ca", f'There is no CA "{endpoint.ca[:80]}".'
    elif offered is not None and profile not in offered[endpoint.ca]:
        yield f"{where}/profile", f'CA "{endpoint.ca}" does not offer the profile "{profile[:80]}".'
    elif (found := registry.find(profile)) is not None and endpoint.protocol.value not in found.channels:
        yield f"{where}/profile", f'Profile "{profile}" is not offered through {endpoint.protocol}.'


def _offered(wanted: Document, current: Document) -> dict[str, set[str]] | None:
    """Profiles of every CA (``organization~ca``) that is there or will be; None for who may not see them."""
    if current.organizations is None:
        return None
    offered: dict[str, set[str]] = {}
    for organization in (*current.organizations, *(wanted.organizations or ())):
        for ca in organization.cas:
            named = () if isinstance(ca, DeclaredExternalRoot) else ca.profiles
            offered[f"{organization.name}~{ca.name}"] = {registry.normal_id(profile) for profile in named}
    return offered


def _place(endpoint: DeclaredEndpoint) -> tuple[str, str, str, str]:
    return endpoint.protocol, endpoint.tenant, endpoint.ca, canonical_profile(endpoint.profile)


def gone_endpoints(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name, endpoints before their tenants."""
    if wanted.enrollment_endpoints is not None:
        kept = {each.address for each in wanted.enrollment_endpoints}
        gone = [each.address for each in current.enrollment_endpoints or () if each.address not in kept]
        yield from (Step("enrolment endpoint", "delete", address) for address in gone)
    if wanted.enrollment_tenants is not None:
        # One that a declared endpoint is under stays; `main` is made with the first of them.
        names = {each.name for each in wanted.enrollment_tenants}
        left = current.enrollment_endpoints if wanted.enrollment_endpoints is None else wanted.enrollment_endpoints
        names |= {each.tenant for each in left or ()}
        gone = [each.name for each in current.enrollment_tenants or () if each.name not in names]
        yield from (Step("enrolment tenant", "delete", name) for name in gone)


async def put(enrollment: Enrollment, principal: Principal, step: Step) -> list[str]:
    """Make a tenant, make or change an endpoint; returns what a person has still to do."""
    if step.section == "enrolment tenant":
        tenant: DeclaredTenant = step.wanted
        await administration.create_tenant(enrollment, principal, tenant.name, tenant.description)
        return []
    wanted: DeclaredEndpoint = step.wanted
    if step.action == "change":
        options: dict[str, Any] = read_options(wanted.protocol, wanted.options).model_dump(mode="json")
        changes = EndpointChanges(
            wanted.enabled, wanted.approval, tuple(wanted.networks), wanted.hourly_limit or 0, options
        )
        await administration.change_endpoint(enrollment, principal, wanted.protocol, wanted.name, changes)
        return []
    await administration.create_endpoint(
        enrollment, principal, NewEndpoint.model_validate({**wanted.model_dump(), "networks": tuple(wanted.networks)})
    )
    if wanted.protocol is Protocol.ACME:
        return []
    return [f"Endpoint {step.name} may need credentials: intaglio enroll credential create {step.name}."]


async def delete(enrollment: Enrollment, principal: Principal, step: Step) -> None:
    """Delete a tenant or an endpoint."""
    if step.section == "enrolment tenant":
        await administration.delete_tenant(enrollment, principal, step.name)
        return
    protocol, _, name = step.name.partition("/")
    await administration.delete_endpoint(enrollment, principal, Protocol(protocol), name)


def _normalized(endpoint: DeclaredEndpoint) -> DeclaredEndpoint:
    return endpoint.model_copy(
        update={
            "profile": canonical_profile(endpoint.profile),
            "options": _without_defaults(endpoint.protocol, endpoint.options),
        }
    )


def _without_defaults(protocol: Protocol, options: dict[str, Any]) -> dict[str, Any]:
    return read_options(protocol, options).model_dump(mode="json", exclude_defaults=True)


def _declared(found: Endpoint) -> DeclaredEndpoint:
    return DeclaredEndpoint(
        protocol=found.protocol,
        name=found.name,
        tenant=found.tenant or DEFAULT_TENANT,
        ca=found.ca,
        profile=found.profile,
        enabled=found.enabled,
        approval=found.approval,
        networks=list(found.networks),
        hourly_limit=found.hourly_limit,
        options=found.options.model_dump(mode="json", exclude_defaults=True),
    )
