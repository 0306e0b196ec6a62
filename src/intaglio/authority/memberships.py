"""Who belongs to an organization. Every member is an administrator of it, within his permissions.

By the organization's join policy a user who knows its name asks and waits for a member's approval (``approval``),
joins at once (``open``), or has to be invited first (``invite``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit import record as audit
from intaglio.authority import models
from intaglio.authority.access import (
    Organization,
    find_organization,
    organization_unknown,
    require_organization,
)
from intaglio.authority.context import Authority
from intaglio.core.errors import Forbidden, NotFound, Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.models import user_account

State = Literal["member", "requested", "invited"]


@dataclass(frozen=True)
class Member:
    """A user of an organization, or one who asked or was invited to be."""

    user: str
    state: State
    since: datetime


async def list_members(authority: Authority, principal: Principal, organization: str) -> list[Member]:
    """Members, requests and invitations, by user name. Needs ``ca.view``. Raises NotFound."""
    async with authority.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.CA_VIEW)
        m = models.organization_member
        rows = await view.all(select(m).where(m.c.organization_id == found.id).order_by(m.c.user_name))
        return [Member(row["user_name"], row["state"], row["since"]) for row in rows]


async def join_organization(authority: Authority, principal: Principal, organization: str) -> Member:
    """Join an organization by name, ask to, or accept an invitation, as its policy and the invitation say.

    Needs ``ca.view`` and a user account. Raises NotFound (unknown, or not invited where that is needed), StateConflict
    when the user is a member or has asked already.
    """
    principal.require(Permission.CA_VIEW)
    _require_user_account(principal)
    async with authority.database.transaction() as tx:
        found = await find_organization(tx, organization, lock=True)
        if found is None:
            raise organization_unknown(organization)
        current = await _own_state(tx, found.id, principal.name)
        if current == "member":
            raise _already(principal.name, organization, "is a member of")
        if current == "requested" and found.join_policy != "open":
            raise _already(principal.name, organization, "has asked to join")
        if found.join_policy == "invite" and current != "invited":
            raise organization_unknown(organization)
        joins = current == "invited" or found.join_policy == "open"
        return await _set(tx, principal, found, principal.name, "member" if joins else "requested", "join")


async def invite_member(authority: Authority, principal: Principal, organization: str, user: str) -> Member:
    """Invite a registered user, who becomes a member by joining. Needs ``ca.configure``.

    Somebody who asked to join becomes a member at once. Raises NotFound, StateConflict.
    """
    async with authority.database.transaction() as tx:
        found, current = await _change(tx, principal, organization, user)
        if current == "invited":
            raise _already(user, organization, "is invited to")
        return await _set(tx, principal, found, user, "member" if current == "requested" else "invited", "invite")


async def add_member(authority: Authority, principal: Principal, organization: str, user: str) -> Member:
    """Make a registered user a member at once, which also approves his request. Needs ``ca.configure``.

    Raises NotFound (organization, user), StateConflict when he is a member already.
    """
    async with authority.database.transaction() as tx:
        found, _ = await _change(tx, principal, organization, user)
        return await _set(tx, principal, found, user, "member", "add")


async def approve_request(authority: Authority, principal: Principal, organization: str, user: str) -> Member:
    """Accept a user who asked to join. Needs ``ca.configure``. Raises NotFound, StateConflict without a request."""
    async with authority.database.transaction() as tx:
        found, current = await _change(tx, principal, organization, user)
        if current != "requested":
            raise _no_request(user, organization)
        return await _set(tx, principal, found, user, "member", "approve")


async def reject_request(authority: Authority, principal: Principal, organization: str, user: str) -> None:
    """Turn down a request to join, or withdraw an invitation. Needs ``ca.configure``.

    Raises NotFound, StateConflict when there is neither.
    """
    async with authority.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.CA_CONFIGURE, lock=True)
        if await _state(tx, found.id, user) not in ("requested", "invited"):
            raise _no_request(user, organization)
        await _remove(tx, principal, found, user, "reject")


async def remove_member(authority: Authority, principal: Principal, organization: str, user: str) -> None:
    """Take a member out of an organization. Needs ``ca.configure``.

    Raises NotFound, Refused (``last-administrator``) for the last member while there are CAs.
    """
    async with authority.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.CA_CONFIGURE, lock=True)
        if await _state(tx, found.id, user) != "member":
            raise NotFound(f'"{user[:40]}" is no member of "{organization}".', code="member-unknown", target="user")
        await _check_not_last(tx, found)
        await _remove(tx, principal, found, user, "remove")


async def leave_organization(authority: Authority, principal: Principal, organization: str) -> None:
    """Leave an organization, or take a request or an acceptance of an invitation back.

    Raises NotFound, Refused (``last-administrator``) for the last member while there are CAs.
    """
    principal.require(Permission.CA_VIEW)
    _require_user_account(principal)
    async with authority.database.transaction() as tx:
        found = await find_organization(tx, organization, lock=True)
        current = await _state(tx, found.id, principal.name) if found else None
        if found is None or current is None:
            raise organization_unknown(organization)
        if current == "member":
            await _check_not_last(tx, found)
        await _remove(tx, principal, found, principal.name, "leave")


async def _change(
    tx: Transaction, principal: Principal, organization: str, user: str
) -> tuple[Organization, State | None]:
    """The organization and where a user stands who is to become a member of it."""
    found = await require_organization(tx, principal, organization, Permission.CA_CONFIGURE, lock=True)
    u = user_account.c
    if await tx.scalar(select(u.id).where(u.name == user, ~u.disabled)) is None:
        raise NotFound(f'There is no user "{user[:40]}".', code="user-unknown", target="user")
    current = await _own_state(tx, found.id, user)
    if current == "member":
        raise _already(user, organization, "is a member of")
    return found, current


async def _set(
    tx: Transaction, principal: Principal, organization: Organization, user: str, state: State, verb: str
) -> Member:
    values = {"state": state, "since": tx.now}
    statement = upsert(models.organization_member).values(organization_id=organization.id, user_name=user, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["organization_id", "user_name"], set_=values))
    audit.record(tx, principal, f"member.{verb}", "user", user, organization=organization.name, state=state)
    return Member(user, state, tx.now)


async def _remove(tx: Transaction, principal: Principal, organization: Organization, user: str, verb: str) -> None:
    m = models.organization_member.c
    await tx.execute(
        delete(models.organization_member).where(m.organization_id == organization.id, m.user_name == user)
    )
    audit.record(tx, principal, f"member.{verb}", "user", user, organization=organization.name)


async def _check_not_last(tx: Transaction, organization: Organization) -> None:
    m, u, c = models.organization_member.c, user_account.c, models.ca.c
    members = await tx.scalar(
        select(func.count())
        .select_from(models.organization_member)
        .join(user_account, u.name == m.user_name)
        .where(m.organization_id == organization.id, m.state == "member", ~u.disabled, u.created_at <= m.since)
    )
    cas = await tx.scalar(
        select(func.count()).where(c.organization_id == organization.id, c.state != "deleted", c.kind != "client")
    )
    if members <= 1 and cas:
        raise Refused(
            f'The last administrator cannot leave "{organization.name}" while it has {cas} CA(s).',
            code="last-administrator",
            remedy="Add another administrator, or delete the CAs first.",
        )


async def _state(view: Transaction, organization_id: UUID, user: str) -> State | None:
    m = models.organization_member.c
    found: State | None = await view.scalar(
        select(m.state).where(m.organization_id == organization_id, m.user_name == user)
    )
    return found


async def _own_state(view: Transaction, organization_id: UUID, user: str) -> State | None:
    """Where the present holder of a name stands. What is from before his account was meant for somebody else."""
    m, u = models.organization_member.c, user_account.c
    later = exists().where(u.name == m.user_name, u.created_at > m.since)
    found: State | None = await view.scalar(
        select(m.state).where(m.organization_id == organization_id, m.user_name == user, ~later)
    )
    return found


def _require_user_account(principal: Principal) -> None:
    if principal.kind != "user":
        raise Forbidden(
            "Only users with an account join and leave organizations.",
            code="user-account-required",
            remedy="Log in with a user account; the operator of this host sees every organization anyway.",
        )


def _already(user: str, organization: str, what: str) -> StateConflict:
    return StateConflict(f'"{user}" {what} "{organization}" already.', code="already-member", target="user")


def _no_request(user: str, organization: str) -> StateConflict:
    return StateConflict(
        f'"{user[:40]}" has not asked to join "{organization}".', code="request-unknown", target="user"
    )
