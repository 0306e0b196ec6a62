"""Tokens in the database: writing a new one, reading them, and forgetting those that ended long ago."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Select, delete, exists, insert, select, text, update

from intaglio.core.errors import Unauthenticated
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission
from intaglio.db.engine import Transaction
from intaglio.identity.grants import permissions_of
from intaglio.identity.models import api_token, user_account
from intaglio.identity.schemas import NewToken, Token, User
from intaglio.identity.tokens import new_token, token_hash

KEPT_AFTER_END = timedelta(days=30)
_LOCK = 0x1A7A6121  # advisory lock: one at a time forgets


async def insert_session(
    tx: Transaction,
    user: User,
    expires_at: datetime,
    *,
    certificate_id: UUID | None = None,
    not_beyond: datetime | None = None,
) -> NewToken:
    """Write the token of a login, perhaps by a certificate."""
    return await _insert(tx, user, kind="session", name="login", permissions=None, parent_id=None, lifetime=None,
                         expires_at=expires_at, certificate_id=certificate_id, not_beyond=not_beyond)  # fmt: skip


async def insert_api_token(
    tx: Transaction,
    user: User,
    name: str,
    permissions: frozenset[Permission] | None,
    lifetime: timedelta,
    parent_id: UUID | None,
    certificate_id: UUID | None = None,
) -> NewToken:
    """Write an API token that is good for ``lifetime`` from now on; it ends with the certificate, if one is named."""
    limits = None if permissions is None else sorted(permissions)
    return await _insert(tx, user, kind="api", name=name, permissions=limits, parent_id=parent_id, lifetime=lifetime,
                         expires_at=tx.now + lifetime, certificate_id=certificate_id)  # fmt: skip


def with_owner() -> Select[Any]:
    """Tokens with the name of their ``user``."""
    return select(api_token, user_account.c.name.label("user")).join(
        user_account, user_account.c.id == api_token.c.user_id
    )


def to_token(row: Mapping[str, Any]) -> Token:
    """The value of a row of :func:`with_owner`."""
    limits = row["permissions"]
    values = {name: row[name] for name in Token.model_fields if name != "permissions"}
    return Token(**values, permissions=None if limits is None else permissions_of(limits))


def invalid_token() -> Unauthenticated:
    """The refusal of a token, whatever is wrong with it."""
    return Unauthenticated(
        "The token is not valid: unknown, expired or revoked.",
        code="token-invalid",
        remedy="Log in again, or create a new API token.",
    )


async def forget_ended_tokens(tx: Transaction) -> None:
    """Delete tokens that ended 30 days ago, but not what holds a family together.

    The first of a family stays while any of it does, so that revoking it still ends all of them. One in the middle
    goes: what was made with it belongs to its parent from then on. A chain shortens by a part with every call.
    """
    if not await tx.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")):
        return
    ended, child = api_token.alias("ended"), api_token.alias("child")
    before = tx.now - KEPT_AFTER_END
    await tx.execute(
        update(api_token)
        .where(api_token.c.parent_id == ended.c.id, ended.c.expires_at < before, ended.c.parent_id.is_not(None))
        .values(parent_id=ended.c.parent_id)
    )
    childless = ~exists().where(child.c.parent_id == api_token.c.id)
    await tx.execute(delete(api_token).where(api_token.c.expires_at < before, childless))


async def _insert(tx: Transaction, user: User, **values: Any) -> NewToken:
    secret = new_token()
    row = {"id": new_id(), "created_at": tx.now, **values}
    await tx.execute(insert(api_token).values(user_id=user.id, token_hash=token_hash(secret), **row))
    token = to_token({**row, "user": user.name, "last_used_at": None, "revoked_at": None})
    return NewToken(token=token, secret=SecretStr(secret))
