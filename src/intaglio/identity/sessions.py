"""Sessions, and finding out who is asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Select, any_, bindparam, func, select, update

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import Forbidden
from intaglio.core.principal import Principal
from intaglio.db.engine import Database, Transaction
from intaglio.identity.grants import permissions_of
from intaglio.identity.models import api_token, role, user_account
from intaglio.identity.schemas import User
from intaglio.identity.token_rows import forget_ended_tokens, insert_session, invalid_token, with_owner
from intaglio.identity.tokens import is_token, token_hash

SESSION_LIFETIME, LONGEST_SESSION = timedelta(minutes=30), timedelta(hours=12)  # without use, and at all
_USE_RESOLUTION = timedelta(seconds=60)  # how precisely the last use is known, and so how often it is written


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
        raise invalid_token()
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


async def open_session(
    tx: Transaction, user: User, *, certificate_id: UUID | None = None, not_beyond: datetime | None = None
) -> tuple[SecretStr, datetime]:
    """A session token for a user who has proved who he is, and when it ends unless used.

    One opened with a certificate ends with it: at ``not_beyond``, or when the certificate ``certificate_id`` is revoked
    (:func:`end_sessions_of`), and so do the tokens made in it.
    """
    await forget_ended_tokens(tx)
    expires_at = _at_most(tx.now + SESSION_LIFETIME, not_beyond)
    created = await insert_session(tx, user, expires_at, certificate_id=certificate_id, not_beyond=not_beyond)
    return created.secret, created.token.expires_at


async def end_sessions_of(tx: Transaction, certificates: Sequence[UUID] | Select[Any] | None) -> int:
    """End the sessions that were opened with these certificates (their ids, or a query for them), or with any (None),
    and the tokens that were made in them; returns how many."""
    t = api_token.c
    ended = update(api_token).where(t.certificate_id.is_not(None), t.revoked_at.is_(None)).values(revoked_at=tx.now)
    if certificates is not None:
        ended = ended.where(t.certificate_id.in_(certificates))
    total = 0
    # Whoever makes a token holds on to the session until it is recorded, so another look finds it.
    while found := int((await tx.execute(ended)).rowcount):
        total += found
    return total


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


async def _identify(
    view: Transaction, bearer: str, source: str, for_password_change: bool
) -> tuple[Mapping[str, Any], Principal]:
    row = await view.one_or_none(_IDENTIFY, {"hash": token_hash(bearer)}) if is_token(bearer) else None
    if row is None or row["revoked_at"] is not None or row["expires_at"] <= clock.now() or row["disabled"]:
        raise invalid_token()
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
    return row, Principal(
        "user", row["user"], granted, source, token_id=row["id"] if row["kind"] == "api" else None,
        session_certificate_id=row["certificate_id"],
    )  # fmt: skip


async def _note_use(database: Database, row: Mapping[str, Any], now: datetime) -> None:
    values: dict[str, Any] = {"last_used_at": now}
    if row["kind"] == "session":
        longest = min(now + SESSION_LIFETIME, row["created_at"] + LONGEST_SESSION)
        values["expires_at"] = _at_most(longest, row["not_beyond"])
    async with database.transaction() as tx:
        await tx.execute(update(api_token).where(api_token.c.id == row["id"]).values(**values))


def _at_most(moment: datetime, limit: datetime | None) -> datetime:
    return moment if limit is None else min(moment, limit)


def _identify_query() -> Select[Any]:
    granted = (
        select(func.string_agg(func.array_to_string(role.c.permissions, " "), " "))
        .where(role.c.name == any_(user_account.c.roles))
        .scalar_subquery()
    )
    return (
        with_owner()
        .add_columns(user_account.c.disabled, user_account.c.must_change_password, granted.label("granted"))
        .where(api_token.c.token_hash == bindparam("hash"))
    )


_IDENTIFY = _identify_query()
