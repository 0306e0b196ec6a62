from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.identity.conftest import OPERATOR, PASSWORD, Advance, MakeUser

from intaglio.audit.models import audit_record
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict, Unauthenticated
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Database
from intaglio.identity import api_tokens, login, sessions
from intaglio.identity.schemas import NewToken, RevokedToken, Token

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def make(database: Database, by: Principal, name: str = "script", **wanted: Any) -> NewToken:
    async with database.transaction() as tx:
        return await api_tokens.create_token(tx, by, name, **wanted)


async def using(database: Database, token: NewToken) -> Principal:
    """Whoever comes with this token."""
    return await sessions.authenticate(database, token.secret.get_secret_value())


async def revoke(database: Database, by: Principal, token: NewToken) -> RevokedToken:
    async with database.transaction() as tx:
        return await api_tokens.revoke_token(tx, by, token.token.id)


async def rotate(database: Database, by: Principal, token: NewToken, **wanted: Any) -> NewToken:
    async with database.transaction() as tx:
        return await api_tokens.rotate_token(tx, by, token.token.id, **wanted)


async def good(database: Database, *tokens: NewToken) -> list[bool]:
    found = []
    for token in tokens:
        try:
            await using(database, token)
        except Unauthenticated:
            found.append(False)
        else:
            found.append(True)
    return found


async def listed(database: Database, by: Principal) -> list[Token]:
    async with database.read() as view:
        return await api_tokens.list_tokens(view, by)


async def records(database: Database, action: str) -> list[dict[str, Any]]:
    async with database.read() as view:
        query = select(audit_record).where(audit_record.c.action == action).order_by(audit_record.c.seq)
        return [dict(row) for row in await view.all(query)]


