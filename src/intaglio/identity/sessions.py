"""Sessions, API tokens, and finding out who is asking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Select, any_, bindparam, delete, func, insert, select, update

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Database, Transaction
from intaglio.identity.grants import permissions_held, permissions_of, require_may_grant
from intaglio.identity.models import api_token, role, user_account
from intaglio.identity.schemas import NewToken, Token, User
from intaglio.identity.tokens import is_token, new_token, token_hash
from intaglio.identity.users import load_account, normalised, to_user

SESSION_LIFETIME, LONGEST_SESSION = timedelta(minutes=30), timedelta(hours=12)  # without use, and at all
TOKEN_LIFETIME, LONGEST_TOKEN_LIFETIME = timedelta(days=90), timedelta(days=365)
_USE_RESOLUTION = timedelta(seconds=60)  # how precisely the last use is known, and so how often it is written
_KEPT_AFTER_END = timedelta(days=30)
_LONGEST_NAME, _MOST_TOKENS = 64, 100


async def authenticate(
    database: Database, bearer: str, *, source: str = "", for_password_change: bool = False
) -> Principal:
    """The user behind a bearer token, with what he may do at this moment; extends a session.

    ``for_password_change`` is set by the one operation that a user may do whose password must be changed, and only
    with a session; everywhere else he is refused.

    Raises Unauthenticated (``token-invalid``: unknown, expired, revoked, or the user is disabled), Forbidden
    (``password-change-required``).
    """
    if not is_token(bearer):
        raise _invalid_token()
    async with database.read() as view:
        row, principal = await _identify(view, bearer, source, for_password_change)
    now = clock.now()
    if row["last_used_at"] is None or now - row["last_used_at"] >= _USE_RESOLUTION:
        await _note_use(database, row, now)
    return principal


async def identify(
    view: Transaction, bearer: str, *, source: str = "", for_password_change: bool = False
) -> Principal:
    """The same as :func:`authenticate` inside a transaction, without noting the use (one query, no write)."""
    return (await _identify(view, bearer, source, for_password_change))[1]


async def open_session(tx: Transaction, user: User) -> tuple[SecretStr, datetime]:
    """A session token for a user who has proved who he is, and when it ends unless used."""
    await tx.execute(delete(api_token).where(api_token.c.expires_at < tx.now - _KEPT_AFTER_END))
    created = await _insert(tx, user, "session", "login", None, tx.now + SESSION_LIFETIME)
    return created.secret, created.token.expires_at


async def close_session(database: Database, bearer: str) -> None:
    """Log out: the session token is good for nothing from now on. Idempotent."""
    if not is_token(bearer):
        return
    async with database.transaction() as tx:
        query = update(api_token).where(api_token.c.token_hash == token_hash(bearer), api_token.c.kind == "session")
        ended = await tx.scalar(query.values(revoked_at=tx.now).returning(api_token.c.user_id))
        if ended is not None:
            name = await tx.scalar(select(user_account.c.name).where(user_account.c.id == ended))
            record(tx, Principal("user", name), "user.logout", "user", name)


async def create_token(
    tx: Transaction,
    principal: Principal,
    name: str,
    *,
    user: str | None = None,
    lifetime: timedelta = TOKEN_LIFETIME,
    permissions: Iterable[Permission] | None = None,
) -> NewToken:
    """Make an API token for oneself; the host's operator may make one for any ``user``.

    ``lifetime`` is at most one year. ``permissions`` narrows what the token may do; without it, it may do what its
    maker may do now and the user may do then. Raises InvalidInput, Forbidden (for another user, or beyond one's own
    permissions), NotFound.
    """
    owner = to_user(await load_account(tx, _owner(principal, user), lock=True))
    if not timedelta(minutes=1) <= lifetime <= LONGEST_TOKEN_LIFETIME:
        raise InvalidInput("An API token is good for a minute to a year.", code="lifetime-invalid", target="lifetime")
    name = name.strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"A token name has 1 to {_LONGEST_NAME} printable characters.", target="name")
    held = await permissions_held(tx, owner.roles)
    narrowed = frozenset(permissions) if permissions is not None else principal.permissions
    require_may_grant(principal, narrowed)
    if permissions is not None and (beyond := narrowed - held):
        raise InvalidInput(f'"{owner.name}" does not hold {", ".join(sorted(beyond))}.', target="permissions")
    await _require_room(tx, owner)
    limits = None if permissions is None and narrowed >= held else narrowed & held
    created = await _insert(tx, owner, "api", name, limits, tx.now + lifetime)
    record(
        tx,
        principal,
        "token.create",
        "token",
        str(created.token.id),
        user=owner.name,
        name=name,
        expires_at=clock.rfc3339(created.token.expires_at),
        permissions=None if limits is None else sorted(limits),
    )
    return created


async def list_tokens(
    view: Transaction, principal: Principal, *, user: str | None = None, sessions: bool = False
) -> list[Token]:
    """API tokens of one user (oneself by default; everybody's for ``users.manage`` with ``user="*"``), newest first,
    with their last use (to the minute); ended ones stay listed for 30 days."""
    owner = user or principal.name
    if not (principal.kind == "user" and normalised(owner) == principal.name):
        principal.require(Permission.USERS_MANAGE)
    query = _with_owner().order_by(api_token.c.created_at.desc(), api_token.c.id.desc()).limit(1000)
    if owner != "*":
        query = query.where(user_account.c.name == normalised(owner))
    if not sessions:
        query = query.where(api_token.c.kind == "api")
    return [_token(row) for row in await view.all(query)]


async def revoke_token(tx: Transaction, principal: Principal, token_id: UUID) -> Token:
    """Revoke a token at once; idempotent. One's own, or anybody's with ``users.manage``. Raises NotFound."""
    row = await tx.one_or_none(_with_owner().where(api_token.c.id == token_id).with_for_update(of=api_token))
    mine = row is not None and principal.kind == "user" and row["user"] == principal.name
    if row is None or not (mine or principal.may(Permission.USERS_MANAGE)):
        raise NotFound("There is no such token.", code="token-unknown")
    if row["revoked_at"] is not None:
        return _token(row)
    await tx.execute(update(api_token).where(api_token.c.id == token_id).values(revoked_at=tx.now))
    record(tx, principal, "token.revoke", "token", str(token_id), user=row["user"], name=row["name"])
    return _token({**row, "revoked_at": tx.now})


async def _identify(
    view: Transaction, bearer: str, source: str, for_password_change: bool
) -> tuple[Mapping[str, Any], Principal]:
    row = await view.one_or_none(_IDENTIFY, {"hash": token_hash(bearer)}) if is_token(bearer) else None
    if row is None or row["revoked_at"] is not None or row["expires_at"] <= clock.now() or row["disabled"]:
        raise _invalid_token()
    # An API token may have been made long before and stolen since; a session cannot outlive a reset of the password.
    if row["must_change_password"] and not (for_password_change and row["kind"] == "session"):
        raise Forbidden(
            "The password must be changed before anything else.",
            code="password-change-required",
            remedy="Change the password, then repeat the request.",
        )
    granted = permissions_of((row["granted"] or "").split())
    if row["permissions"] is not None:
        granted &= permissions_of(row["permissions"])
    return row, Principal("user", row["user"], granted, source)


def _invalid_token() -> Unauthenticated:
    return Unauthenticated(
        "The token is not valid: unknown, expired or revoked.",
        code="token-invalid",
        remedy="Log in again, or create a new API token.",
    )


async def _note_use(database: Database, row: Mapping[str, Any], now: datetime) -> None:
    values: dict[str, Any] = {"last_used_at": now}
    if row["kind"] == "session":
        values["expires_at"] = min(now + SESSION_LIFETIME, row["created_at"] + LONGEST_SESSION)
    async with database.transaction() as tx:
        await tx.execute(update(api_token).where(api_token.c.id == row["id"]).values(**values))


async def _insert(
    tx: Transaction, user: User, kind: str, name: str, permissions: frozenset[Permission] | None, expires_at: datetime
) -> NewToken:
    secret = new_token()
    values = {
        "id": new_id(),
        "kind": kind,
        "name": name,
        "permissions": None if permissions is None else sorted(permissions),
        "created_at": tx.now,
        "expires_at": expires_at,
    }
    await tx.execute(insert(api_token).values(user_id=user.id, token_hash=token_hash(secret), **values))
    token = _token({**values, "user": user.name, "last_used_at": None, "revoked_at": None})
    return NewToken(token=token, secret=SecretStr(secret))


async def _require_room(tx: Transaction, owner: User) -> None:
    query = select(func.count()).where(
        api_token.c.user_id == owner.id, api_token.c.kind == "api", api_token.c.revoked_at.is_(None)
    )
    if await tx.scalar(query.where(api_token.c.expires_at > tx.now)) >= _MOST_TOKENS:
        raise InvalidInput(
            f'"{owner.name}" has {_MOST_TOKENS} API tokens.', code="too-many-tokens", remedy="Revoke unused ones."
        )


def _owner(principal: Principal, user: str | None) -> str:
    if principal.kind == "operator" and user is not None:
        return user
    if principal.kind != "user":
        raise Forbidden("Say for which user the token is.", code="not-a-user", target="user")
    if user is not None and normalised(user) != principal.name:
        raise Forbidden("An API token can be made only by its user.", code="token-for-another", target="user")
    return principal.name


def _with_owner() -> Select[Any]:
    return select(api_token, user_account.c.name.label("user")).join(
        user_account, user_account.c.id == api_token.c.user_id
    )


def _token(row: Mapping[str, Any]) -> Token:
    limits = row["permissions"]
    values = {name: row[name] for name in Token.model_fields if name != "permissions"}
    return Token(**values, permissions=None if limits is None else permissions_of(limits))


def _identify_query() -> Select[Any]:
    granted = (
        select(func.string_agg(func.array_to_string(role.c.permissions, " "), " "))
        .where(role.c.name == any_(user_account.c.roles))
        .scalar_subquery()
    )
    return (
        _with_owner()
        .add_columns(user_account.c.disabled, user_account.c.must_change_password, granted.label("granted"))
        .where(api_token.c.token_hash == bindparam("hash"))
    )


_IDENTIFY = _identify_query()
