from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select
from tests.identity.conftest import OPERATOR, PASSWORD, Advance, MakeUser

from intaglio.audit.models import audit_record
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, RateLimited, Unauthenticated
from intaglio.core.identifiers import new_id
from intaglio.core.principal import ALL_PERMISSIONS, Permission, Principal
from intaglio.db.engine import Database
from intaglio.identity import api_tokens, login, passwords, roles, sessions, tokens, users
from intaglio.identity.models import login_attempt
from intaglio.identity.schemas import Login

WRONG = SecretStr("certainly-not-the-password")
ANOTHER = SecretStr("teal-Meridian-19-gravel")


async def log_in(database: Database, name: str, password: SecretStr = PASSWORD) -> Login:
    return await login.login(database, name, password, source="192.0.2.7")


async def bearer(database: Database, name: str) -> str:
    return (await log_in(database, name)).secret.get_secret_value()


async def test_the_first_login_can_only_set_a_password(database: Database, installed: SecretStr) -> None:
    first = await log_in(database, "admin", installed)
    assert first.password_change_required
    token = first.secret.get_secret_value()
    with pytest.raises(Forbidden) as refused:
        await sessions.authenticate(database, token)
    assert refused.value.code == "password-change-required"

    admin = await sessions.authenticate(database, token, for_password_change=True)
    second = await login.change_password(database, admin, PASSWORD)
    assert not second.password_change_required
    assert (
        await sessions.authenticate(database, second.secret.get_secret_value())
    ).permissions == ALL_PERMISSIONS

    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token, for_password_change=True)
    with pytest.raises(Unauthenticated):
        await log_in(database, "admin", installed)


async def test_a_one_time_secret_expires(database: Database, installed: SecretStr, advance: Advance) -> None:
    advance(timedelta(days=7))
    with pytest.raises(Unauthenticated):
        await log_in(database, "admin", installed)


