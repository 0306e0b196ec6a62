"""Organizations and who belongs to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from tests.support.authority import OPERATOR, root_wish, tenant

from intaglio.authority import memberships, organizations
from intaglio.authority.cas.create import create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.views import list_cas
from intaglio.authority.context import Authority
from intaglio.authority.models import organization_member
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import RESERVED_WORDS, new_id
from intaglio.core.principal import Permission, Principal
from intaglio.identity.models import user_account

CAROL, DAVE, ERIN = tenant("carol"), tenant("dave"), tenant("erin")


@pytest.fixture
async def registered(authority: Authority) -> None:
    """Accounts of carol, dave and erin, and one that is disabled."""
    async with authority.database.transaction() as tx:
        for name in ("carol", "dave", "erin", "gone"):
            values = {"id": new_id(), "name": name, "created_at": tx.now, "disabled": name == "gone"}
            await tx.execute(insert(user_account).values(**values))


async def _hers(authority: Authority, join_policy: str = "approval") -> None:
    await organizations.create_organization(authority, CAROL, "hers", join_policy=join_policy)


async def _names(authority: Authority, principal: Principal) -> list[str]:
    return [each.name for each in await organizations.list_organizations(authority, principal)]


async def _code(attempt: Any, kind: type[Exception] = StateConflict) -> str:
    with pytest.raises(kind) as refusal:
        await attempt
    code: str = refusal.value.code  # type: ignore[attr-defined]
    return code


async def test_the_creator_becomes_its_administrator_and_others_do_not_see_it(authority: Authority) -> None:
    await _hers(authority)
    members = await memberships.list_members(authority, CAROL, "hers")
    assert [(each.user, each.state) for each in members] == [("carol", "member")]
    assert await _names(authority, CAROL) == ["hers"]
    assert await _names(authority, DAVE) == []
    assert await _names(authority, OPERATOR) == ["hers"]
    with pytest.raises(NotFound) as hidden:
        await organizations.get_organization(authority, DAVE, "hers")
    with pytest.raises(NotFound) as unknown:
        await organizations.get_organization(authority, DAVE, "none")
    assert hidden.value.detail.replace("hers", "none") == unknown.value.detail


@pytest.mark.parametrize(
    "name", ["ab", "a" * 15, "Upper", "with space", "tilde~", "", "platform", *sorted(RESERVED_WORDS)]
)
async def test_names_outside_the_grammar_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await organizations.create_organization(authority, CAROL, name)
    assert refusal.value.target == "name"


@pytest.mark.parametrize("name", ["abc", "a" * 14, "a-b_1"])
async def test_names_at_the_limits_are_accepted(authority: Authority, name: str) -> None:
    assert (await organizations.create_organization(authority, CAROL, name)).name == name


async def test_a_name_is_taken_once(authority: Authority) -> None:
    await _hers(authority)
    assert await _code(organizations.create_organization(authority, DAVE, "hers")) == "organization-exists"


async def test_joining_needs_the_approval_of_a_member(authority: Authority, registered: None) -> None:
    await _hers(authority)
    assert (await memberships.join_organization(authority, DAVE, "hers")).state == "requested"
    assert await _names(authority, DAVE) == []
    assert await _code(memberships.join_organization(authority, DAVE, "hers")) == "already-member"
    with pytest.raises(NotFound):
        await memberships.approve_request(authority, DAVE, "hers", "dave")
    await memberships.approve_request(authority, CAROL, "hers", "dave")
    assert await _names(authority, DAVE) == ["hers"]


async def test_a_rejected_request_is_gone(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await memberships.join_organization(authority, DAVE, "hers")
    await memberships.reject_request(authority, CAROL, "hers", "dave")
    assert await _code(memberships.approve_request(authority, CAROL, "hers", "dave")) == "request-unknown"
    assert await _code(memberships.reject_request(authority, CAROL, "hers", "dave")) == "request-unknown"


async def test_an_open_organization_is_joined_at_once(authority: Authority) -> None:
    await _hers(authority, "open")
    assert (await memberships.join_organization(authority, DAVE, "hers")).state == "member"
    assert await _code(memberships.join_organization(authority, DAVE, "hers")) == "already-member"


async def test_without_an_invitation_an_organization_by_invitation_looks_unknown(
    authority: Authority, registered: None
) -> None:
    await _hers(authority, "invite")
    assert await _code(memberships.join_organization(authority, DAVE, "hers"), NotFound) == "organization-unknown"
    await memberships.invite_member(authority, CAROL, "hers", "dave")
    assert await _names(authority, DAVE) == []
    assert (await memberships.join_organization(authority, DAVE, "hers")).state == "member"


async def test_inviting_somebody_who_asked_lets_him_in(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await memberships.join_organization(authority, DAVE, "hers")
    assert (await memberships.invite_member(authority, CAROL, "hers", "dave")).state == "member"


async def test_an_unknown_organization_cannot_be_joined(authority: Authority) -> None:
    assert await _code(memberships.join_organization(authority, DAVE, "none"), NotFound) == "organization-unknown"


async def test_only_registered_and_enabled_users_are_added(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await memberships.add_member(authority, CAROL, "hers", "erin")
    assert await _names(authority, ERIN) == ["hers"]
    for name in ("nobody", "gone"):
        assert await _code(memberships.add_member(authority, CAROL, "hers", name), NotFound) == "user-unknown"
    assert await _code(memberships.add_member(authority, CAROL, "hers", "erin")) == "already-member"


async def test_the_last_administrator_stays_while_there_are_cas(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await create_root(authority, CAROL, "hers", root_wish())
    assert await _code(memberships.leave_organization(authority, CAROL, "hers"), Refused) == "last-administrator"
    assert await _code(memberships.remove_member(authority, CAROL, "hers", "carol"), Refused) == "last-administrator"
    await memberships.add_member(authority, CAROL, "hers", "dave")
    await memberships.leave_organization(authority, CAROL, "hers")
    assert await _names(authority, CAROL) == []
    assert [ca.id for ca in await list_cas(authority, DAVE)] == ["hers~root"]


async def test_a_removed_member_sees_nothing_at_once(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await memberships.add_member(authority, CAROL, "hers", "dave")
    await memberships.remove_member(authority, DAVE, "hers", "carol")
    assert await _names(authority, CAROL) == []
    assert await _code(memberships.remove_member(authority, DAVE, "hers", "carol"), NotFound) == "member-unknown"


async def test_a_new_account_does_not_inherit_the_membership_of_an_old_one_of_that_name(authority: Authority) -> None:
    with clock.frozen(datetime(2030, 1, 1, tzinfo=UTC)) as advance:
        await _hers(authority)
        advance(timedelta(days=1))
        async with authority.database.transaction() as tx:
            await tx.execute(insert(user_account).values(id=new_id(), name="carol", created_at=tx.now))
        assert await _names(authority, CAROL) == []
        with pytest.raises(NotFound):
            await organizations.get_organization(authority, CAROL, "hers")


async def test_joining_is_for_user_accounts(authority: Authority) -> None:
    await _hers(authority)
    assert await _code(memberships.join_organization(authority, OPERATOR, "hers"), Forbidden) == "user-account-required"


async def test_description_and_policy_are_edited(authority: Authority) -> None:
    await _hers(authority)
    await organizations.edit_organization(authority, CAROL, "hers", description="Her lab", join_policy="open")
    found = await organizations.get_organization(authority, CAROL, "hers")
    assert (found.description, found.join_policy) == ("Her lab", "open")
    for changes in ({"join_policy": "anybody"}, {"description": "x" * 501}):
        with pytest.raises(InvalidInput):
            await organizations.edit_organization(authority, CAROL, "hers", **changes)


async def test_an_organization_with_cas_is_not_deleted(authority: Authority) -> None:
    await _hers(authority)
    await create_root(authority, CAROL, "hers", root_wish())
    with pytest.raises(StateConflict) as refusal:
        await organizations.delete_organization(authority, CAROL, "hers")
    assert (refusal.value.code, refusal.value.extra["cas"]) == ("organization-not-empty", ["hers~root"])
    await delete_ca(authority, CAROL, "hers~root")
    await organizations.delete_organization(authority, CAROL, "hers")
    assert await _names(authority, OPERATOR) == []


async def test_a_deleted_name_is_free_again_when_its_certificates_have_expired(authority: Authority) -> None:
    with clock.frozen(datetime(2030, 1, 1, tzinfo=UTC)) as advance:
        await _hers(authority)
        await create_root(authority, CAROL, "hers", root_wish())  # alice's credential lives for a year
        await delete_ca(authority, CAROL, "hers~root")
        await organizations.delete_organization(authority, CAROL, "hers")
        advance(timedelta(days=364))
        with pytest.raises(StateConflict) as refusal:
            await organizations.create_organization(authority, DAVE, "hers")
        assert refusal.value.extra["reserved_until"] == "2031-01-01T00:00:00Z"
        advance(timedelta(days=2))
        await organizations.create_organization(authority, DAVE, "hers")
    assert await _names(authority, DAVE) == ["hers"]
    assert await _names(authority, CAROL) == []


async def test_who_only_looks_changes_nothing(authority: Authority) -> None:
    viewer = Principal("user", "erin", frozenset({Permission.CA_VIEW}))
    with pytest.raises(Forbidden):
        await organizations.create_organization(authority, viewer, "mine")


async def test_an_invitation_is_not_for_who_gets_the_name_later(authority: Authority, registered: None) -> None:
    await _hers(authority, "invite")
    await memberships.invite_member(authority, CAROL, "hers", "dave")
    await _another_dave(authority)
    with pytest.raises(NotFound):
        await memberships.join_organization(authority, DAVE, "hers")
    assert (await memberships.invite_member(authority, CAROL, "hers", "dave")).state == "invited"
    assert (await memberships.join_organization(authority, DAVE, "hers")).state == "member"


async def test_a_request_is_not_approved_for_who_gets_the_name_later(authority: Authority, registered: None) -> None:
    await _hers(authority)
    await memberships.join_organization(authority, DAVE, "hers")
    await _another_dave(authority)
    with pytest.raises(StateConflict):
        await memberships.approve_request(authority, CAROL, "hers", "dave")
    assert (await memberships.invite_member(authority, CAROL, "hers", "dave")).state == "invited"


async def _another_dave(authority: Authority) -> None:
    """The account is deleted, and made anew for somebody else."""
    async with authority.database.transaction() as tx:
        await tx.execute(delete(user_account).where(user_account.c.name == "dave"))
        earlier = tx.now - timedelta(days=1)
        his = organization_member.c.user_name == "dave"
        await tx.execute(update(organization_member).where(his).values(since=earlier))
        await tx.execute(insert(user_account).values(id=new_id(), name="dave", created_at=tx.now))
