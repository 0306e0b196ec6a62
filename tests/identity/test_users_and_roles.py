from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.identity.conftest import OPERATOR, PASSWORD, MakeUser

from intaglio.audit.models import audit_record
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict, Unauthenticated
from intaglio.core.identifiers import RESERVED_WORDS
from intaglio.core.principal import ALL_PERMISSIONS, ANONYMOUS, Permission, Principal
from intaglio.db.engine import Database, Transaction
from intaglio.identity import grants, roles, users

Attempt = Callable[[Transaction, Principal], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _installed(installed: SecretStr) -> None:
    """Every test starts from an installation with its first administrator."""


async def create(database: Database, name: str, *of: str, by: Principal = OPERATOR) -> users.User:
    async with database.transaction() as tx:
        return (await users.create_user(tx, by, name, roles=of, password=PASSWORD))[0]


async def actions(database: Database) -> list[tuple[str, str, str]]:
    async with database.read() as view:
        rows = await view.all(select(audit_record).order_by(audit_record.c.seq))
    return [(row["action"], row["object"], row["outcome"]) for row in rows]


async def test_the_first_administrator_holds_every_permission(database: Database) -> None:
    async with database.read() as view:
        admin = await users.get_user(view, OPERATOR, "admin")
        assert await grants.permissions_of_roles(view, admin.roles) == ALL_PERMISSIONS
    assert admin.must_change_password


async def test_a_second_first_administrator_is_refused(database: Database) -> None:
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await users.create_first_administrator(tx, name="second")
    assert refused.value.code == "already-initialized"


@pytest.mark.parametrize("name", ["ab", "a" * 14, "bob smith", "böb", "bob.x", "", *sorted(RESERVED_WORDS)])
async def test_names_outside_the_grammar_and_reserved_words_are_refused(database: Database, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await create(database, name)
    assert refused.value.target == "name"


@pytest.mark.parametrize("name", ["abc", "a" * 13, "b_o-b1"])
async def test_names_within_the_grammar_are_accepted(database: Database, name: str) -> None:
    assert (await create(database, name)).name == name


async def test_names_are_stored_in_lower_case_and_unique_in_any_case(database: Database) -> None:
    assert (await create(database, "Bob")).name == "bob"
    with pytest.raises(StateConflict) as refused:
        await create(database, "BOB")
    assert refused.value.code == "already-exists"


@pytest.mark.parametrize(
    "password", ["Short-1-x-y", "password1234", "aaaaaaaaaaaaaaaaaaaa", "x" * 300, "administrator1", "bobbobbob-bob"]
)
async def test_weak_passwords_are_refused(database: Database, password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        async with database.transaction() as tx:
            await users.create_user(tx, OPERATOR, "bob", password=SecretStr(password))
    assert refused.value.code == "password-too-weak"


@pytest.mark.parametrize("email", ["bob", "bob@", "b ob@example.org", "<bob@example.org>", "b\0b@example.org"])
async def test_bad_addresses_are_refused(database: Database, email: str) -> None:
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await users.create_user(tx, OPERATOR, "bob", email=email, password=PASSWORD)


async def test_nobody_without_the_permission_manages_users(database: Database, make_user: MakeUser) -> None:
    alice = await make_user("alice", Permission.CA_VIEW)
    with pytest.raises(Forbidden) as refused:
        await create(database, "bob", by=alice)
    assert refused.value.code == "permission-missing"
    with pytest.raises(Unauthenticated):
        await create(database, "bob", by=ANONYMOUS)


async def test_nobody_grants_what_he_lacks(database: Database, make_user: MakeUser) -> None:
    helpdesk = await make_user("helpdesk", Permission.USERS_MANAGE, Permission.ROLES_MANAGE)
    await create(database, "bob")
    with pytest.raises(Forbidden) as refused:
        await create(database, "mallory", "administrator", by=helpdesk)
    assert refused.value.code == "grant-exceeds-own"
    with pytest.raises(Forbidden):
        async with database.transaction() as tx:
            await users.edit_user(tx, helpdesk, "helpdesk", roles=["administrator"])
    with pytest.raises(Forbidden):
        async with database.transaction() as tx:
            await roles.create_role(tx, helpdesk, "sneaky", [Permission.CA_CONFIGURE])
    with pytest.raises(Forbidden):
        async with database.transaction() as tx:
            await roles.edit_role(tx, helpdesk, "role of helpdesk", permissions=ALL_PERMISSIONS)


async def test_nobody_takes_away_what_he_lacks(database: Database, make_user: MakeUser) -> None:
    editor = await make_user("editor", Permission.ROLES_MANAGE, Permission.CA_VIEW)
    await make_user("paula", Permission.AUDIT_VIEW, Permission.CA_VIEW)
    attempts: list[Attempt] = [
        lambda tx, principal: roles.edit_role(tx, principal, "role of paula", permissions=[]),
        lambda tx, principal: roles.edit_role(tx, principal, "role of paula", permissions=[Permission.CA_VIEW]),
        lambda tx, principal: roles.delete_role(tx, principal, "role of paula"),
    ]
    for attempt in attempts:
        with pytest.raises(Forbidden) as refused:
            async with database.transaction() as tx:
                await attempt(tx, editor)
        assert refused.value.code == "withdrawal-exceeds-own"
        assert refused.value.extra["permissions"] == ["audit.view"]
    async with database.transaction() as tx:
        changed = await roles.edit_role(tx, editor, "role of paula", permissions=[Permission.AUDIT_VIEW])
    assert changed.permissions == {Permission.AUDIT_VIEW}


async def test_nobody_takes_a_role_from_a_user_that_grants_what_he_lacks(
    database: Database, make_user: MakeUser
) -> None:
    helpdesk = await make_user("helpdesk", Permission.USERS_MANAGE, Permission.CA_VIEW)
    await make_user("paula", Permission.AUDIT_VIEW)
    with pytest.raises(Forbidden) as refused:
        async with database.transaction() as tx:
            await users.edit_user(tx, helpdesk, "paula", roles=[])
    assert refused.value.code == "account-above-own"


ATTEMPTS: dict[str, Attempt] = {
    "reset": lambda tx, principal: users.reset_password(tx, principal, "admin"),
    "disable": lambda tx, principal: users.edit_user(tx, principal, "admin", disabled=True),
    "delete": lambda tx, principal: users.delete_user(tx, principal, "admin"),
    "strip": lambda tx, principal: users.edit_user(tx, principal, "admin", roles=["auditor"]),
}


@pytest.mark.parametrize("attempt", ["reset", "disable", "delete"])
async def test_an_account_above_ones_own_cannot_be_touched(
    database: Database, make_user: MakeUser, attempt: str
) -> None:
    helpdesk = await make_user("helpdesk", Permission.USERS_MANAGE)
    with pytest.raises(Forbidden) as refused:
        async with database.transaction() as tx:
            await ATTEMPTS[attempt](tx, helpdesk)
    assert refused.value.code == "account-above-own"


@pytest.mark.parametrize("attempt", ["disable", "delete", "strip"])
async def test_the_last_administrator_stays(database: Database, attempt: str) -> None:
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await ATTEMPTS[attempt](tx, OPERATOR)
    assert refused.value.code == "last-administrator"


async def test_an_administrator_can_go_when_another_stays(database: Database) -> None:
    await create(database, "second", "administrator")
    async with database.transaction() as tx:
        await users.delete_user(tx, OPERATOR, "admin")
    with pytest.raises(NotFound):
        async with database.read() as view:
            await users.get_user(view, OPERATOR, "admin")


async def test_a_role_of_the_last_holder_keeps_its_permission(database: Database, make_user: MakeUser) -> None:
    await make_user("keeper", Permission.USERS_MANAGE, Permission.ROLES_MANAGE)
    async with database.transaction() as tx:
        await users.delete_user(tx, OPERATOR, "admin")
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await roles.edit_role(tx, OPERATOR, "role of keeper", permissions=[Permission.USERS_MANAGE])
    assert refused.value.code == "last-administrator"


async def test_role_names_have_two_characters_and_are_unique_in_any_case(database: Database) -> None:
    async with database.transaction() as tx:
        created = await roles.create_role(tx, OPERATOR, "Reviewers", [Permission.CA_VIEW], description="Look only")
    assert created.permissions == {Permission.CA_VIEW}
    refused = {"x": InvalidInput, "": InvalidInput, "reviewers": StateConflict, "a\nb": InvalidInput}
    for name, expected in refused.items():
        with pytest.raises(expected):
            async with database.transaction() as tx:
                await roles.create_role(tx, OPERATOR, name, [])


async def test_built_in_roles_cannot_be_changed_or_deleted(database: Database) -> None:
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await roles.edit_role(tx, OPERATOR, "auditor", permissions=ALL_PERMISSIONS)
    assert refused.value.code == "role-built-in"
    with pytest.raises(StateConflict):
        async with database.transaction() as tx:
            await roles.delete_role(tx, OPERATOR, "administrator")


async def test_a_role_in_use_cannot_be_deleted(database: Database, make_user: MakeUser) -> None:
    await make_user("alice", Permission.CA_VIEW)
    with pytest.raises(StateConflict) as refused:
        async with database.transaction() as tx:
            await roles.delete_role(tx, OPERATOR, "role of alice")
    assert refused.value.extra == {"users": ["alice"]}
    async with database.transaction() as tx:
        await users.edit_user(tx, OPERATOR, "alice", roles=[])
        await roles.delete_role(tx, OPERATOR, "role of alice")
    async with database.read() as view:
        assert "role of alice" not in [role.name for role in await roles.list_roles(view, OPERATOR)]


async def test_an_unknown_role_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInput) as refused:
        await create(database, "bob", "no-such-role")
    assert refused.value.code == "role-unknown"


async def test_everybody_sees_himself_and_only_user_managers_see_others(
    database: Database, make_user: MakeUser
) -> None:
    alice = await make_user("alice")
    async with database.read() as view:
        assert (await users.get_user(view, alice, "ALICE")).name == "alice"
        with pytest.raises(Forbidden):
            await users.get_user(view, alice, "admin")
        with pytest.raises(Forbidden):
            await users.list_users(view, alice)
        assert [user.name for user in await users.list_users(view, OPERATOR)] == ["admin", "alice"]


async def test_every_change_is_audited_without_secrets(database: Database, make_user: MakeUser) -> None:
    await make_user("alice", Permission.CA_VIEW)
    async with database.transaction() as tx:
        await users.edit_user(tx, OPERATOR, "alice", email="alice@example.org", disabled=True)
        secret = await users.reset_password(tx, OPERATOR, "alice")
        await users.delete_user(tx, OPERATOR, "alice")
        await roles.delete_role(tx, OPERATOR, "role of alice")
    assert [entry for entry in await actions(database) if "alice" in entry[1]] == [
        ("role.create", "role of alice", "success"),
        ("user.create", "alice", "success"),
        ("user.edit", "alice", "success"),
        ("user.reset-password", "alice", "success"),
        ("user.delete", "alice", "success"),
        ("role.delete", "role of alice", "success"),
    ]
    async with database.read() as view:
        everything = str([dict(row) for row in await view.all(select(audit_record))])
    assert PASSWORD.get_secret_value() not in everything
    assert secret.get_secret_value() not in everything