async def test_login_ignores_the_case_of_the_name(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    assert (await log_in(database, " BOB ")).user.name == "bob"


async def test_unknown_names_and_wrong_passwords_look_the_same(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    answers = []
    for name in ("bob", "nobody"):
        outcomes = []
        for _ in range(login.FREE_ATTEMPTS + 1):
            with pytest.raises((Unauthenticated, RateLimited)) as refused:
                await log_in(database, name, WRONG)
            outcomes.append((str(refused.value), refused.value.code, refused.value.retry_after))
        answers.append(outcomes)
    assert answers[0] == answers[1]
    assert answers[0][-1][1] == "login-locked"


async def test_unknown_names_are_locked_even_when_many_were_tried(
    database: Database, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_user("bob")
    monkeypatch.setattr(login, "_MOST_NAMES", 3)
    for name in ("bob", "mallory", "trudy", "eve"):
        with pytest.raises(Unauthenticated):
            await log_in(database, name, WRONG)
    for name in ("nobody", "bob"):
        with contextlib.suppress(RateLimited):
            for _ in range(login.FREE_ATTEMPTS):
                with contextlib.suppress(Unauthenticated):
                    await log_in(database, name, WRONG)
        with pytest.raises(RateLimited):
            await log_in(database, name, WRONG)
    async with database.read() as view:
        names = {row["name"] for row in await view.all(select(login_attempt.c.name))}
    assert {"bob", "nobody"} <= names
    assert len(names) == 3


async def test_an_unknown_name_costs_a_password_computation(
    database: Database, installed: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str | None] = []
    verify = passwords._verify
    monkeypatch.setattr(passwords, "_verify", lambda stored, value: computed.append(stored) or verify(stored, value))
    with pytest.raises(Unauthenticated):
        await log_in(database, "nobody", WRONG)
    assert computed == [None]


async def test_failures_lock_a_name_for_longer_and_longer(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    await make_user("bob")
    for _ in range(login.FREE_ATTEMPTS):
        with pytest.raises(Unauthenticated):
            await log_in(database, "bob", WRONG)
    waits = []
    for _ in range(3):
        with pytest.raises(RateLimited) as locked:
            await log_in(database, "bob", PASSWORD)
        waits.append(locked.value.retry_after)
        advance(timedelta(seconds=locked.value.retry_after or 0))
        with pytest.raises(Unauthenticated):
            await log_in(database, "bob", WRONG)
    assert waits == [30, 60, 120]
    advance(timedelta(minutes=15))
    assert (await log_in(database, "bob")).user.name == "bob"


async def test_a_success_forgets_earlier_failures(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    for _ in range(3):
        for _ in range(login.FREE_ATTEMPTS - 1):
            with pytest.raises(Unauthenticated):
                await log_in(database, "bob", WRONG)
        await log_in(database, "bob")


async def test_parallel_guesses_are_counted(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    results = await asyncio.gather(*(log_in(database, "bob", WRONG) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(result, Unauthenticated) for result in results) == login.FREE_ATTEMPTS
    assert sum(isinstance(result, RateLimited) for result in results) == 12 - login.FREE_ATTEMPTS


async def test_logins_and_failures_at_once_do_not_disturb_each_other(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    attempts = (log_in(database, "bob", PASSWORD if number % 2 else WRONG) for number in range(10))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(result) for result in results} <= {Login, Unauthenticated, RateLimited}
    assert any(isinstance(result, Login) for result in results)


async def test_old_failures_are_forgotten(database: Database, make_user: MakeUser, advance: Advance) -> None:
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await log_in(database, f"nobody{number}", WRONG)
    advance(timedelta(hours=2))
    with pytest.raises(Unauthenticated):
        await log_in(database, "someone", WRONG)
    async with database.read() as view:
        assert [row["name"] for row in await view.all(select(login_attempt.c.name))] == ["someone"]


@pytest.mark.parametrize("name", ["", "\0", "x" * 5000, "bob'; drop table role; --", "ADMIN\n"])
async def test_odd_names_are_refused_like_any_other(database: Database, installed: SecretStr, name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await log_in(database, name, WRONG)
    assert refused.value.code == "login-failed"


async def test_a_disabled_user_is_out_at_once(database: Database, make_user: MakeUser) -> None:
    await make_user("bob", Permission.CA_VIEW)
    token = await bearer(database, "bob")
    async with database.transaction() as tx:
        await users.edit_user(tx, OPERATOR, "bob", disabled=True)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)
    with pytest.raises(Unauthenticated):
        await log_in(database, "bob")


async def test_a_deleted_user_is_out_at_once(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    token = await bearer(database, "bob")
    async with database.transaction() as tx:
        await users.delete_user(tx, OPERATOR, "bob")
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)


async def test_changed_roles_take_effect_in_open_sessions(database: Database, make_user: MakeUser) -> None:
    await make_user("bob", Permission.CA_VIEW)
    token = await bearer(database, "bob")
    assert (await sessions.authenticate(database, token)).permissions == {Permission.CA_VIEW}
    async with database.transaction() as tx:
        await roles.edit_role(tx, OPERATOR, "role of bob", permissions=[Permission.CA_OPERATE])
    assert (await sessions.authenticate(database, token)).permissions == {Permission.CA_OPERATE}
    async with database.transaction() as tx:
        await users.edit_user(tx, OPERATOR, "bob", roles=[])
    assert (await sessions.authenticate(database, token)).permissions == frozenset()


async def test_a_reset_password_ends_sessions_and_blocks_tokens(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    token = await bearer(database, "bob")
    async with database.transaction() as tx:
        api = await api_tokens.create_token(tx, bob, "script")
        secret = await users.reset_password(tx, OPERATOR, "bob")
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)
    with pytest.raises(Forbidden) as refused:
        await sessions.authenticate(database, api.secret.get_secret_value())
    assert refused.value.code == "password-change-required"
    with pytest.raises(Unauthenticated):
        await log_in(database, "bob", PASSWORD)
    assert (await log_in(database, "bob", secret)).password_change_required


async def test_everybody_can_be_made_to_change_his_password(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    boss = await make_user("boss", Permission.USERS_MANAGE)
    async with database.transaction() as tx:
        assert await users.require_password_change_of_all(tx, boss) == 2
    assert (await log_in(database, "bob")).password_change_required
    assert not (await log_in(database, "boss")).password_change_required


async def test_changing_a_password_needs_the_current_one(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    with pytest.raises(InvalidInput):
        await login.change_password(database, bob, ANOTHER)
    with pytest.raises(Forbidden):
        await login.change_password(database, bob, ANOTHER, current=WRONG)
    with pytest.raises(InvalidInput) as refused:
        await login.change_password(database, bob, PASSWORD, current=PASSWORD)
    assert refused.value.code == "password-unchanged"
    old = await bearer(database, "bob")
    await login.change_password(database, bob, ANOTHER, current=PASSWORD)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, old)
    assert (await log_in(database, "bob", ANOTHER)).user.name == "bob"


async def test_a_stolen_token_does_not_set_a_password(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob")
    async with database.transaction() as tx:
        stolen = await api_tokens.create_token(tx, bob, "script")
        await users.reset_password(tx, OPERATOR, "bob")
    with pytest.raises(Forbidden) as refused:
        await sessions.authenticate(database, stolen.secret.get_secret_value(), for_password_change=True)
    assert refused.value.code == "password-change-required"


async def test_a_session_from_before_does_not_set_a_password_that_must_be_changed(
    database: Database, make_user: MakeUser
) -> None:
    await make_user("bob")
    before = await bearer(database, "bob")
    async with database.transaction() as tx:
        await users.require_password_change_of_all(tx, OPERATOR)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, before, for_password_change=True)


async def test_a_narrowed_token_cannot_reset_its_users_password(database: Database, make_user: MakeUser) -> None:
    boss = await make_user("boss", Permission.USERS_MANAGE, Permission.PLATFORM_MANAGE)
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, boss, "narrow", permissions=[Permission.USERS_MANAGE])
    narrow = await sessions.authenticate(database, made.secret.get_secret_value())
    with pytest.raises(Forbidden) as refused:
        async with database.transaction() as tx:
            await users.reset_password(tx, narrow, "boss")
    assert refused.value.code == "account-above-own"


async def test_a_session_ends_after_half_an_hour_without_use(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    await make_user("bob")
    token = await bearer(database, "bob")
    for _ in range(4):
        advance(timedelta(minutes=29))
        await sessions.authenticate(database, token)
    advance(timedelta(minutes=30))
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)


async def test_a_session_ends_after_twelve_hours_however_it_is_used(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    await make_user("bob")
    token = await bearer(database, "bob")
    for _ in range(28):
        advance(timedelta(minutes=25))
        await sessions.authenticate(database, token)
    advance(timedelta(minutes=20))
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)


async def test_logout_ends_the_session(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    token = await bearer(database, "bob")
    await sessions.close_session(database, token)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)
    await sessions.close_session(database, token)
    await sessions.close_session(database, "rubbish")


async def test_an_api_token_lasts_ninety_days_unless_told_otherwise(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob", Permission.CA_VIEW)
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, bob, "script")
    token = made.secret.get_secret_value()
    advance(timedelta(days=89, hours=23))
    principal = await sessions.authenticate(database, token, source="192.0.2.9")
    assert principal == Principal("user", "bob", frozenset({Permission.CA_VIEW}), "192.0.2.9")
    advance(timedelta(hours=1))
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, token)


@pytest.mark.parametrize("lifetime", [timedelta(days=366), timedelta(0), timedelta(days=-1)])
async def test_an_api_token_lasts_at_most_a_year(
    database: Database, make_user: MakeUser, lifetime: timedelta
) -> None:
    bob = await make_user("bob")
    with pytest.raises(InvalidInput) as refused:
        async with database.transaction() as tx:
            await api_tokens.create_token(tx, bob, "script", lifetime=lifetime)
    assert refused.value.code == "lifetime-invalid"


async def test_a_narrowed_token_can_do_less_and_cannot_make_a_wider_one(
    database: Database, make_user: MakeUser
) -> None:
    bob = await make_user("bob", Permission.CA_VIEW, Permission.CA_OPERATE)
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, bob, "narrow", permissions=[Permission.CA_VIEW])
    narrow = await sessions.authenticate(database, made.secret.get_secret_value())
    assert narrow.permissions == {Permission.CA_VIEW}
    with pytest.raises(Forbidden):
        async with database.transaction() as tx:
            await api_tokens.create_token(tx, narrow, "wide", permissions=[Permission.CA_OPERATE])
    async with database.transaction() as tx:
        child = await api_tokens.create_token(tx, narrow, "same")
    assert (await sessions.authenticate(database, child.secret.get_secret_value())).permissions == {Permission.CA_VIEW}


async def test_a_token_never_does_more_than_its_user_may_now(database: Database, make_user: MakeUser) -> None:
    bob = await make_user("bob", Permission.CA_VIEW, Permission.CA_OPERATE)
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, bob, "script", permissions=[Permission.CA_VIEW])
        await roles.edit_role(tx, OPERATOR, "role of bob", permissions=[Permission.AUDIT_VIEW])
    assert (await sessions.authenticate(database, made.secret.get_secret_value())).permissions == frozenset()


async def test_nobody_makes_a_token_for_another_except_the_hosts_operator(
    database: Database, make_user: MakeUser
) -> None:
    await make_user("bob", Permission.CA_VIEW)
    eve = await make_user("eve", *ALL_PERMISSIONS)
    with pytest.raises(Forbidden):
        async with database.transaction() as tx:
            await api_tokens.create_token(tx, eve, "stolen", user="bob")
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, OPERATOR, "script", user="bob")
    assert (await sessions.authenticate(database, made.secret.get_secret_value())).permissions == {Permission.CA_VIEW}


async def test_tokens_are_listed_with_their_last_use_and_never_shown_again(
    database: Database, make_user: MakeUser, advance: Advance
) -> None:
    bob = await make_user("bob")
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, bob, "script")
    advance(timedelta(hours=5))
    await sessions.authenticate(database, made.secret.get_secret_value())
    async with database.read() as view:
        listed = await api_tokens.list_tokens(view, bob)
        with pytest.raises(Forbidden):
            await api_tokens.list_tokens(view, bob, user="*")
    assert [(token.name, token.user) for token in listed] == [("script", "bob")]
    assert listed[0].last_used_at == made.token.created_at + timedelta(hours=5)
    assert made.secret.get_secret_value() not in str(listed)


async def test_a_revoked_token_is_refused_at_once(database: Database, make_user: MakeUser) -> None:
    bob, eve = await make_user("bob"), await make_user("eve")
    async with database.transaction() as tx:
        made = await api_tokens.create_token(tx, bob, "script")
    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            await api_tokens.revoke_token(tx, eve, made.token.id)
    async with database.transaction() as tx:
        await api_tokens.revoke_token(tx, bob, made.token.id)
        await api_tokens.revoke_token(tx, bob, made.token.id)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(database, made.secret.get_secret_value())
    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            await api_tokens.revoke_token(tx, OPERATOR, new_id())


async def test_logins_and_refusals_are_audited(database: Database, make_user: MakeUser) -> None:
    await make_user("bob")
    with pytest.raises(Unauthenticated):
        await log_in(database, "bob", WRONG)
    await log_in(database, "bob")
    async with database.read() as view:
        query = select(audit_record).where(audit_record.c.action == "user.login").order_by(audit_record.c.seq)
        rows = await view.all(query)
    assert [(r["outcome"], r["actor_kind"], r["actor"], r["source"]) for r in rows] == [
        ("refused", "anonymous", "bob", "192.0.2.7"),
        ("success", "user", "bob", "192.0.2.7"),
    ]
    assert WRONG.get_secret_value() not in str([dict(r) for r in rows])


def test_tokens_have_a_prefix_and_a_checksum() -> None:
    token = tokens.new_token()
    assert re.fullmatch(r"igt_[0-9A-Za-z]{49}", token)
    assert tokens.is_token(token)
    for position in range(4, len(token)):
        altered = token[:position] + ("a" if token[position] != "a" else "b") + token[position + 1 :]
        assert not tokens.is_token(altered)


@given(st.text(max_size=80) | st.from_regex(r"igt_[0-9A-Za-z]{49}", fullmatch=True))
def test_no_arbitrary_text_passes_for_a_token(text: str) -> None:
    assert not tokens.is_token(text)


async def test_text_that_is_no_token_is_refused_without_asking_the_database() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(nowhere, "igt_" + "0" * 49)
    await nowhere.close()
