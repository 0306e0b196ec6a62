"""Who sees which organization and CA through the management interfaces.

A user sees the organizations he is a member of. What he may do there is a matter of his permissions. To everybody else
an organization looks exactly like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, select

from intaglio.authority import models
from intaglio.authority.directory import CaView, Snapshot, ca_unknown
from intaglio.core.errors import NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.models import user_account


@dataclass(frozen=True)
class Organization:
    """An independent partition that holds CAs. ``join_policy`` is approval, open or invite."""

    id: UUID
    name: str
    description: str
    join_policy: str
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Organization:
        return cls(row["id"], row["name"], row["description"], row["join_policy"], row["created_by"], row["created_at"])


def sees_all(principal: Principal) -> bool:
    """Whether the principal works for the platform as a whole and so sees every organization."""
    return principal.kind in ("operator", "system") or principal.may(Permission.PLATFORM_MANAGE)


def organization_unknown(name: str) -> NotFound:
    """The refusal of an organization that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no organization "{name[:80]}".', code="organization-unknown", target="organization")


async def require_organization(
    view: Transaction, principal: Principal, name: str, permission: Permission, *, lock: bool = False
) -> Organization:
    """The organization, for a principal with the permission who may see it.

    ``lock`` holds its row until the end of the transaction. Raises Unauthenticated, Forbidden, NotFound.
    """
    principal.require(permission)
    found = await find_organization(view, name, lock=lock)
    if found is None or not (sees_all(principal) or await is_member(view, principal, found.id)):
        raise organization_unknown(name)
    return found


async def require_ca(
    view: Transaction, snapshot: Snapshot, principal: Principal, full_id: str, permission: Permission
) -> CaView:
    """The CA ``{organization}~{ca id}``, for a principal with the permission who may see its organization.

    Raises Unauthenticated, Forbidden, NotFound.
    """
    principal.require(permission)
    ca = snapshot.ca(full_id)
    if not (sees_all(principal) or await is_member(view, principal, ca.organization_id)):
        raise ca_unknown(full_id)
    return ca


async def find_organization(view: Transaction, name: str, *, lock: bool = False) -> Organization | None:
    """The organization of this name, whoever may see it; None when there is none or it was deleted."""
    table = models.organization
    query = select(table).where(table.c.name == name, table.c.deleted_at.is_(None))
    row = await view.one_or_none(query.with_for_update() if lock else query)
    return Organization.of(row) if row else None


async def is_member(view: Transaction, principal: Principal, organization_id: UUID) -> bool:
    """Whether the principal is a user who belongs to the organization."""
    if principal.kind != "user":
        return False
    mine = memberships_of(principal.name).where(models.organization_member.c.organization_id == organization_id)
    return await view.scalar(mine) is not None


def memberships_of(user: str) -> Select[tuple[UUID]]:
    """The ids of the organizations a user is a member of.

    A membership from before the account was made belonged to somebody else who had the name.
    """
    m, u = models.organization_member.c, user_account.c
    later = exists().where(u.name == m.user_name, u.created_at > m.since)
    return select(m.organization_id).where(m.user_name == user, m.state == "member", ~later)


async def visible_organizations(view: Transaction, principal: Principal) -> list[Organization]:
    """The organizations the principal sees, by name."""
    o = models.organization
    query = select(o).where(o.c.deleted_at.is_(None)).order_by(o.c.name)
    if not sees_all(principal):
        if principal.kind != "user":
            return []
        query = query.where(o.c.id.in_(memberships_of(principal.name)))
    return [Organization.of(row) for row in await view.all(query)]
