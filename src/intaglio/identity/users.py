"""Users: named accounts with roles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import delete, insert, select, update

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import USER_NAME, new_id, new_secret
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity import passwords
from intaglio.identity.grants import (
    keeping_last_holders,
    lock_rights,
    permissions_held,
    permissions_of_roles,
    require_may_grant,
    require_not_above,
)
from intaglio.identity.models import api_token, user_account
from intaglio.identity.roles import ADMINISTRATOR, install_built_in_roles
from intaglio.identity.schemas import User

FIRST_ADMINISTRATOR = "admin"
SECRET_LIFETIME = timedelta(days=7)
_LONGEST_EMAIL = 254


async def create_first_administrator(tx: Transaction, *, name: str = FIRST_ADMINISTRATOR, email: str = "") -> SecretStr:
    """Install the built-in roles and the first administrator. Returns his one-time secret, good for 7 days.

    Raises StateConflict (``already-initialized``) when there is a user already.
    """
    await install_built_in_roles(tx)
    if await tx.scalar(select(user_account.c.id).limit(1)):
        raise StateConflict(
            "There are users already.",
            code="already-initialized",
            remedy="Reset a password instead; the operator of this host always may.",
        )
    _, secret = await create_user(tx, SYSTEM, name, roles=[ADMINISTRATOR], email=email)
    return secret


async def list_users(view: Transaction, principal: Principal) -> list[User]:
    """All users by name, with their last login. Needs ``users.manage``."""
    principal.require(Permission.USERS_MANAGE)
    return [to_user(row) for row in await view.all(select(user_account).order_by(user_account.c.name))]


async def get_user(view: Transaction, principal: Principal, name: str) -> User:
    """One user; everybody may see himself. Raises NotFound, Forbidden."""
    if not (principal.kind == "user" and principal.name == normalised(name)):
        principal.require(Permission.USERS_MANAGE)
    return to_user(await load_account(view, name))


async def create_user(
    tx: Transaction,
    principal: Principal,
    name: str,
    *,
    roles: Iterable[str] = (),
    email: str = "",
    password: SecretStr | None = None,
) -> tuple[User, SecretStr]:
    """Create a user. Returns him and a one-time secret with which he sets his password (empty when ``password`` is
    given).

    ``name`` is lower-cased. Raises InvalidInput (grammar, ``reserved-word``, ``role-unknown``, ``password-too-weak``),
    StateConflict (``already-exists``), Forbidden for a role that grants what ``principal`` lacks.
    """
    principal.require(Permission.USERS_MANAGE)
    name = USER_NAME.check(normalised(name), target="name")
    email, chosen = _checked_email(email), _unique(roles)
    await lock_rights(tx)
    require_may_grant(principal, await permissions_of_roles(tx, chosen))
    if await tx.scalar(select(user_account.c.id).where(user_account.c.name == name)):
        raise StateConflict(f'There is a user "{name}" already.', code="already-exists", target="name")
    if password is not None:
        passwords.require_strong(password, known=(name, email))
    secret = SecretStr("") if password is not None else SecretStr(new_secret())
    values = {
        "id": new_id(),
        "name": name,
        "email": email,
        "roles": chosen,
        "password_hash": await passwords.hashed(password or secret),
        "must_change_password": password is None,
        "secret_expires_at": None if password is not None else tx.now + SECRET_LIFETIME,
        "created_at": tx.now,
    }
    await tx.execute(insert(user_account).values(**values))
    record(tx, principal, "user.create", "user", name, id=str(values["id"]), roles=chosen)
    return to_user({**values, "disabled": False, "last_login_at": None}), secret


async def edit_user(
    tx: Transaction,
    principal: Principal,
    name: str,
    *,
    roles: Iterable[str] | None = None,
    email: str | None = None,
    disabled: bool | None = None,
) -> User:
    """Change a user's roles, address or state; takes effect at once, for open sessions too.

    Raises NotFound, InvalidInput, Forbidden (a role beyond one's own permissions, or an account above one's own),
    StateConflict (``last-administrator``).
    """
    principal.require(Permission.USERS_MANAGE)
    async with keeping_last_holders(tx):
        current = to_user(await load_account(tx, name, lock=True))
        held = await permissions_held(tx, current.roles)
        require_not_above(principal, current.name, held)
        changes: dict[str, Any] = {}
        if roles is not None:
            changes["roles"] = _unique(roles)
            require_may_grant(principal, await permissions_of_roles(tx, changes["roles"]) - held)
        if email is not None:
            changes["email"] = _checked_email(email)
        if disabled is not None:
            changes["disabled"] = disabled
        if changes:
            await tx.execute(update(user_account).where(user_account.c.id == current.id).values(**changes))
    if changes:
        facts = {key: value for key, value in changes.items() if key != "email"}
        record(tx, principal, "user.edit", "user", current.name, changed=sorted(changes), **facts)
    return current.model_copy(update={**changes, "roles": tuple(changes.get("roles", current.roles))})


async def delete_user(tx: Transaction, principal: Principal, name: str) -> None:
    """Delete a user with his sessions and tokens. Raises as :func:`edit_user`."""
    principal.require(Permission.USERS_MANAGE)
    async with keeping_last_holders(tx):
        current = to_user(await load_account(tx, name, lock=True))
        require_not_above(principal, current.name, await permissions_held(tx, current.roles))
        await tx.execute(delete(user_account).where(user_account.c.id == current.id))
    record(tx, principal, "user.delete", "user", current.name, id=str(current.id))


async def reset_password(tx: Transaction, principal: Principal, name: str) -> SecretStr:
    """Replace a user's password by a one-time secret, good for 7 days, and end his sessions. Returns the secret.

    API tokens are blocked until he has set a password. Raises as :func:`edit_user`.
    """
    principal.require(Permission.USERS_MANAGE)
    current = to_user(await load_account(tx, name, lock=True))
    require_not_above(principal, current.name, await permissions_held(tx, current.roles))
    secret = SecretStr(new_secret())
    await tx.execute(
        update(user_account)
        .where(user_account.c.id == current.id)
        .values(
            password_hash=await passwords.hashed(secret),
            must_change_password=True,
            secret_expires_at=tx.now + SECRET_LIFETIME,
        )
    )
    await end_sessions(tx, current)
    record(tx, principal, "user.reset-password", "user", current.name)
    return secret


async def require_password_change_of_all(tx: Transaction, principal: Principal) -> int:
    """Make every user but the caller choose a new password at the next login, and end their sessions. Returns how
    many."""
    principal.require(Permission.USERS_MANAGE)
    statement = update(user_account).where(user_account.c.password_hash.is_not(None))
    if principal.kind == "user":
        statement = statement.where(user_account.c.name != principal.name)
    rows = await tx.all(statement.values(must_change_password=True).returning(user_account.c.id))
    changed = [row["id"] for row in rows]
    await _end_sessions_of(tx, changed)
    record(tx, principal, "user.require-password-change", "user", "*", users=len(changed))
    return len(changed)


async def end_sessions(tx: Transaction, user: User) -> None:
    """End all sessions of a user; his API tokens stay."""
    await _end_sessions_of(tx, [user.id])


async def _end_sessions_of(tx: Transaction, user_ids: list[UUID]) -> None:
    open_sessions = (api_token.c.kind == "session", api_token.c.revoked_at.is_(None))
    await tx.execute(
        update(api_token).where(api_token.c.user_id.in_(user_ids), *open_sessions).values(revoked_at=tx.now)
    )


async def load_account(view: Transaction, name: str, *, lock: bool = False) -> Mapping[str, Any]:
    """The row of a user by name in any case. Raises NotFound."""
    query = select(user_account).where(user_account.c.name == normalised(name))
    row = await view.one_or_none(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f'There is no user "{name}".', code="user-unknown", target="name")
    return row


def to_user(row: Mapping[str, Any]) -> User:
    """The value of a row, without its secrets."""
    return User.model_validate({name: row[name] for name in User.model_fields})


def normalised(name: str) -> str:
    """How user names are stored and compared."""
    return name.strip().lower()


def _unique(roles: Iterable[str]) -> list[str]:
    return sorted(set(roles))


def _checked_email(email: str) -> str:
    email = email.strip()
    if email and (len(email) > _LONGEST_EMAIL or not re.fullmatch(r"[^\s@<>\x00]+@[^\s@<>\x00]+", email)):
        raise InvalidInput("That is not an e-mail address.", target="email")
    return email
