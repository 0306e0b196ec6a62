"""Who sees which part of the audit trail."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert
from tests.support.authority import OPERATOR

from intaglio.audit.record import record
from intaglio.authority import memberships, organizations, trail
from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound, Unauthenticated
from intaglio.core.identifiers import new_id
from intaglio.core.principal import ANONYMOUS, Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.identity.models import user_account

CAROL = Principal("user", "carol", frozenset({Permission.CA_VIEW, Permission.PLATFORM_MANAGE}))
AUDITOR = Principal("user", "paula", frozenset({Permission.AUDIT_VIEW}))


@pytest.fixture(autouse=True)
async def registered(authority: Authority) -> None:
    async with authority.database.transaction() as tx:
        for name in ("carol", "paula"):
            await tx.execute(insert(user_account).values(id=new_id(), name=name, created_at=tx.now))


async def seen(authority: Authority, principal: Principal, organization: str | None = None) -> set[str | None]:
    """The organizations of the records that somebody sees."""
    async with authority.database.read() as view:
        page = await trail.search_trail(view, principal, ListQuery(limit=1000), organization=organization)
    return {each.organization for each in page.items}


async def note(authority: Authority, organization: str | None) -> None:
    async with authority.database.transaction() as tx:
        record(tx, OPERATOR, "ca.create", "ca", "x", organization=organization)


async def test_a_member_sees_his_organizations_and_an_auditor_the_whole(authority: Authority) -> None:
    for name in ("hers", "too", "theirs"):
        await organizations.create_organization(authority, OPERATOR, name)
    await note(authority, None)
    await memberships.add_member(authority, OPERATOR, "hers", "carol")
    assert await seen(authority, CAROL) == {"hers"}
    await memberships.add_member(authority, OPERATOR, "too", "carol")
    assert await seen(authority, CAROL) == {"hers", "too"}
    assert await seen(authority, CAROL, "too") == {"too"}
    for everything in (AUDITOR, OPERATOR):
        assert await seen(authority, everything) == {None, "hers", "too", "theirs"}
        assert await seen(authority, everything, "theirs") == {"theirs"}


async def test_to_manage_the_platform_does_not_show_the_trail_of_others(authority: Authority) -> None:
    await organizations.create_organization(authority, OPERATOR, "theirs")
    with pytest.raises(Forbidden) as refused:
        await seen(authority, CAROL)
    assert refused.value.code == "permission-missing"
    await memberships.add_member(authority, OPERATOR, "theirs", "carol")
    await memberships.invite_member(authority, OPERATOR, "theirs", "paula")
    assert await seen(authority, CAROL) == {"theirs"}
    with pytest.raises(NotFound) as unknown:
        await seen(authority, CAROL, "nowhere")
    assert unknown.value.code == "organization-unknown"


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (Principal("user", "paula", frozenset({Permission.CA_VIEW})), Forbidden),
        (Principal("user", "carol", frozenset({Permission.USERS_MANAGE})), Forbidden),
        (Principal("client", "carol", frozenset({Permission.CA_VIEW})), Forbidden),
        (ANONYMOUS, Unauthenticated),
    ],
    ids=["invited only", "may not look at CAs", "not a user", "nobody"],
)
async def test_nobody_else_sees_anything(authority: Authority, who: Principal, error: type[Exception]) -> None:
    await organizations.create_organization(authority, OPERATOR, "hers")
    await memberships.add_member(authority, OPERATOR, "hers", "carol")
    await memberships.invite_member(authority, OPERATOR, "hers", "paula")
    with pytest.raises(error):
        await seen(authority, who)
    async with authority.database.read() as view:
        with pytest.raises(error):
            await trail.get_record(view, who, 1)


async def test_whoever_left_or_whose_organization_is_deleted_sees_no_more(authority: Authority) -> None:
    for name in ("left", "gone"):
        await organizations.create_organization(authority, OPERATOR, name)
        await memberships.add_member(authority, OPERATOR, name, "carol")
    await memberships.leave_organization(authority, CAROL, "left")
    assert await seen(authority, CAROL) == {"gone"}
    await organizations.delete_organization(authority, OPERATOR, "gone")
    with pytest.raises(Forbidden):
        await seen(authority, CAROL)


async def test_a_new_organization_does_not_inherit_the_trail_of_an_old_one_of_its_name(authority: Authority) -> None:
    with clock.frozen(clock.now()) as advance:
        await note(authority, "hers")
        advance(timedelta(seconds=2))
        await organizations.create_organization(authority, OPERATOR, "hers")
        await memberships.add_member(authority, OPERATOR, "hers", "carol")
    for who in (CAROL, AUDITOR):
        async with authority.database.read() as view:
            page = await trail.search_trail(view, who, ListQuery(sort="seq"), organization="hers")
        assert page.items[0].action == "organization.create"
