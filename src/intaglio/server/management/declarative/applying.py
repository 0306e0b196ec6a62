"""Taking the steps of a difference, each through the use case that everybody else uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import yaml

from intaglio.authority import custom_profiles, memberships, organizations, rights
from intaglio.authority.cas import create, delete, edit, external
from intaglio.authority.cas.values import CaChanges, NewExternalRoot, NewIssuing, NewRoot
from intaglio.authority.credentials import NewCredential
from intaglio.core.errors import Forbidden, IntaglioError
from intaglio.core.principal import Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.access import ingresses, modes, policies
from intaglio.mtls.access.ingress_values import NO_RULE, IngressChanges, NewIngress
from intaglio.mtls.access.policy_values import PolicyCase
from intaglio.mtls.identities import domains, lifetimes, names, registry, revoking, rotation
from intaglio.mtls.identities.values import Kind
from intaglio.platform import live_settings
from intaglio.server.management.declarative import endpoints, partners, signers, status, timestamps, tokens
from intaglio.server.management.declarative.document import (
    DeclaredDomain,
    DeclaredExternalRoot,
    DeclaredIdentity,
    DeclaredIngress,
    DeclaredIssuing,
    DeclaredPolicy,
    needs_nobody,
)
from intaglio.server.management.declarative.steps import Section, Step
from intaglio.server.services import Services


@dataclass(frozen=True)
class Taken:
    """A step that was taken: credentials of new clients, shown this once, and what a person has still to do."""

    step: Step
    credentials: tuple[NewCredential, ...]
    notes: tuple[str, ...]


async def apply(services: Services, principal: Principal, steps: list[Step]) -> AsyncIterator[Taken]:
    """Take the steps in order, each in its own transaction, and tell of each when it is durable.

    The first refusal ends it, naming the object; applying the same document again continues there.
    """
    for step in steps:
        run = _Run(services, principal)
        try:
            await run.take(step)
        except IntaglioError as error:
            error.detail = f"{step.object}: {error.detail}"
            raise
        yield Taken(step, tuple(run.credentials), tuple(run.notes))


class _Run:
    """One step under way."""

    def __init__(self, services: Services, principal: Principal) -> None:
        self._services = services
        self._authority = services.authority
        self._principal = principal
        self.credentials: list[NewCredential] = []
        self.notes: list[str] = []

    async def take(self, step: Step) -> None:
        if step.action == "delete":
            await self._delete(step)
            return
        steps: Mapping[Section, Callable[[Step], Awaitable[None]]] = {
            "settings": self._set,
            "profile": self._declare_profile,
            "organization": self._put_organization,
            "members": self._put_members,
            "ca": self._create_ca if step.action == "create" else self._change_ca,
            "trust domain": self._create_domain if step.action == "create" else self._change_domain,
            "identity": self._put_identity,
            "policy": self._put_policy,
            "ingress": self._create_ingress if step.action == "create" else self._change_ingress,
            "pipeline": self._put_pipeline,
            "outbound credential": self._put_outbound,
            "status directory": self._put_status,
            "status authority": self._put_status,
            "ocsp signer": self._put_signer,
            "timestamp issuer": self._put_timestamps,
            "token": self._put_token,
            "enrolment tenant": self._put_endpoint,
            "enrolment endpoint": self._put_endpoint,
        }
        await steps[step.section](step)

    async def _put_status(self, step: Step) -> None:
        self.notes += await status.put(self._services.validation, self._principal, step)

    async def _put_signer(self, step: Step) -> None:
        self.notes += await signers.put(self._services.validation, self._principal, step)

    async def _put_token(self, step: Step) -> None:
        self.notes += await tokens.put(self._services.tokens, self._principal, step)

    async def _put_endpoint(self, step: Step) -> None:
        self.notes += await endpoints.put(self._services.enrollment, self._principal, step)

    async def _put_timestamps(self, step: Step) -> None:
        self.notes += await timestamps.put(self._services.timestamps, self._principal, step)

    async def _set(self, step: Step) -> None:
        async with self._services.database.transaction() as tx:
            await live_settings.change(tx, self._principal, step.name, step.wanted)

    async def _declare_profile(self, step: Step) -> None:
        declaration = yaml.safe_dump(step.wanted, sort_keys=False, allow_unicode=True)
        made = await custom_profiles.declare_profile(self._authority, self._principal, declaration)
        try:
            await custom_profiles.activate_profile(self._authority, self._principal, made.profile.id)
        except Forbidden as error:
            if error.code != "approval-by-author":
                raise
            self.notes.append(f"Profile {made.profile.id} is a draft until somebody else activates it.")

    async def _put_organization(self, step: Step) -> None:
        put = organizations.create_organization if step.action == "create" else organizations.edit_organization
        wanted = step.wanted
        await put(
            self._authority,
            self._principal,
            step.name,
            description=wanted.description,
            join_policy=wanted.join_policy,
        )

    async def _put_members(self, step: Step) -> None:
        found = await memberships.list_members(self._authority, self._principal, step.name)
        present = {each.user for each in found if each.state == "member"}
        for user in step.wanted:
            if user not in present:
                await memberships.add_member(self._authority, self._principal, step.name, user)
        for user in present.difference(step.wanted):
            await memberships.remove_member(self._authority, self._principal, step.name, user)

    async def _create_ca(self, step: Step) -> None:
        values: dict[str, Any] = step.wanted.model_dump(exclude={"kind", "tenants"})
        place = (self._authority, self._principal, step.organization)
        if isinstance(step.wanted, DeclaredExternalRoot):
            await external.add_external_root(*place, NewExternalRoot(**values))
            return
        nobody = needs_nobody(step.wanted)
        if isinstance(step.wanted, DeclaredIssuing):
            made = await create.create_issuing(*place, NewIssuing(**values), without_clients=nobody)
        else:
            made = await create.create_root(*place, NewRoot(**values), without_clients=nobody)
        self.credentials += made.credentials
        if made.ca.state == "awaiting-certificate":
            self.notes.append(f"CA {made.ca.id} waits for its certificate from {made.ca.issuer}.")
        await self._put_tenants(step, {})

    async def _change_ca(self, step: Step) -> None:
        changed = {change.name for change in step.fields}
        ca = f"{step.organization}~{step.name}"
        values = {name: getattr(step.wanted, name) for name in changed - {"tenants"}}
        if values:
            if not isinstance(step.wanted, DeclaredExternalRoot):
                values["credentials"] = step.wanted.credentials
            made = await edit.edit_ca(self._authority, self._principal, ca, CaChanges(**values))
            self.credentials += made.credentials
        if "tenants" in changed:
            present = await rights.list_rights(self._authority, self._principal, ca)
            await self._put_tenants(step, present)

    async def _put_tenants(self, step: Step, present: Mapping[str, str]) -> None:
        ca = f"{step.organization}~{step.name}"
        wanted: Mapping[str, str] = step.wanted.tenants
        for name, right in wanted.items():
            if present.get(name) != right:
                made = await rights.grant_right(
                    self._authority, self._principal, ca, name, right, step.wanted.credentials.wish
                )
                self.credentials += [made] if made else []
        kept = {*wanted, *step.wanted.administrators, *step.wanted.auditors}
        for name in present:
            if name not in kept:
                await rights.revoke_right(self._authority, self._principal, ca, name)

    async def _create_domain(self, step: Step) -> None:
        wanted: DeclaredDomain = step.wanted
        values = wanted.model_dump()
        values |= {name: _spans(values[name], name) for name in ("lifetimes", "ceilings")}
        await domains.create_domain(self._services.mtls, self._principal, domains.NewDomain(**values))

    async def _change_domain(self, step: Step) -> None:
        wanted: DeclaredDomain = step.wanted
        changed = {change.name for change in step.fields}
        values = {name: getattr(wanted, name) for name in changed - {"issuing_ca", "lifetimes", "ceilings"}}
        values |= {name: _spans(getattr(wanted, name), name) for name in changed & {"lifetimes", "ceilings"}}
        if values:
            changes = domains.DomainChanges(**values)
            await domains.edit_domain(self._services.mtls, self._principal, step.name, changes)
        if "issuing_ca" in changed:
            made = await rotation.give_ca(
                self._services.mtls, self._principal, step.name, issuing_ca=wanted.issuing_ca
            )
            if made.state == "rotating":
                self.notes.append(f"{step.name} is rotating; end it with `intaglio mtls domain finish-rotation`.")

    async def _put_identity(self, step: Step) -> None:
        wanted: DeclaredIdentity = step.wanted
        mtls = self._services.mtls
        if step.action == "create":
            await registry.add_identity(mtls, self._principal, registry.NewIdentity(**wanted.model_dump()))
            return
        values = {change.name: getattr(wanted, change.name) for change in step.fields}
        found = await self._identity(step.name)
        await registry.edit_identity(mtls, self._principal, found, registry.IdentityChanges(**values))

    async def _identity(self, reference: str) -> UUID:
        """The id behind the reference of a declared identity."""
        kind, _, rest = reference.partition(":")
        name, _, domain = rest.rpartition("@")
        by = "email" if kind == "user" else "name"
        asked = ListQuery(filter=(f"domain={domain}", f"kind={kind}", f"{by}={name}", "state!=retired"), limit=2)
        page = await registry.list_identities(self._services.mtls, self._principal, asked)
        if len(page.identities) != 1:
            raise registry.identity_unknown(reference)
        return page.identities[0].id

    async def _put_policy(self, step: Step) -> None:
        wanted: DeclaredPolicy = step.wanted
        values = wanted.model_dump(exclude={"cases"})
        new = policies.NewPolicy(**values, cases=[PolicyCase(**each.model_dump()) for each in wanted.cases])
        made, version = await policies.put_policy(self._services.mtls, self._principal, new)
        await policies.activate(self._services.mtls, self._principal, made.full_name, version.version)

    async def _create_ingress(self, step: Step) -> None:
        wanted: DeclaredIngress = step.wanted
        await ingresses.create_ingress(self._services.mtls, self._principal, NewIngress(**wanted.model_dump()))
        self.notes.append(f"Ingress {step.name} gets its token from `intaglio mtls ingress token {step.name}`.")

    async def _change_ingress(self, step: Step) -> None:
        wanted: DeclaredIngress = step.wanted
        changed = {change.name for change in step.fields}
        values = {name: getattr(wanted, name) for name in changed - {"mode"}}
        values |= {name: NO_RULE for name in ("ip_rule", "policy") if name in changed and values[name] is None}
        mtls = self._services.mtls
        if values:
            await ingresses.edit_ingress(mtls, self._principal, step.name, IngressChanges(**values))
        if "mode" in changed:
            await modes.change_mode(mtls, self._principal, step.name, wanted.mode, reason="As declared.")

    async def _put_pipeline(self, step: Step) -> None:
        await partners.put_pipeline(self._services.mtls, self._principal, step)

    async def _put_outbound(self, step: Step) -> None:
        if note := await partners.put_outbound(self._services.mtls, self._principal, step):
            self.notes.append(note)

    async def _delete(self, step: Step) -> None:
        if step.section in ("pipeline", "outbound credential"):
            await partners.delete_partner(self._services.mtls, self._principal, step)
            return
        if step.section == "ingress":
            await ingresses.retire_ingress(self._services.mtls, self._principal, step.name)
            return
        if step.section == "policy":
            await policies.retire_policy(self._services.mtls, self._principal, step.name)
            return
        if step.section in ("status directory", "status authority"):
            await status.delete(self._services.validation, self._principal, step)
            return
        if step.section == "ocsp signer":
            await signers.delete(self._services.validation, self._principal, step)
            return
        if step.section == "token":
            await tokens.delete(self._services.tokens, self._principal, step)
            return
        if step.section in ("enrolment tenant", "enrolment endpoint"):
            await endpoints.delete(self._services.enrollment, self._principal, step)
            return
        if step.section == "timestamp issuer":
            await timestamps.delete(self._services.timestamps, self._principal, step)
            return
        if step.section == "identity":
            found = await self._identity(step.name)
            await revoking.retire_identity(self._services.mtls, self._principal, found)
            return
        if step.section == "trust domain":
            await domains.retire_domain(self._services.mtls, self._principal, step.name)
            return
        if step.section == "ca":
            await delete.delete_ca(self._authority, self._principal, f"{step.organization}~{step.name}")
        elif step.section == "profile":
            await custom_profiles.retire_profile(self._authority, self._principal, step.name)
        else:
            await organizations.delete_organization(self._authority, self._principal, step.name)


def _spans(given: Mapping[str, str], target: str) -> dict[Kind, timedelta]:
    return {names.kind_of(kind): lifetimes.duration_of(text, target=target) for kind, text in given.items()}