async def test_what_was_made_with_a_stolen_token_ends_with_it(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob", Permission.CA_VIEW)
    stolen, other = await make(database, bob, lifetime=DAY), await make(database, bob)
    child = await make(database, await using(database, stolen), lifetime=365 * DAY)
    grandchild = await make(database, await using(database, child))
    sibling = await make(database, await using(database, stolen))

    revoked = await revoke(database, bob, stolen)

    assert revoked.descendants == 3
    assert await good(database, stolen, child, grandchild, sibling, other) == [False, False, False, False, True]
    (record,) = await records(database, "token.revoke")
    assert (record["object"], record["detail"]["descendants"]) == (str(stolen.token.id), 3)


async def test_revoking_a_token_leaves_those_it_descends_from(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    parent = await make(database, bob)
    child = await make(database, await using(database, parent))
    assert (await revoke(database, bob, child)).descendants == 0
    assert await good(database, parent, child) == [True, False]
    assert (await revoke(database, bob, parent)).descendants == 0, "what had been revoked is not counted again"


async def test_revoking_twice_changes_and_records_nothing(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    parent = await make(database, bob)
    await make(database, await using(database, parent))
    first, second = await revoke(database, bob, parent), await revoke(database, bob, parent)
    assert (first.descendants, second.descendants) == (1, 0)
    assert first.revoked_at == second.revoked_at
    assert len(await records(database, "token.revoke")) == 1


async def test_the_list_shows_with_which_token_another_was_made(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    parent = await make(database, bob, "parent")
    await make(database, await using(database, parent), "child")
    assert {token.name: token.parent_id for token in await listed(database, bob)} == {
        "parent": None,
        "child": parent.token.id,
    }


async def test_what_a_login_makes_starts_a_family(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    session = (await login.login(database, "bob", PASSWORD)).secret.get_secret_value()
    made = await make(database, await sessions.authenticate(database, session))
    await sessions.close_session(database, session)
    assert made.token.parent_id is None
    assert await good(database, made) == [True]


async def test_a_token_that_ends_by_itself_ends_no_other(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob")
    parent = await make(database, bob, lifetime=HOUR)
    child = await make(database, await using(database, parent))
    advance(2 * HOUR)
    assert await good(database, parent, child) == [False, True]
    assert (await revoke(database, bob, parent)).descendants == 1
    assert await good(database, child) == [False]


async def test_nothing_is_made_with_a_token_that_is_being_revoked(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    stolen = await make(database, bob)
    thief = await using(database, stolen)
    outcomes = await asyncio.gather(
        *(make(database, thief, f"loot {number}") for number in range(3)),
        revoke(database, bob, stolen),
        *(make(database, thief, f"more {number}") for number in range(3)),
        return_exceptions=True,
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, NewToken)]
    assert not any(await good(database, *made))
    assert all(isinstance(each, NewToken | RevokedToken | Unauthenticated) for each in outcomes)
    with pytest.raises(Unauthenticated):
        await make(database, thief)
    with pytest.raises(Unauthenticated):
        await rotate(database, thief, stolen)


async def test_a_family_ends_with_its_first_token_even_when_that_ended_long_ago(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob")
    first = await make(database, bob, "first", lifetime=DAY)
    middle = await make(database, await using(database, first), "middle", lifetime=DAY)
    late = await make(database, await using(database, middle), "late", lifetime=DAY)
    last = await make(database, await using(database, late), "last", lifetime=365 * DAY)
    lonely = await make(database, bob, "lonely", lifetime=DAY)
    advance(40 * DAY)
    for _ in range(4):
        await login.login(database, "bob", PASSWORD)

    parents = {token.name: token.parent_id for token in await listed(database, bob)}
    assert parents == {"first": None, "last": first.token.id}
    with pytest.raises(NotFound):
        await revoke(database, bob, lonely)
    assert (await revoke(database, bob, first)).descendants == 1
    assert await good(database, last) == [False]


async def test_families_of_users_who_are_deleted_go_with_them(database: Database, make_user: MakeUser) -> None:
    from intaglio.identity import users

    bob = await make_user("bob")
    parent = await make(database, bob)
    child = await make(database, await using(database, parent))
    async with database.transaction() as tx:
        await users.delete_user(tx, OPERATOR, "bob")
    assert await good(database, parent, child) == [False, False]


# ---- rotation --------------------------------------------------------------------------------------------------------


async def test_a_token_replaces_itself_and_is_good_for_an_hour_more(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob", Permission.CA_VIEW, Permission.CA_OPERATE)
    old = await make(database, bob, "pipeline", lifetime=7 * DAY, permissions=[Permission.CA_VIEW])
    advance(6 * DAY)
    new = await rotate(database, await using(database, old), old)

    assert (new.token.name, new.token.permissions) == ("pipeline", {Permission.CA_VIEW})
    assert (new.token.parent_id, new.token.expires_at - new.token.created_at) == (old.token.id, 7 * DAY)
    assert await good(database, old, new) == [True, True]
    advance(HOUR)
    assert await good(database, old, new) == [False, True]
    (record,) = await records(database, "token.rotate")
    assert (record["object"], record["detail"]["successor"]) == (str(old.token.id), str(new.token.id))


async def test_a_rotated_token_never_lives_longer_than_before(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob")
    old = await make(database, bob, lifetime=DAY)
    advance(DAY - timedelta(minutes=10))
    await rotate(database, await using(database, old), old, overlap=7 * DAY)
    (token,) = [each for each in await listed(database, bob) if each.id == old.token.id]
    assert token.expires_at == old.token.expires_at


async def test_a_rotation_whose_answer_was_lost_can_be_repeated_at_full_length(
    database: Database, make_user: MakeUser
) -> None:
    bob = await make_user("bob")
    old = await make(database, bob, lifetime=30 * DAY)
    await rotate(database, await using(database, old), old)
    again = await rotate(database, await using(database, old), old)
    assert again.token.expires_at - again.token.created_at == 30 * DAY


async def test_revoking_a_token_ends_what_it_was_rotated_into(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    first = token = await make(database, bob)
    for _ in range(3):
        token = await rotate(database, await using(database, token), token)
    assert (await revoke(database, bob, first)).descendants == 3
    assert await good(database, token) == [False]


async def test_only_itself_its_user_after_a_login_and_the_operator_rotate_a_token(
    database: Database, make_user: MakeUser
) -> None:
    bob = await make_user("bob", Permission.CA_VIEW, Permission.USERS_MANAGE)
    boss = await make_user("boss", *Permission)
    eve = await make_user("eve")
    wide, narrow = await make(database, bob), await make(database, bob, permissions=[Permission.CA_VIEW])
    for other in (await using(database, narrow), boss):
        with pytest.raises(Forbidden) as refused:
            await rotate(database, other, wide)
        assert refused.value.code == "token-for-another"
    with pytest.raises(NotFound):
        await rotate(database, eve, wide)
    for allowed in (bob, OPERATOR):
        assert (await rotate(database, allowed, wide)).token.parent_id == wide.token.id


async def test_tokens_that_ended_and_those_of_logins_are_not_rotated(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob")
    revoked, expired = await make(database, bob), await make(database, bob, lifetime=HOUR)
    await revoke(database, bob, revoked)
    advance(HOUR)
    for ended in (revoked, expired):
        with pytest.raises(StateConflict) as refused:
            await rotate(database, bob, ended)
        assert refused.value.code == "token-ended"
    await login.login(database, "bob", PASSWORD)
    async with database.read() as view:
        (session,) = [t for t in await api_tokens.list_tokens(view, bob, sessions=True) if t.kind == "session"]
    with pytest.raises(NotFound):
        await rotate(database, bob, NewToken(token=session, secret=expired.secret))


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
async def test_an_overlap_lasts_at_most_a_week(
    database: Database, make_user: MakeUser, overlap: timedelta
) -> None:
    bob = await make_user("bob")
    with pytest.raises(InvalidInput) as refused:
        await rotate(database, bob, await make(database, bob), overlap=overlap)
    assert refused.value.code == "overlap-invalid"


async def test_a_token_knows_itself_and_a_login_has_none(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    made = await make(database, bob)
    assert (await using(database, made)).token_id == made.token.id
    session = (await login.login(database, "bob", PASSWORD)).secret.get_secret_value()
    assert (await sessions.authenticate(database, session)).token_id is None
    assert replace(bob, token_id=made.token.id) == bob, "who somebody is does not depend on how he came"
