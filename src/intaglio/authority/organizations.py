"""Organizations: independent partitions that hold CAs and the clients that use them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import (
    Organization,
    find_organization,
    require_organization,
    visible_organizations,
)
from intaglio.authority.cas.tombstones import entomb
from intaglio.authority.client_ca import create_client_ca
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.identifiers import ORGANIZATION_NAME, new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction

JOIN_POLICIES: Final = ("approval", "open", "invite")
#: The organization of the platform's own CA (see `bootstrap`).
PLATFORM_ORGANIZATION: Final = "platform"
_LONGEST_DESCRIPTION: Final = 500


async def create_organization(
    authority: Authority, principal: Principal, name: str, *, description: str = "", join_policy: str = "approval"
) -> Organization:
    """Create an organization and its client CA; a user who does so becomes its first administrator.

    Needs ``ca.configure``. Raises InvalidInput (grammar, reserved word, unknown policy), StateConflict when the name is
    taken, or reserved because certificates of deleted CAs still carry it.
    """
    principal.require(Permission.CA_CONFIGURE)
    check_name(name)
    values: dict[str, Any] = {
        "description": _checked_description(description),
        "join_policy": _checked_policy(join_policy),
    }
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        await change.locked()
        await _check_free(change.tx, name)
        key = new_id()
        await change.tx.execute(
            insert(models.organization).values(
                id=key, name=name, created_by=principal.name, created_at=change.tx.now, **values
            )
        )
        if principal.kind == "user":
            await change.tx.execute(
                insert(models.organization_member).values(
                    organization_id=key, user_name=principal.name, state="member", since=change.tx.now
                )
            )
        audit.record(change.tx, principal, "organization.create", "organization", name, organization=name, **values)
        await create_client_ca(authority.keystore, change.tx, principal, key, name)
        return Organization(key, name, values["description"], join_policy, principal.name, change.tx.now)


async def list_organizations(authority: Authority, principal: Principal) -> list[Organization]:
    """The organizations the principal sees, by name. Needs ``ca.view``."""
    principal.require(Permission.CA_VIEW)
    async with authority.database.read() as view:
        return await visible_organizations(view, principal)


async def get_organization(authority: Authority, principal: Principal, name: str) -> Organization:
    """One organization. Needs ``ca.view``. Raises NotFound."""
    async with authority.database.read() as view:
        return await require_organization(view, principal, name, Permission.CA_VIEW)


async def edit_organization(
    authority: Authority,
    principal: Principal,
    name: str,
    *,
    description: str | None = None,
    join_policy: str | None = None,
) -> Organization:
    """Change the description or who may join. Needs ``ca.configure``. Raises NotFound, InvalidInput."""
    async with authority.database.transaction() as tx:
        found = await require_organization(tx, principal, name, Permission.CA_CONFIGURE, lock=True)
        values: dict[str, Any] = {
            "description": found.description if description is None else _checked_description(description),
            "join_policy": found.join_policy if join_policy is None else _checked_policy(join_policy),
        }
        await tx.execute(update(models.organization).where(models.organization.c.id == found.id).values(**values))
        audit.record(tx, principal, "organization.edit", "organization", name, organization=name, **values)
        return Organization(
            found.id, name, values["description"], values["join_policy"], found.created_by, found.created_at
        )


async def delete_organization(authority: Authority, principal: Principal, name: str) -> None:
    """Delete an organization without CAs; its client CA and all its clients' access end with it.

    Needs ``ca.configure``. Raises NotFound, StateConflict (``organization-not-empty``) with the list of its CAs. The
    name stays reserved like the ids of the CAs it had.
    """
    async with changing(authority, principal, Permission.CA_CONFIGURE) as change:
        tx, snapshot = change.tx, await change.locked()
        found = await require_organization(tx, principal, name, Permission.CA_CONFIGURE, lock=True)
        mine = [ca for ca in snapshot.cas.values() if ca.organization_id == found.id and ca.state != "deleted"]
        if blocking := sorted(ca.full_id for ca in mine if ca.kind != "client"):
            raise StateConflict(
                f'Organization "{name}" still has {len(blocking)} CA(s): {", ".join(blocking[:10])}.',
                code="organization-not-empty",
                remedy="Delete its CAs first.",
                extra={"cas": blocking},
            )
        for ca in mine:
            await entomb(tx, ca.id)
        m, o = models.organization_member.c, models.organization
        await tx.execute(delete(models.organization_member).where(m.organization_id == found.id))
        await tx.execute(update(o).where(o.c.id == found.id).values(deleted_at=tx.now))
        audit.record(tx, principal, "organization.delete", "organization", name, organization=name)


def check_name(name: str) -> None:
    """Raise InvalidInput for a name that no organization can have."""
    ORGANIZATION_NAME.check(name, target="name")
    if name == PLATFORM_ORGANIZATION:
        raise InvalidInput(f'"{name}" is a reserved word.', code="reserved-word", target="name")


async def _check_free(tx: Transaction, name: str) -> None:
    if await find_organization(tx, name) is not None:
        raise StateConflict(
            f'There is an organization "{name}" already.',
            code="organization-exists",
            remedy="Choose another name, or ask its administrators to let you join.",
            target="name",
        )
    o, c = models.organization.c, models.ca.c
    query = select(func.max(c.reserved_until)).join(models.organization, o.id == c.organization_id)
    until = await tx.scalar(query.where(o.name == name))
    if until is not None and until > tx.now:
        raise StateConflict(
            f'The name "{name}" is reserved until {rfc3339(until)}: certificates of deleted CAs still carry it.',
            code="organization-reserved",
            remedy="Choose another name, or wait until then.",
            target="name",
            extra={"reserved_until": rfc3339(until)},
        )


def _checked_policy(policy: str) -> str:
    if policy not in JOIN_POLICIES:
        raise InvalidInput(
            f'"{policy[:40]}" is not a join policy.',
            remedy=f"Use one of: {', '.join(JOIN_POLICIES)}.",
            target="join_policy",
        )
    return policy


def _checked_description(text: str) -> str:
    if len(text) > _LONGEST_DESCRIPTION or "\0" in text:
        raise InvalidInput(f"A description has at most {_LONGEST_DESCRIPTION} characters.", target="description")
    return text
