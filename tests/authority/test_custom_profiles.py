"""Custom profiles: drafts, trial, approval by a second person, and CAs that pick them up."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from tests.support.authority import OPERATOR, make_hierarchy, tenant

from intaglio.authority import custom_profiles
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.authority.context import Authority
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.identity.models import role, user_account

CAROL, DAVE = tenant("carol"), tenant("dave")


async def _users(authority: Authority, *names: str) -> None:
    async with authority.database.transaction() as tx:
        permissions = [Permission.PROFILES_MANAGE.value]
        await tx.execute(insert(role).values(name="profile-maker", permissions=permissions))
        for name in names:
            await tx.execute(
                insert(user_account).values(id=new_id(), name=name, roles=["profile-maker"], created_at=tx.now)
            )


async def _clone(authority: Authority, principal: Principal = CAROL) -> custom_profiles.StoredProfile:
    changes = {"validity": {"default": "P30D", "maximum": "P90D"}}
    return await custom_profiles.clone_profile(authority, principal, "privatessl-tls-server", "short-tls", changes)


async def test_a_clone_is_a_draft_that_no_ca_can_offer_yet(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    draft = await _clone(authority)
    assert (draft.state, draft.profile.version, draft.profile.based_on) == ("draft", 1, "privatessl-tls-server 1")
    with pytest.raises(InvalidInput, match="short-tls"):
        await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["short-tls"]))


async def test_an_active_profile_is_offered_and_a_new_version_is_picked_up(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    await _clone(authority)
    await custom_profiles.activate_profile(authority, CAROL, "short_tls")
    edited = await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["short_tls"]))
    assert edited.ca.profiles == ("short-tls",)
    await custom_profiles.revise_profile(authority, CAROL, "short-tls", {"validity": {"default": "P7D"}})
    ca = (await authority.snapshot()).ca("demo~issuing")
    assert str(ca.profile("short-tls").validity.default) == "P30D"
    await custom_profiles.activate_profile(authority, CAROL, "short-tls")
    ca = (await authority.snapshot()).ca("demo~issuing")
    assert str(ca.profile("short-tls").validity.default) == "P7D"
    history = await custom_profiles.get_profile(authority, OPERATOR, "short-tls")
    assert [(each.profile.version, each.state) for each in history.versions] == [(2, "active"), (1, "retired")]
    assert history.offered_by == ("demo~issuing",)


async def test_the_author_cannot_approve_while_somebody_else_can(authority: Authority) -> None:
    await _users(authority, "carol", "dave")
    await _clone(authority)
    with pytest.raises(Forbidden) as refusal:
        await custom_profiles.activate_profile(authority, CAROL, "short-tls")
    assert refusal.value.code == "approval-by-author"
    active = await custom_profiles.activate_profile(authority, DAVE, "short-tls")
    assert (active.state, active.created_by, active.approved_by) == ("active", "carol", "dave")


async def test_the_only_holder_of_the_permission_approves_his_own_profile(authority: Authority) -> None:
    await _users(authority, "carol")
    await _clone(authority)
    assert (await custom_profiles.activate_profile(authority, CAROL, "short-tls")).state == "active"


async def test_a_draft_that_was_changed_after_it_was_looked_at_is_not_activated(authority: Authority) -> None:
    await _clone(authority)
    await custom_profiles.revise_profile(authority, CAROL, "short-tls", {"title": "Short-lived"})
    with pytest.raises(StateConflict) as refusal:
        await custom_profiles.activate_profile(authority, DAVE, "short-tls", version=1)
    assert refusal.value.code == "profile-changed"


async def test_a_profile_that_fails_its_trial_stays_a_draft(authority: Authority) -> None:
    changes = {"key_usage": ["keyEncipherment"], "key_algorithms": ["ed25519"]}
    await custom_profiles.clone_profile(authority, CAROL, "privatessl-tls-server", "broken", changes)
    with pytest.raises(Refused) as refusal:
        await custom_profiles.activate_profile(authority, DAVE, "broken")
    assert refusal.value.code == "profile-lint-failed"
    assert refusal.value.extra["differences"] or refusal.value.extra["findings"]
    assert (await custom_profiles.get_profile(authority, DAVE, "broken")).current.state == "draft"


async def test_a_revision_that_changes_nothing_is_no_version(authority: Authority) -> None:
    draft = await _clone(authority)
    same = await custom_profiles.revise_profile(authority, CAROL, "short-tls", {"title": draft.profile.title})
    assert same.profile.version == 1
    again = await custom_profiles.declare_profile(authority, CAROL, draft.declaration)
    assert again.profile.version == 1


async def test_a_retired_profile_comes_back_as_a_new_version(authority: Authority) -> None:
    draft = await _clone(authority)
    await custom_profiles.retire_profile(authority, CAROL, "short-tls")
    assert "short-tls" not in [p.profile.id for p in await custom_profiles.list_profiles(authority, CAROL)]
    back = await custom_profiles.declare_profile(authority, CAROL, draft.declaration)
    assert (back.profile.version, back.state) == (2, "draft")


async def test_a_profile_in_use_is_retired_only_by_force_and_then_issues_nothing(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    await _clone(authority)
    await custom_profiles.activate_profile(authority, CAROL, "short-tls")
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["short-tls", "privatessl-tls-client"]))
    with pytest.raises(StateConflict) as refusal:
        await custom_profiles.retire_profile(authority, OPERATOR, "short-tls")
    assert refusal.value.extra["cas"] == ["demo~issuing"]
    await custom_profiles.retire_profile(authority, CAROL, "short-tls", force=True)
    with pytest.raises(NotFound):
        (await authority.snapshot()).ca("demo~issuing").profile("short-tls")


async def test_nobody_learns_from_a_profile_which_cas_other_organizations_have(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    await _clone(authority)
    await custom_profiles.activate_profile(authority, CAROL, "short-tls")
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["short-tls"]))
    assert (await custom_profiles.get_profile(authority, CAROL, "short-tls")).offered_by == ()
    with pytest.raises(StateConflict) as refusal:
        await custom_profiles.retire_profile(authority, CAROL, "short-tls")
    assert (refusal.value.code, refusal.value.extra["cas"]) == ("profile-in-use", [])
    assert "demo" not in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "new_id", "changes", "code"),
    [
        ("privatessl-tls-server", "basic-ca-subord-path-1", {}, "profile-exists"),
        ("privatessl-tls-server", "client_credential", {}, "profile-exists"),
        ("privatessl-tls-server", "platform-listener", {}, "profile-exists"),
        ("basic-ca-root", "my-root", {}, "profile-immutable"),
        ("privatessl-tls-server", "privatessl-tls-client", {}, "profile-exists"),
        ("privatessl-tls-server", "x", {}, "invalid-input"),
        ("privatessl-tls-server", "mine", {"key_usage": ["fly"]}, "profile-invalid"),
        ("no-such-profile", "mine", {}, "profile-unknown"),
    ],
)
async def test_what_cannot_be_cloned_is_refused(
    authority: Authority, source: str, new_id: str, changes: dict[str, object], code: str
) -> None:
    with pytest.raises(IntaglioError) as refusal:
        await custom_profiles.clone_profile(authority, CAROL, source, new_id, changes)
    assert refusal.value.code == code


async def test_only_who_manages_profiles_changes_them(authority: Authority) -> None:
    viewer = Principal("user", "erin", frozenset({Permission.CA_VIEW}))
    with pytest.raises(Forbidden):
        await _clone(authority, viewer)
    assert {each.state for each in await custom_profiles.list_profiles(authority, viewer)} == {"built-in"}


async def test_a_built_in_profile_cannot_be_revised_or_retired(authority: Authority) -> None:
    for attempt in (
        custom_profiles.revise_profile(authority, CAROL, "privatessl-tls-server", {"title": "x"}),
        custom_profiles.retire_profile(authority, CAROL, "privatessl-tls-server"),
    ):
        with pytest.raises(Forbidden) as refusal:
            await attempt
        assert refusal.value.code == "profile-immutable"
