"""Taking the steps of a difference, each through the use case that everybody else uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from intaglio.authority import custom_profiles, memberships, organizations, rights
from intaglio.authority.cas import create, delete, edit, external
from intaglio.authority.cas.values import CaChanges, NewExternalRoot, NewIssuing, NewRoot
from intaglio.authority.credentials import NewCredential
from intaglio.core.errors import Forbidden, IntaglioError
from intaglio.core.principal import Principal
from intaglio.platform import live_settings
from intaglio.server.management.declarative.difference import Section, Step
from intaglio.server.management.declarative.document import DeclaredExternalRoot, DeclaredIssuing
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
        }
        await steps[step.section](step)

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
        # A list that says expressly that there is nobody, as in an export of the CAs of a trust domain.
        nobody = not step.wanted.administrators and not step.wanted.auditors
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

    async def _delete(self, step: Step) -> None:
        if step.section == "ca":
            await delete.delete_ca(self._authority, self._principal, f"{step.organization}~{step.name}")
        elif step.section == "profile":
            await custom_profiles.retire_profile(self._authority, self._principal, step.name)
        else:
            await organizations.delete_organization(self._authority, self._principal, step.name)
