"""The rules that keep rights from being made out of nothing, or lost for good.

Nobody grants a permission he lacks, or takes one away; nobody touches an account that may do more than he; the last
account that manages users, and the last that manages roles, stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable

from sqlalchemy import any_, select, text

from intaglio.core.errors import Forbidden, InvalidInput, StateConflict
from intaglio.core.principal import ALL_PERMISSIONS, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.models import role, user_account

_INDISPENSABLE = (Permission.USERS_MANAGE, Permission.ROLES_MANAGE)
_LOCK = 0x1A7A6120  # advisory lock: two changes of rights must not each leave the other as "the last holder"


def permissions_of(names: Iterable[str]) -> frozenset[Permission]:
    """Permissions by their stored names; a name that this version does not know grants nothing."""
    known = {permission.value for permission in ALL_PERMISSIONS}
    return frozenset(Permission(name) for name in names if name in known)


async def permissions_of_roles(view: Transaction, names: Iterable[str]) -> frozenset[Permission]:
    """What these roles grant together. Raises InvalidInput (code ``role-unknown``) for a role that does not exist."""
    wanted = set(names)
    rows = await view.all(select(role.c.name, role.c.permissions).where(role.c.name.in_(wanted)))
    if missing := wanted - {row["name"] for row in rows}:
        raise InvalidInput(
            f"There is no role {', '.join(repr(name) for name in sorted(missing))}.",
            code="role-unknown",
            target="roles",
        )
    return permissions_of(name for row in rows for name in row["permissions"])


def require_may_grant(principal: Principal, granted: frozenset[Permission]) -> None:
    """Raise Forbidden (code ``grant-exceeds-own``) when ``principal`` lacks one of the permissions he would grant."""
    if lacking := granted - principal.permissions:
        names = ", ".join(sorted(lacking))
        raise Forbidden(
            f'"{principal.name}" cannot grant what he does not hold: {names}.',
            code="grant-exceeds-own",
            remedy="Ask somebody who holds these permissions.",
            extra={"permissions": sorted(lacking)},
        )


def require_may_withdraw(principal: Principal, withdrawn: frozenset[Permission]) -> None:
    """Raise Forbidden (code ``withdrawal-exceeds-own``) when ``principal`` lacks one of the permissions he would take
    away: whoever may edit roles could otherwise disarm those who may do more than he, auditors among them."""
    if lacking := withdrawn - principal.permissions:
        names = ", ".join(sorted(lacking))
        raise Forbidden(
            f'"{principal.name}" cannot take away what he does not hold: {names}.',
            code="withdrawal-exceeds-own",
            remedy="Ask somebody who holds these permissions.",
            extra={"permissions": sorted(lacking)},
        )


def require_not_above(principal: Principal, name: str, held: frozenset[Permission]) -> None:
    """Raise Forbidden (code ``account-above-own``) when the account may do more than ``principal``.

    Otherwise whoever may reset passwords could become anybody. It holds for one's own account too: a token with fewer
    permissions than its user must not reset his password.
    """
    if lacking := held - principal.permissions:
        raise Forbidden(
            f'"{name}" holds permissions that "{principal.name}" lacks: {", ".join(sorted(lacking))}.',
            code="account-above-own",
            remedy="Ask somebody who holds these permissions.",
        )


async def permissions_held(view: Transaction, names: Iterable[str]) -> frozenset[Permission]:
    """What an account with these roles holds; a role that is gone grants nothing."""
    rows = await view.all(select(role.c.permissions).where(role.c.name.in_(set(names))))
    return permissions_of(name for row in rows for name in row["permissions"])


async def lock_rights(tx: Transaction) -> None:
    """Let changes of roles and of who has them happen one after the other, until the end of the transaction."""
    await tx.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


@contextlib.asynccontextmanager
async def keeping_last_holders(tx: Transaction) -> AsyncIterator[None]:
    """Refuse what happens in the block (code ``last-administrator``) when it takes the last enabled account from user
    or role management. Changes of rights happen one after the other."""
    await lock_rights(tx)
    before = await _held(tx)
    yield
    if lost := before - await _held(tx):
        raise StateConflict(
            f"Afterwards nobody would hold {', '.join(sorted(lost))}.",
            code="last-administrator",
            remedy="Give another enabled user a role with this permission first.",
        )


async def _held(tx: Transaction) -> set[Permission]:
    query = (
        select(role.c.permissions)
        .distinct()
        .select_from(user_account.join(role, role.c.name == any_(user_account.c.roles)))
        .where(~user_account.c.disabled)
    )
    return {p for row in await tx.all(query) for p in permissions_of(row["permissions"]) if p in _INDISPENSABLE}
