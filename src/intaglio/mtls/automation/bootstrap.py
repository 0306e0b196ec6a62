"""Bootstrap tokens: how an identity without a certificate proves itself, once.

Whoever keeps the registry, or owns the identity, makes one; it is shown this once. One of purpose ``sign`` gets a
certificate per use, by default one; the same request again is the same use. One of purpose ``approle`` is what the
Vault-compatible interface calls a secret id.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import case, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit import record as audit
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.automation import errors, token_text
from intaglio.mtls.automation.models import bootstrap as table
from intaglio.mtls.automation.models import bootstrap_use
from intaglio.mtls.automation.roles import names as names_identity
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, names, registry
from intaglio.mtls.identities import models as identity_models
from intaglio.mtls.identities.values import Identity, Kind
from intaglio.platform import live_settings

Purpose = Literal["sign", "approle"]
_MOST_USES = 100_000
_LONGEST_HOURS = 24 * 400
_MOST_NETWORKS = 32


@dataclass(frozen=True)
class BootstrapToken:
    """A bootstrap token without the token. ``state`` is usable, used, expired, revoked or locked; ``max_uses`` None is
    any number; ``networks`` are those it may be used from, none for all."""

    id: UUID
    handle: str
    identity_id: UUID
    identity: str
    purpose: Purpose
    state: str
    max_uses: int | None
    uses: int
    networks: tuple[str, ...]
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True)
class NewBootstrapToken:
    """What a token shall be good for; ``hours`` None is what the settings say, ``max_uses`` None any number (purpose
    ``approle`` only)."""

    identity: UUID | str
    purpose: Purpose = "sign"
    max_uses: int | None = 1
    hours: int | None = None
    networks: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class CreatedToken:
    """A token just made; ``text`` is shown this once."""

    token: BootstrapToken
    text: str = field(repr=False)


@dataclass(frozen=True)
class BootstrapPage:
    """A page of tokens; ``next_cursor`` is None at the end."""

    tokens: Sequence[BootstrapToken]
    next_cursor: str | None
    total: int | None


async def create_token(mtls: Mtls, principal: Principal, wanted: NewBootstrapToken) -> CreatedToken:
    """Make a bootstrap token for an active identity that is no person.

    Needs ``mtls.identities``, or ``mtls.own`` and to own it.
    Raises NotFound, Forbidden, InvalidInput, StateConflict (trust domain not active).
    """
    networks = _networks(wanted.networks)
    if wanted.max_uses is None and wanted.purpose == "sign":
        raise InvalidInput("A token for certificates has a number of uses.", code="uses-invalid", target="max_uses")
    if wanted.max_uses is not None and not 1 <= wanted.max_uses <= _MOST_USES:
        raise InvalidInput(f"A token has 1 to {_MOST_USES} uses.", code="uses-invalid", target="max_uses")
    if wanted.hours is not None and not 1 <= wanted.hours <= _LONGEST_HOURS:
        raise InvalidInput(f"A token is good for 1 to {_LONGEST_HOURS} hours.", code="hours-invalid", target="hours")
    text = token_text.new_bootstrap()
    async with mtls.database.transaction() as tx:
        settings = await live_settings.current(tx, AutomationSettings)
        identity = await registry.visible_identity(tx, principal, wanted.identity)
        await registry.require_may_use(tx, principal, identity)
        registry.require_active(identity)
        if identity.kind is Kind.USER:
            raise errors.person(identity.name)
        values: dict[str, Any] = {
            "id": new_id(),
            "handle": token_text.handle_of(text),
            "token_hash": token_text.hash_of(text),
            "identity_id": identity.id,
            "purpose": wanted.purpose,
            "max_uses": wanted.max_uses,
            "networks": networks,
            "note": names.plain_text(wanted.note, target="note"),
            "created_by": principal.name,
            "created_at": tx.now,
            "expires_at": tx.now + timedelta(hours=wanted.hours or settings.bootstrap_hours),
        }
        await tx.execute(insert(table).values(**values))
        made = await _load(tx, values["id"])
        facts = {"purpose": made.purpose, "max_uses": made.max_uses, "expires_at": rfc3339(made.expires_at)}
        note(tx, principal, "create", identity, made, **facts)
    return CreatedToken(made, text)


async def list_tokens(mtls: Mtls, principal: Principal, asked: ListQuery) -> BootstrapPage:
    """A page of bootstrap tokens, newest first. Needs ``mtls.view``; with ``mtls.own`` one sees those of what one owns.

    ``asked.filter`` knows id, handle, identity (its name), domain, purpose, state, created_by, created_at and
    expires_at. Raises InvalidInput.
    """
    domains.require_reader(principal)
    i, d = identity_models.identity.c, identity_models.trust_domain.c
    columns = {
        "id": table.c.id, "handle": table.c.handle, "identity": i.name, "domain": d.name, "purpose": table.c.purpose,
        "state": _STATE, "created_by": table.c.created_by, "created_at": table.c.created_at,
        "expires_at": table.c.expires_at,
    }  # fmt: skip
    query = _query().where(*registry.visible_to(principal))
    listing = Listing(query, columns, identity=table.c.id, sort="-id", sortable=frozenset({"id", "expires_at"}))
    async with mtls.database.read() as view:
        page = await listing.page(view, asked)
    return BootstrapPage([_of(row) for row in page.rows], page.next_cursor, page.total)


async def revoke_token(mtls: Mtls, principal: Principal, reference: UUID | str) -> BootstrapToken:
    """End a token, by id or handle, and the logins that rest on it. Idempotent. Raises NotFound, Forbidden."""
    domains.require_reader(principal)
    async with mtls.database.transaction() as tx:
        query = _query().where(_refers_to(reference), *registry.visible_to(principal))
        row = await tx.one_or_none(query.with_for_update(of=table))
        if row is None:
            raise NotFound(f'There is no bootstrap token "{str(reference)[:40]}".', code="bootstrap-token-unknown")
        identity = await registry.load_identity(tx, row["identity_id"])
        await registry.require_may_use(tx, principal, identity)
        if row["revoked_at"] is None:
            await tx.execute(update(table).where(table.c.id == row["id"]).values(revoked_at=tx.now))
            note(tx, principal, "revoke", identity, _of(row))
        return await _load(tx, row["id"])


# ---- for the modules beside this one ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Redeemed:
    """A token that counts, and whose it is. ``fresh`` is False for a use that was counted before, ``counted_at`` when
    it was counted now."""

    token_id: UUID
    identity: Identity
    fresh: bool
    counted_at: datetime


async def redeem(
    mtls: Mtls, text: str, purpose: Purpose, source: str, *, spki_sha256: bytes | None = None, role: str | None = None
) -> Redeemed:
    """Count a use of a token, for the key ``spki_sha256`` if it is to be certified; ``role`` must be its identity.

    A wrong token with a handle that exists counts as a failed attempt. Raises Unauthenticated
    (``bootstrap-token-invalid``), Forbidden, StateConflict (``bootstrap-token-used``).
    """
    handle = token_text.handle_of(text)
    if handle is None:
        raise errors.token_invalid()
    async with mtls.database.transaction() as tx:
        settings = await live_settings.current(tx, AutomationSettings)
        row = await tx.one_or_none(_query().where(table.c.handle == handle).with_for_update(of=table))
        if row is None:
            raise errors.token_invalid()
        if not hmac.compare_digest(row["token_hash"], token_text.hash_of(text)):
            await _count_failure(tx, row, settings.max_attempts, source)
            refusal: IntaglioError = errors.token_invalid()
        else:
            known = spki_sha256 is not None and await _was_used_for(tx, row["id"], spki_sha256)
            _require_usable(row, purpose, source, again=known)
            identity = await registry.load_identity(tx, row["identity_id"])
            if role is not None and not names_identity(identity, role):
                raise errors.token_invalid()
            registry.require_active(identity)
            if known:
                await _share_use(tx, row["id"], spki_sha256)
            else:
                await _count_use(tx, row["id"], spki_sha256)
            return Redeemed(row["id"], identity, fresh=not known, counted_at=tx.now)
    raise refusal


async def give_back(mtls: Mtls, redeemed: Redeemed, spki_sha256: bytes) -> None:
    """Take a use back whose request was refused: a token is spent on a certificate, not on an error.

    Not when the same key came again meanwhile: that request may have got its certificate by this use.
    """
    u = bootstrap_use.c
    async with mtls.database.transaction() as tx:
        mine = (u.token_id == redeemed.token_id) & (u.spki_sha256 == spki_sha256) & (u.at == redeemed.counted_at)
        if await tx.one_or_none(delete(bootstrap_use).where(mine).returning(u.at)) is not None:
            await tx.execute(update(table).where(table.c.id == redeemed.token_id).values(uses=table.c.uses - 1))


async def still_counts(view: Transaction, token_id: UUID) -> bool:
    """Whether logins that rest on a token still do: it may be used up or expired, but not revoked or locked."""
    ended = select(table.c.id).where(
        table.c.id == token_id, table.c.revoked_at.is_(None), table.c.locked_at.is_(None)
    )
    return await view.scalar(ended) is not None


async def require_counting(tx: Transaction, token_id: UUID) -> None:
    """Raise Forbidden (``bootstrap-token-revoked``) for a token that was revoked or locked; it stays until the end."""
    await tx.scalar(select(table.c.id).where(table.c.id == token_id).with_for_update(read=True))
    if not await still_counts(tx, token_id):
        raise errors.token_ended("revoked")


def note(tx: Transaction, principal: Principal, verb: str, identity: Identity, token: Any, **facts: Any) -> None:
    """Record something about a bootstrap token."""
    audit.record(
        tx, principal, f"bootstrap-token.{verb}", "bootstrap-token", token.handle,
        organization=identity.domain.organization, identity=identity.uri, **facts,
    )  # fmt: skip


# ---- steps -----------------------------------------------------------------------------------------------------------


_STATE = case(
    (table.c.revoked_at.is_not(None), "revoked"),
    (table.c.locked_at.is_not(None), "locked"),
    (table.c.uses >= table.c.max_uses, "used"),
    (table.c.expires_at <= func.now(), "expired"),
    else_="usable",
)


def _query() -> Any:
    i, d = identity_models.identity, identity_models.trust_domain
    return (
        select(table, _STATE.label("state"), i.c.name.label("identity"))
        .join(i, i.c.id == table.c.identity_id)
        .join(d, d.c.id == i.c.domain_id)
    )


async def _load(view: Transaction, token_id: UUID) -> BootstrapToken:
    row = await view.one_or_none(_query().where(table.c.id == token_id))
    assert row is not None
    return _of(row)


def _of(row: Row) -> BootstrapToken:
    values = {name: row[name] for name in BootstrapToken.__dataclass_fields__}
    return BootstrapToken(**(values | {"networks": tuple(row["networks"])}))


def _refers_to(reference: UUID | str) -> Any:
    try:
        return table.c.id == UUID(str(reference))
    except ValueError:
        return table.c.handle == str(reference)


def _require_usable(row: Row, purpose: Purpose, source: str, *, again: bool) -> None:
    state = row["state"]
    if state == "used" and again:
        state = "usable"
    if state != "usable":
        raise errors.token_ended(state)
    if row["purpose"] != purpose:
        raise errors.wrong_purpose()
    if row["networks"] and not _is_within(source, row["networks"]):
        raise errors.wrong_network(source)


async def _was_used_for(tx: Transaction, token_id: UUID, spki_sha256: bytes) -> bool:
    u = bootstrap_use.c
    found = select(u.at).where(u.token_id == token_id, u.spki_sha256 == spki_sha256)
    return await tx.scalar(found) is not None


async def _count_use(tx: Transaction, token_id: UUID, spki_sha256: bytes | None) -> None:
    await tx.execute(update(table).where(table.c.id == token_id).values(uses=table.c.uses + 1, used_at=tx.now))
    if spki_sha256 is not None:
        await tx.execute(upsert(bootstrap_use).values(token_id=token_id, spki_sha256=spki_sha256, at=tx.now))


async def _share_use(tx: Transaction, token_id: UUID, spki_sha256: bytes | None) -> None:
    """Note that a use serves another request too. Times are whole seconds, so that a microsecond marks it."""
    u = bootstrap_use.c
    mine = (u.token_id == token_id) & (u.spki_sha256 == spki_sha256)
    await tx.execute(update(bootstrap_use).where(mine).values(at=u.at + timedelta(microseconds=1)))


async def _count_failure(tx: Transaction, row: Row, limit: int, source: str) -> None:
    """One more wrong attempt with this handle; at the limit the token is locked for good."""
    failures = row["failures"] + 1
    values: dict[str, Any] = {"failures": failures}
    if failures >= limit and row["locked_at"] is None:
        values["locked_at"] = tx.now
        identity = await registry.load_identity(tx, row["identity_id"])
        asking = Principal("anonymous", "anonymous", source=source)
        note(tx, asking, "lock", identity, _of(row), failures=failures)
    await tx.execute(update(table).where(table.c.id == row["id"]).values(**values))


def _networks(texts: Sequence[str]) -> list[str]:
    """Networks in their usual spelling. Raises InvalidInput."""
    if len(texts) > _MOST_NETWORKS:
        raise InvalidInput(f"At most {_MOST_NETWORKS} networks.", target="networks")
    try:
        return [str(ipaddress.ip_network(text.strip())) for text in texts]
    except ValueError:
        raise InvalidInput(
            "A network is an address with a prefix length.",
            code="network-invalid",
            remedy="Write 10.1.0.0/16 or 2001:db8::/32, without bits beyond the prefix.",
            target="networks",
        ) from None


def _is_within(source: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(network) for network in networks)
