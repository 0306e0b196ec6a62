"""Login with a name and a password, change of the password, logout.

An answer does not tell whether the name exists: an unknown name costs the same Argon2 computation, gives the same
error, and is locked after the same number of failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, RateLimited, Unauthenticated
from intaglio.core.identifiers import USER_NAME
from intaglio.core.principal import ANONYMOUS, Principal
from intaglio.db.engine import Database, Transaction
from intaglio.identity import passwords
from intaglio.identity.models import login_attempt, user_account
from intaglio.identity.schemas import Login, User
from intaglio.identity.sessions import open_session
from intaglio.identity.users import end_sessions, load_account, normalised, to_user

#: Failures after which a name must wait, and for how long: 30 s, doubled with every further failure, at most 15 min.
FREE_ATTEMPTS = 5
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)
_MEMORY = timedelta(hours=1)
_MOST_NAMES = 10_000


async def login(database: Database, name: str, password: SecretStr, *, source: str = "") -> Login:
    """Exchange name and password for a session token (30 minutes, extended by use).

    With a one-time secret, or when the password must be changed, the token is good only for
    :func:`change_password`. ``source`` is the peer address, for the audit.

    Raises Unauthenticated (``login-failed``: whatever was wrong), RateLimited (``login-locked``).
    """
    name = normalised(name)
    asking = replace(ANONYMOUS, name=name if _is_name(name) else "(not a user name)", source=source)
    row = await _count_attempt(database, name)
    correct = await passwords.matches(row["password_hash"] if row else None, password)
    if row is None or not correct or (reason := _refusal(row)):
        reason = "wrong name or password" if row is None or not correct else reason
        async with database.transaction() as tx:
            record(tx, asking, "user.login", "user", asking.name, outcome="refused", reason=reason)
        raise Unauthenticated(
            "Name or password is wrong, or the account cannot log in.",
            code="login-failed",
            remedy="Check both; an administrator can reset the password.",
        )
    return await _admit(database, to_user(row), source)


async def change_password(
    database: Database, principal: Principal, new: SecretStr, *, current: SecretStr | None = None
) -> Login:
    """Set one's own password, end all sessions, and open a new one.

    ``current`` is needed unless the password must be changed: then only a session that was opened with the present
    password or one-time secret gets here (see :func:`~intaglio.identity.sessions.authenticate`). Raises InvalidInput
    (``current-password-missing``, ``password-too-weak``, ``password-unchanged``), Forbidden (``login-failed``: the
    current password is wrong; counts as a failed login), RateLimited.
    """
    if principal.kind != "user":
        raise Forbidden("Only a user has a password.", code="not-a-user")
    async with database.read() as view:
        row = await load_account(view, principal.name)
    user = to_user(row)
    passwords.require_strong(new, known=(user.name, user.email), target="new")
    if current is not None or not user.must_change_password:
        await _require_current(database, principal, row, current)
    if await passwords.matches(row["password_hash"], new):
        raise InvalidInput("The new password is the old one.", code="password-unchanged", target="new")
    anew = await passwords.hashed(new)
    async with database.transaction() as tx:
        await tx.execute(
            update(user_account)
            .where(user_account.c.id == user.id)
            .values(password_hash=anew, must_change_password=False, secret_expires_at=None)
        )
        await end_sessions(tx, user)
        secret, expires_at = await open_session(tx, user)
        record(tx, principal, "user.change-password", "user", user.name)
    changed = user.model_copy(update={"must_change_password": False})
    return Login(user=changed, secret=secret, expires_at=expires_at, password_change_required=False)


async def _count_attempt(database: Database, name: str) -> Mapping[str, Any] | None:
    """Count the attempt before the password is looked at, so that guesses made in parallel count too."""
    if not _is_name(name):
        return None
    async with database.transaction() as tx:
        await _forget_old_attempts(tx)
        row = await tx.one_or_none(select(user_account).where(user_account.c.name == name))
        await _make_room(tx, name)
        entry = upsert(login_attempt).values(name=name, attempts=[], last_at=tx.now)
        # An update that changes nothing: it locks the entry and returns it, whoever made it.
        entry = entry.on_conflict_do_update(index_elements=["name"], set_={"last_at": login_attempt.c.last_at})
        known = await tx.scalar(entry.returning(login_attempt.c.attempts))
        attempts = [at for at in known if at > tx.now - _MEMORY]
        if attempts:
            _require_waited(_wait_after(attempts) - tx.now)
        values = {"attempts": [*attempts, tx.now][-50:], "last_at": tx.now}
        await tx.execute(update(login_attempt).where(login_attempt.c.name == name).values(**values))
        return row


def _require_waited(wait: timedelta) -> None:
    """Refuse an attempt during a lock. It is not recorded here, where a flood of attempts would cost a row each: the
    listener records its refusals, equal ones together."""
    if wait <= timedelta(0):
        return
    seconds = max(1, int(wait.total_seconds()))
    raise RateLimited(
        f"Too many failed logins; the next attempt is possible in {seconds} seconds.",
        code="login-locked",
        remedy="Wait, or ask an administrator to reset the password.",
        retry_after=seconds,
    )


async def _admit(database: Database, user: User, source: str) -> Login:
    async with database.transaction() as tx:
        await tx.execute(delete(login_attempt).where(login_attempt.c.name == user.name))
        await tx.execute(update(user_account).where(user_account.c.id == user.id).values(last_login_at=tx.now))
        secret, expires_at = await open_session(tx, user)
        record(tx, Principal("user", user.name, source=source), "user.login", "user", user.name)
    return Login(user=user, secret=secret, expires_at=expires_at, password_change_required=user.must_change_password)


async def _require_current(
    database: Database, principal: Principal, row: Mapping[str, Any], current: SecretStr | None
) -> None:
    if current is None:
        raise InvalidInput("The current password is needed.", code="current-password-missing", target="current")
    await _count_attempt(database, principal.name)
    if not await passwords.matches(row["password_hash"], current):
        async with database.transaction() as tx:
            record(tx, principal, "user.change-password", "user", principal.name, outcome="refused")
        raise Forbidden("The current password is wrong.", code="login-failed", target="current")
    async with database.transaction() as tx:
        await tx.execute(delete(login_attempt).where(login_attempt.c.name == principal.name))


def _refusal(row: Mapping[str, Any]) -> str | None:
    if row["disabled"]:
        return "account disabled"
    expires_at: datetime | None = row["secret_expires_at"]
    if expires_at is not None and expires_at <= clock.now():
        return "one-time secret expired"
    return None


def _wait_after(attempts: list[datetime]) -> datetime:
    beyond = len(attempts) - FREE_ATTEMPTS
    wait: timedelta = min(_FIRST_WAIT * 2 ** min(beyond, 10), _LONGEST_WAIT) if beyond >= 0 else timedelta(0)
    return attempts[-1] + wait


async def _forget_old_attempts(tx: Transaction) -> None:
    old = select(login_attempt.c.name).where(login_attempt.c.last_at < tx.now - _MEMORY)
    unused = old.limit(100).with_for_update(skip_locked=True)
    await tx.execute(delete(login_attempt).where(login_attempt.c.name.in_(unused)))


async def _make_room(tx: Transaction, name: str) -> None:
    """When too many names are remembered, forget the made-up one that was tried longest ago for a new one: were new
    ones let in without being counted instead, a lock would tell that a name exists."""
    names = login_attempt.c.name
    known = await tx.scalar(select(names).where(names == name))
    if known or await tx.scalar(select(func.count()).select_from(login_attempt)) < _MOST_NAMES:
        return
    made_up = select(names).where(~exists().where(user_account.c.name == names))
    oldest = made_up.order_by(login_attempt.c.last_at).limit(1).with_for_update(skip_locked=True, of=login_attempt)
    await tx.execute(delete(login_attempt).where(names.in_(oldest)))


def _is_name(name: str) -> bool:
    try:
        USER_NAME.check(name, target="name")
    except InvalidInput:
        return False
    return True
