"""Logins of the Vault-compatible interface: short-lived tokens that stand for one identity.

A login rests on what it was proved with: the certificate, the secret id or the pipeline. It ends with that, with the
identity, with its own time, or when it is revoked. Only a hash of the token is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update

from intaglio.audit import record as audit
from intaglio.authority import locks
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import new_id, new_secret
from intaglio.db.engine import Database, Transaction
from intaglio.mtls.automation import bootstrap, errors, pipelines, token_text
from intaglio.mtls.automation.models import bootstrap as bootstrap_table
from intaglio.mtls.automation.models import login as table
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import bindings, registry
from intaglio.mtls.identities.values import Identity
from intaglio.platform import live_settings

Method = Literal["cert", "approle", "jwt"]

#: How long what has ended can still be looked up by administrators.
_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Login:
    """A login that counts. ``longest`` and ``not_beyond`` limit the certificates it gets; ``seconds`` is what it lives
    from each renewal on, ``ends_at`` where no renewal goes beyond."""

    id: UUID
    accessor: str
    identity: Identity
    method: Method
    binding_id: UUID | None
    longest: timedelta | None
    not_beyond: datetime | None
    source: str
    created_at: datetime
    seconds: int
    expires_at: datetime
    ends_at: datetime

    @property
    def is_renewable(self) -> bool:
        return self.expires_at < self.ends_at


@dataclass(frozen=True)
class Ground:
    """What a login rests on, and what follows for its certificates."""

    binding_id: UUID | None = None
    bootstrap_id: UUID | None = None
    pipeline_id: UUID | None = None
    pipeline_version: int = 0
    longest: timedelta | None = None
    not_beyond: datetime | None = None
    #: When what it rests on ends by itself.
    ends_at: datetime | None = None


@dataclass(frozen=True)
class OpenedLogin:
    """A login just made; ``token`` is told this once."""

    login: Login
    token: str = field(repr=False)


async def open_login(mtls: Mtls, identity: Identity, method: Method, ground: Ground, source: str) -> OpenedLogin:
    """Make a token for an identity that was proved just now.

    Raises Forbidden when the ground has gone meanwhile (``login-invalid``, ``pipeline-refused``), or the identity has
    been suspended.
    """
    token = token_text.new_login()
    async with mtls.database.transaction() as tx:
        identity = await registry.load_identity(tx, identity.id, keep=True)
        registry.require_active(identity)
        if ground.pipeline_id is not None:
            await pipelines.require_unchanged(tx, ground.pipeline_id, ground.pipeline_version)
        settings = await live_settings.current(tx, AutomationSettings)
        life = timedelta(minutes=settings.token_minutes)
        ends_at = tx.now + max(life, timedelta(hours=settings.token_hours))
        if ground.ends_at is not None:
            ends_at = min(ends_at, ground.ends_at)
        values = {
            "id": new_id(),
            "token_hash": token_text.hash_of(token),
            "accessor": new_secret(128),
            "identity_id": identity.id,
            "method": method,
            "binding_id": ground.binding_id,
            "bootstrap_id": ground.bootstrap_id,
            "pipeline_id": ground.pipeline_id,
            "longest": None if ground.longest is None else int(ground.longest.total_seconds()),
            "not_beyond": ground.not_beyond,
            "source": source,
            "created_at": tx.now,
            "seconds": int(life.total_seconds()),
            "expires_at": min(tx.now + life, ends_at),
            "ends_at": ends_at,
        }
        if not await _is_grounded(tx, values):
            raise errors.login_invalid()
        await tx.execute(insert(table).values(**values))
        opened = _of(values, identity)
        _note(tx, opened, "open")
    return OpenedLogin(opened, token)


async def whose(mtls: Mtls, token: str) -> Login:
    """The login of a token. Raises Forbidden (``login-invalid``, or what the identity is)."""
    if not token_text.is_login(token):
        raise errors.login_invalid()
    async with mtls.database.read() as view:
        row = await view.one_or_none(select(table).where(table.c.token_hash == token_text.hash_of(token)))
        if row is None or row["revoked_at"] is not None or row["expires_at"] <= view.now:
            raise errors.login_invalid()
        if not await _is_grounded(view, row):
            raise errors.login_invalid()
        identity = await registry.load_identity(view, row["identity_id"])
    registry.require_active(identity)
    return _of(row, identity)


async def require_open(tx: Transaction, login: Login) -> None:
    """Raise Forbidden (``login-invalid``) for a login that has ended, or lost its ground; it stays until the end."""
    row = await tx.one_or_none(select(table).where(table.c.id == login.id).with_for_update(read=True))
    if row is None or row["revoked_at"] is not None or row["expires_at"] <= tx.now or not await _is_grounded(tx, row):
        raise errors.login_invalid()


async def renew_login(mtls: Mtls, login: Login, wanted: timedelta | None) -> Login:
    """Let a login live on from now, never beyond its end. ``wanted`` shorter than usual is granted. Raises InvalidInput
    (``login-not-renewable``)."""
    async with mtls.database.transaction() as tx:
        if not login.is_renewable or login.ends_at <= tx.now:
            raise InvalidInput("This token has reached its end.", code="login-not-renewable", remedy="Log in again.")
        usual = timedelta(seconds=login.seconds)
        life = usual if wanted is None or wanted <= timedelta(0) else min(wanted, usual)
        values = {"expires_at": min(tx.now + life, login.ends_at)}
        renewed = update(table).where(table.c.id == login.id, table.c.revoked_at.is_(None))
        row = await tx.one_or_none(renewed.values(**values).returning(table))
        if row is None:
            raise errors.login_invalid()
        return _of(row, login.identity)


async def revoke_login(mtls: Mtls, login: Login) -> None:
    """End a login. Idempotent."""
    async with mtls.database.transaction() as tx:
        ended = update(table).where(table.c.id == login.id, table.c.revoked_at.is_(None)).values(revoked_at=tx.now)
        if (await tx.execute(ended)).rowcount:
            _note(tx, login, "revoke")


async def prune(database: Database) -> None:
    """Forget logins and bootstrap tokens a month after their end, and uses of identity tokens at theirs."""
    async with database.transaction() as tx:
        if not await locks.try_lock(tx, "automation-prune"):
            return
        long_ago = tx.now - _KEPT
        await tx.execute(delete(table).where(table.c.expires_at < long_ago))
        await pipelines.forget_uses(tx)
        b = bootstrap_table.c
        over = or_(b.expires_at < long_ago, b.revoked_at < long_ago)
        await tx.execute(delete(bootstrap_table).where(over))


async def _is_grounded(view: Transaction, row: Mapping[Any, Any]) -> bool:
    """Whether what a login was proved with still counts."""
    if row["binding_id"] is not None:
        found = await bindings.bindings_of(view, [row["binding_id"]])
        if not found or found[0].state not in ("valid", "superseded"):
            return False
        if not await bindings.still_trusted(view, row["binding_id"]):
            return False
    if row["bootstrap_id"] is not None and not await bootstrap.still_counts(view, row["bootstrap_id"]):
        return False
    return row["pipeline_id"] is None or await pipelines.exists(view, row["pipeline_id"])


def _of(row: Mapping[Any, Any], identity: Identity) -> Login:
    return Login(
        id=row["id"],
        accessor=row["accessor"],
        identity=identity,
        method=row["method"],
        binding_id=row["binding_id"],
        longest=None if row["longest"] is None else timedelta(seconds=row["longest"]),
        not_beyond=row["not_beyond"],
        source=row["source"],
        created_at=row["created_at"],
        seconds=row["seconds"],
        expires_at=row["expires_at"],
        ends_at=row["ends_at"],
    )


def _note(tx: Transaction, login: Login, verb: str) -> None:
    audit.record(
        tx, login.identity.principal(login.source), f"login.{verb}", "login", login.accessor,
        organization=login.identity.domain.organization, identity=login.identity.uri, method=login.method,
    )  # fmt: skip

