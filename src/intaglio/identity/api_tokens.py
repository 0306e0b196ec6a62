"""API tokens: making, listing, rotating and revoking them.

Tokens that were made with a token are its descendants, and end with it when it is revoked: whoever stole a token cannot
keep what he made with it. What a login or the host's operator makes starts a family of its own. Changes to the tokens
of one user happen one after the other, so that nothing is made with a token that is being revoked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity.grants import permissions_held, permissions_of, require_may_grant
from intaglio.identity.models import api_token, user_account
from intaglio.identity.schemas import NewToken, RevokedToken, Token, User
from intaglio.identity.token_rows import insert_api_token, invalid_token, to_token, with_owner
from intaglio.identity.users import load_account, normalised, to_user

LIFETIME, LONGEST_LIFETIME = timedelta(days=90), timedelta(days=365)
OVERLAP, LONGEST_OVERLAP = timedelta(hours=1), timedelta(days=7)
_LONGEST_NAME, _MOST_TOKENS = 64, 100


async def create_token(
    tx: Transaction,
    principal: Principal,
    name: str,
    *,
    user: str | None = None,
    lifetime: timedelta = LIFETIME,
    permissions: Iterable[Permission] | None = None,
) -> NewToken:
    """Make an API token for oneself; the host's operator may make one for any ``user``.

    ``lifetime`` is at most one year. ``permissions`` narrows what the token may do; without it, it may do what its
    maker may do now and the user may do then. Raises InvalidInput, Forbidden (for another user, or beyond one's own
    permissions), NotFound, Unauthenticated when the maker's own token has been revoked meanwhile.
    """
    owner = to_user(await load_account(tx, _owner(principal, user), lock=True))
    await _require_not_revoked(tx, principal)
    if not timedelta(minutes=1) <= lifetime <= LONGEST_LIFETIME:
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
    created = await insert_api_token(
        tx, owner, name, limits, lifetime, principal.token_id, principal.session_certificate_id
    )
    record(tx, principal, "token.create", "token", str(created.token.id), name=name, **_facts(created.token))
    return created


async def list_tokens(
    view: Transaction, principal: Principal, *, user: str | None = None, sessions: bool = False
) -> list[Token]:
    """API tokens of one user (oneself by default; everybody's for ``users.manage`` with ``user="*"``), newest first,
    with their last use (to the minute).

    Ended ones stay listed for 30 days, and longer while others that descend from them are listed.
    """
    owner = user or principal.name
    if not (principal.kind == "user" and normalised(owner) == principal.name):
        principal.require(Permission.USERS_MANAGE)
    query = with_owner().order_by(api_token.c.created_at.desc(), api_token.c.id.desc()).limit(1000)
    if owner != "*":
        query = query.where(user_account.c.name == normalised(owner))
    if not sessions:
        query = query.where(api_token.c.kind == "api")
    return [to_token(row) for row in await view.all(query)]


async def rotate_token(
    tx: Transaction, principal: Principal, token_id: UUID, *, overlap: timedelta = OVERLAP
) -> NewToken:
    """Replace a token: its successor has the same name, permissions and length, and descends from it.

    The token itself ends after ``overlap`` (0 to 7 days) unless it ends before, so that its users can change over.
    Somebody with a token may rotate that token only, a user who logged in any of his own, the host's operator any.
    Raises NotFound, Forbidden (``token-for-another``), StateConflict (``token-ended``), InvalidInput
    (``overlap-invalid``, ``too-many-tokens``).
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidInput("A token goes on for at most 7 days.", code="overlap-invalid", target="overlap")
    row = await _locked(tx, principal, token_id)
    _require_may_rotate(principal, row)
    if row["revoked_at"] is not None or row["expires_at"] <= tx.now:
        raise StateConflict(
            "The token has ended.", code="token-ended", remedy="Log in and create a new one.", target="token"
        )
    owner = to_user(await load_account(tx, row["user"]))
    await _require_room(tx, owner)
    limits = None if row["permissions"] is None else permissions_of(row["permissions"])
    lifetime = row["lifetime"] or row["expires_at"] - row["created_at"]
    successor = await insert_api_token(tx, owner, row["name"], limits, lifetime, token_id, row["certificate_id"])
    ends = min(row["expires_at"], tx.now + overlap)
    await tx.execute(update(api_token).where(api_token.c.id == token_id).values(expires_at=ends))
    record(
        tx, principal, "token.rotate", "token", str(token_id), name=row["name"], ends_at=clock.rfc3339(ends),
        successor=str(successor.token.id), **_facts(successor.token),
    )  # fmt: skip
    return successor


async def revoke_token(tx: Transaction, principal: Principal, token_id: UUID) -> RevokedToken:
    """Revoke a token, and with it all that descend from it, at once; idempotent.

    One's own, or anybody's with ``users.manage``. Raises NotFound.
    """
    row = await _locked(tx, principal, token_id)
    family = select(api_token.c.id).where(api_token.c.id == token_id).cte("family", recursive=True)
    family = family.union(select(api_token.c.id).where(api_token.c.parent_id == family.c.id))
    statement = update(api_token).where(api_token.c.id.in_(select(family.c.id)), api_token.c.revoked_at.is_(None))
    ended = await tx.all(statement.values(revoked_at=tx.now).returning(api_token.c.id, api_token.c.expires_at))
    descendants = sum(each["id"] != token_id and each["expires_at"] > tx.now for each in ended)
    if ended:
        record(
            tx, principal, "token.revoke", "token", str(token_id), user=row["user"], name=row["name"],
            descendants=descendants,
        )  # fmt: skip
    revoked = to_token({**row, "revoked_at": row["revoked_at"] or tx.now})
    return RevokedToken(**dict(revoked), descendants=descendants)


async def _locked(tx: Transaction, principal: Principal, token_id: UUID) -> Mapping[str, Any]:
    """The row of a token that the principal may change, with all tokens of its user kept from changing."""
    query = with_owner().where(api_token.c.id == token_id)
    row = await tx.one_or_none(query)
    mine = row is not None and principal.kind == "user" and row["user"] == principal.name
    if row is not None and (mine or principal.may(Permission.USERS_MANAGE)):
        await load_account(tx, row["user"], lock=True)
        row = await tx.one_or_none(query.with_for_update(of=api_token))
        if row is not None:
            await _require_not_revoked(tx, principal)
            return row
    raise NotFound("There is no such token.", code="token-unknown")


async def _require_not_revoked(tx: Transaction, principal: Principal) -> None:
    """The token was looked at when the request came in; it may have been revoked since."""
    if principal.session_certificate_id is not None:
        t = api_token.c
        opened = select(t.id).where(t.certificate_id == principal.session_certificate_id, t.revoked_at.is_(None))
        if await tx.scalar(opened.limit(1).with_for_update(read=True)) is None:
            raise invalid_token()
    if principal.token_id is None:
        return
    still = select(api_token.c.id).where(api_token.c.id == principal.token_id, api_token.c.revoked_at.is_(None))
    if await tx.scalar(still) is None:
        raise invalid_token()


def _require_may_rotate(principal: Principal, row: Mapping[str, Any]) -> None:
    """A successor is a secret that does what the token does, so only whoever may have that secret gets it."""
    if row["kind"] != "api":
        raise NotFound("There is no such API token.", code="token-unknown", remedy="A login is not rotated: log in.")
    if principal.kind == "operator" or principal.token_id == row["id"]:
        return
    if principal.kind == "user" and principal.name == row["user"] and principal.token_id is None:
        return
    raise Forbidden(
        "A token can be rotated only with itself, or by its user after a login.",
        code="token-for-another",
        remedy="Log in, or use the token itself.",
        target="token",
    )


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


def _facts(token: Token) -> dict[str, Any]:
    return {
        "user": token.user,
        "expires_at": clock.rfc3339(token.expires_at),
        "permissions": None if token.permissions is None else sorted(token.permissions),
        "parent": None if token.parent_id is None else str(token.parent_id),
    }
