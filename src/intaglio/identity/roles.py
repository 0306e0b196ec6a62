"""Roles: the built-in ones, and custom ones made of any permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import any_, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.principal import ALL_PERMISSIONS, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.grants import (
    keeping_last_holders,
    permissions_of,
    require_may_grant,
    require_may_withdraw,
)
from intaglio.identity.models import role, user_account
from intaglio.identity.schemas import Role

ADMINISTRATOR = "administrator"

BUILT_IN = (
    Role(name=ADMINISTRATOR, description="Everything", permissions=ALL_PERMISSIONS, built_in=True),
    Role(
        name="ca-operator",
        description="Run certificate authorities: view and operate",
        permissions=frozenset({Permission.CA_VIEW, Permission.CA_OPERATE}),
        built_in=True,
    ),
    Role(
        name="auditor",
        description="Read everything, change nothing",
        permissions=frozenset(
            {
                Permission.CA_VIEW,
                Permission.AUDIT_VIEW,
                Permission.MTLS_VIEW,
                Permission.VALIDATION_VIEW,
                Permission.TIMESTAMPING_VIEW,
                Permission.ENROLLMENT_VIEW,
            }
        ),
        built_in=True,
    ),
    Role(
        name="enrolment-officer",
        description="Hand out security codes for browser enrolment",
        permissions=frozenset({Permission.MTLS_VIEW, Permission.MTLS_ENROL}),
        built_in=True,
    ),
    Role(
        name="identity-administrator",
        description="Keep the registry of identities and trust domains, and revoke",
        permissions=frozenset({Permission.MTLS_VIEW, Permission.MTLS_ENROL, Permission.MTLS_IDENTITIES}),
        built_in=True,
    ),
    Role(
        name="policy-administrator",
        description="Decide who may reach what: ingresses, access policies, waivers, drills",
        permissions=frozenset({Permission.MTLS_VIEW, Permission.MTLS_POLICY}),
        built_in=True,
    ),
    Role(
        name="service-owner",
        description="Look after the identities one owns",
        permissions=frozenset({Permission.MTLS_OWN}),
        built_in=True,
    ),
    Role(
        name="validation-administrator",
        description="Run the validation authority: status sources, responders and their signers",
        permissions=frozenset({Permission.VALIDATION_VIEW, Permission.VALIDATION_MANAGE}),
        built_in=True,
    ),
    Role(
        name="timestamping-administrator",
        description="Run the timestamping authority: issuers, their certificates, the clock",
        permissions=frozenset({Permission.TIMESTAMPING_VIEW, Permission.TIMESTAMPING_MANAGE}),
        built_in=True,
    ),
    Role(
        name="enrollment-administrator",
        description="Run the enrolment protocols: endpoints, their credentials, requests",
        permissions=frozenset({Permission.CA_VIEW, Permission.ENROLLMENT_VIEW, Permission.ENROLLMENT_MANAGE}),
        built_in=True,
    ),
    Role(
        name="enrollment-approver",
        description="Approve and reject certificate requests that wait for somebody",
        permissions=frozenset({Permission.ENROLLMENT_VIEW, Permission.ENROLLMENT_APPROVE}),
        built_in=True,
    ),
    Role(
        name="key-custodian",
        description="Keep tokens and service keys: hardware security modules, keys, migration",
        permissions=frozenset({Permission.KEYS_MANAGE}),
        built_in=True,
    ),
)

_SHORTEST, _LONGEST, _LONGEST_DESCRIPTION = 2, 64, 500


async def install_built_in_roles(tx: Transaction) -> None:
    """Write the built-in roles as this version knows them. Idempotent; part of every start."""
    for built_in in BUILT_IN:
        values = {"name": built_in.name, "description": built_in.description, "built_in": True}
        values["permissions"] = sorted(built_in.permissions)
        statement = upsert(role).values(**values)
        await tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def list_roles(view: Transaction, principal: Principal) -> list[Role]:
    """All roles by name. Needs ``roles.manage`` or ``users.manage``."""
    _require_viewer(principal)
    return [_role(row) for row in await view.all(select(role).order_by(role.c.name))]


async def get_role(view: Transaction, principal: Principal, name: str) -> Role:
    """One role. Raises NotFound."""
    _require_viewer(principal)
    return await _load(view, name)


async def create_role(
    tx: Transaction, principal: Principal, name: str, permissions: Iterable[Permission], *, description: str = ""
) -> Role:
    """Create a custom role.

    Raises InvalidInput for a name under 2 characters, StateConflict (``already-exists``) for a name in use whatever
    its case, Forbidden for a permission that ``principal`` lacks.
    """
    principal.require(Permission.ROLES_MANAGE)
    created = Role(
        name=_checked_name(name),
        description=_checked_description(description),
        permissions=frozenset(permissions),
        built_in=False,
    )
    require_may_grant(principal, created.permissions)
    if await tx.scalar(select(role.c.name).where(func.lower(role.c.name) == created.name.lower())):
        raise StateConflict(f'There is a role "{name}" already.', code="already-exists", target="name")
    await tx.execute(insert(role).values(**_columns(created)))
    record(tx, principal, "role.create", "role", created.name, permissions=sorted(created.permissions))
    return created


async def edit_role(
    tx: Transaction,
    principal: Principal,
    name: str,
    *,
    permissions: Iterable[Permission] | None = None,
    description: str | None = None,
) -> Role:
    """Change a custom role; takes effect at once for everybody who has it.

    Raises NotFound, StateConflict for a built-in role or when the last holder of user or role management would lose
    it, Forbidden for a permission, added or removed, that ``principal`` lacks.
    """
    principal.require(Permission.ROLES_MANAGE)
    async with keeping_last_holders(tx):
        current = await _load_custom(tx, name)
        changed = current.model_copy(
            update={
                "permissions": current.permissions if permissions is None else frozenset(permissions),
                "description": current.description if description is None else _checked_description(description),
            }
        )
        require_may_grant(principal, changed.permissions - current.permissions)
        require_may_withdraw(principal, current.permissions - changed.permissions)
        await tx.execute(update(role).where(role.c.name == name).values(**_columns(changed)))
    record(
        tx,
        principal,
        "role.edit",
        "role",
        name,
        added=sorted(changed.permissions - current.permissions),
        removed=sorted(current.permissions - changed.permissions),
    )
    return changed


async def delete_role(tx: Transaction, principal: Principal, name: str) -> None:
    """Delete a custom role that nobody has.

    Raises NotFound, StateConflict for a built-in role (``role-built-in``) or one in use (``role-in-use``), Forbidden
    for one with a permission that ``principal`` lacks.
    """
    principal.require(Permission.ROLES_MANAGE)
    async with keeping_last_holders(tx):
        require_may_withdraw(principal, (await _load_custom(tx, name)).permissions)
        query = select(user_account.c.name).where(any_(user_account.c.roles) == name).order_by(user_account.c.name)
        if users := [row["name"] for row in await tx.all(query.limit(20))]:
            raise StateConflict(
                f'The role "{name}" is held by {", ".join(users)}.',
                code="role-in-use",
                remedy="Take it from these users first.",
                extra={"users": users},
            )
        await tx.execute(delete(role).where(role.c.name == name))
    record(tx, principal, "role.delete", "role", name)


async def _load_custom(tx: Transaction, name: str) -> Role:
    found = await _load(tx, name)
    if found.built_in:
        raise StateConflict(
            f'"{name}" is a built-in role.', code="role-built-in", remedy="Create a role of your own instead."
        )
    return found


async def _load(view: Transaction, name: str) -> Role:
    row = await view.one_or_none(select(role).where(role.c.name == name))
    if row is None:
        raise NotFound(f'There is no role "{name}".', code="role-unknown", target="name")
    return _role(row)


def _role(row: Mapping[str, Any]) -> Role:
    return Role(
        name=row["name"],
        description=row["description"],
        permissions=permissions_of(row["permissions"]),
        built_in=row["built_in"],
    )


def _columns(value: Role) -> dict[str, Any]:
    return {**value.model_dump(exclude={"permissions"}), "permissions": sorted(value.permissions)}


def _checked_name(name: str) -> str:
    name = name.strip()
    if not _SHORTEST <= len(name) <= _LONGEST or not name.isprintable():
        raise InvalidInput(f"A role name has {_SHORTEST} to {_LONGEST} printable characters.", target="name")
    return name


def _checked_description(text: str) -> str:
    if len(text) > _LONGEST_DESCRIPTION or "\0" in text:
        raise InvalidInput(f"A description has at most {_LONGEST_DESCRIPTION} characters.", target="description")
    return text


def _require_viewer(principal: Principal) -> None:
    if not principal.may(Permission.USERS_MANAGE):
        principal.require(Permission.ROLES_MANAGE)
