"""Registered ingresses: made, changed, retired; their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Select, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.authority.configuration import changing
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access import models
from intaglio.mtls.access.decider import ingress_unknown
from intaglio.mtls.access.ingress_values import NO_RULE, Ingress, IngressChanges, NewIngress, changed, checked
from intaglio.mtls.access.settings import AccessSettings
from intaglio.mtls.access.tokens import new_token, token_hash
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models as identities
from intaglio.platform import live_settings


@dataclass(frozen=True)
class WithToken:
    """An ingress with its new token, which is shown this once."""

    ingress: Ingress
    token: str = field(repr=False)


async def create_ingress(mtls: Mtls, principal: Principal, wanted: NewIngress) -> WithToken:
    """Register an ingress. Needs ``mtls.policy`` in the organization.

    A new one has no callers to lose, so it may enforce from the start. Raises InvalidInput, NotFound (organization,
    trust domain, policy), StateConflict (``ingress-exists``, ``domain-retired``).
    """
    values = checked(wanted)
    token = new_token()
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        organization = await require_organization(tx, principal, wanted.organization, Permission.MTLS_POLICY)
        values["domain_id"] = await _domain(tx, organization.id, wanted.domain)
        values["policy_id"] = await policy_id(tx, organization.id, wanted.policy)
        await _require_free(tx, organization.id, wanted.organization, wanted.name)
        if wanted.mode == "permissive":
            values["permissive_until"] = tx.now + await _permissive_time(tx, wanted.permissive_days)
        values |= {"id": new_id(), "organization_id": organization.id, "mode_since": tx.now}
        values |= {"token_hash": token_hash(token), "token_made_at": tx.now}
        await tx.execute(
            insert(models.ingress).values(**values, created_by=principal.name, created_at=tx.now)
        )
        ingress = await load(tx, values["id"])
        note(tx, principal, "create", ingress, mode=ingress.mode, domain=ingress.domain, ip_rule=values["ip_rule"])
    return WithToken(ingress, token)


async def list_ingresses(
    mtls: Mtls, principal: Principal, *, organization: str | None = None, domain: str | None = None
) -> list[Ingress]:
    """The ingresses of the organizations one sees, by name. Needs ``mtls.view``."""
    principal.require(Permission.MTLS_VIEW)
    i, o = models.ingress.c, authority_models.organization.c
    async with mtls.database.read() as view:
        query = _query().where(i.retired_at.is_(None)).order_by(o.name, i.name)
        if not sees_all(principal):
            query = query.where(i.organization_id.in_(memberships_of(principal.name)))
        if organization is not None:
            await require_organization(view, principal, organization, Permission.MTLS_VIEW)
            query = query.where(o.name == organization)
        if domain is not None:
            query = query.where(identities.trust_domain.c.name == domain)
        return [_ingress_of(row) for row in await view.all(query)]


async def get_ingress(mtls: Mtls, principal: Principal, name: str) -> Ingress:
    """One ingress, ``{organization}~{name}`` or a name that is unique among those one sees. Needs ``mtls.view``.

    Raises NotFound (``ingress-unknown``), StateConflict (``ingress-ambiguous``).
    """
    async with mtls.database.read() as view:
        return await visible(view, principal, name, Permission.MTLS_VIEW)


async def edit_ingress(mtls: Mtls, principal: Principal, name: str, wanted: IngressChanges) -> Ingress:
    """Change an ingress. Needs ``mtls.policy``. Raises InvalidInput, NotFound."""
    values = changed(wanted)
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        before = await locked(tx, principal, name)
        if wanted.policy is not None:
            chosen = None if wanted.policy == NO_RULE else wanted.policy
            values["policy_id"] = await policy_id(tx, before.organization_id, chosen)
        if values:
            await _set(tx, before.id, **values)
        after = await load(tx, before.id)
        told = {key: [_told(before, key), _told(after, key)] for key in _TOLD}
        note(tx, principal, "edit", after, changed={key: pair for key, pair in told.items() if pair[0] != pair[1]})
        return after


async def retire_ingress(mtls: Mtls, principal: Principal, name: str) -> None:
    """Retire an ingress: its token counts no more, its events stay. Needs ``mtls.policy``. Raises NotFound."""
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        found = await locked(tx, principal, name)
        await _set(tx, found.id, retired_at=tx.now, token_hash=None)
        r = models.ingress_request
        open_ones = (r.c.ingress_id == found.id) & (r.c.state == "pending")
        await tx.execute(update(r).where(open_ones).values(state="withdrawn", decided_at=tx.now))
        note(tx, principal, "retire", found)


async def rotate_token(mtls: Mtls, principal: Principal, name: str) -> WithToken:
    """Give an ingress a new token; the one before counts no more. Needs ``mtls.policy``. Raises NotFound."""
    token = new_token()
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        found = await locked(tx, principal, name)
        await _set(tx, found.id, token_hash=token_hash(token), token_made_at=tx.now)
        note(tx, principal, "rotate-token", found)
        return WithToken(await load(tx, found.id), token)


# ---- for the rest of this room ---------------------------------------------------------------------------------------


async def visible(view: Transaction, principal: Principal, name: str, permission: Permission) -> Ingress:
    """The ingress of this name among those the principal sees. Raises Forbidden, NotFound, StateConflict."""
    principal.require(permission)
    organization, _, own = name.rpartition("~")
    i, o = models.ingress.c, authority_models.organization.c
    query = _query().where(i.name == own, i.retired_at.is_(None))
    if organization:
        query = query.where(o.name == organization)
    if not sees_all(principal):
        query = query.where(i.organization_id.in_(memberships_of(principal.name)))
    rows = await view.all(query.limit(2))
    if not rows:
        raise ingress_unknown(name)
    if len(rows) > 1:
        raise StateConflict(
            f'There are several ingresses "{own[:64]}".',
            code="ingress-ambiguous",
            remedy="Name the organization too: ORGANIZATION~INGRESS.",
        )
    return _ingress_of(rows[0])


async def locked(tx: Transaction, principal: Principal, name: str) -> Ingress:
    """The ingress, nobody else changing it until the end. Needs ``mtls.policy``. Raises NotFound."""
    found = await visible(tx, principal, name, Permission.MTLS_POLICY)
    await tx.scalar(select(models.ingress.c.id).where(models.ingress.c.id == found.id).with_for_update())
    return await load(tx, found.id)


async def load(view: Transaction, ingress_id: UUID) -> Ingress:
    """The ingress, whoever may see it. Raises NotFound."""
    row = await view.one_or_none(_query().where(models.ingress.c.id == ingress_id))
    if row is None or row["retired_at"] is not None:
        raise ingress_unknown(ingress_id)
    return _ingress_of(row)


async def set_mode(tx: Transaction, ingress: Ingress, mode: str, days: int | None = None) -> Ingress:
    """Switch the mode, and begin or end the time an ingress may be permissive.

    To make a permissive ingress permissive changes how long it may stay so, counted from when it became it.
    """
    since = ingress.mode_since if mode == ingress.mode else tx.now
    until = since + await _permissive_time(tx, days) if mode == "permissive" else None
    await _set(tx, ingress.id, mode=mode, mode_since=since, permissive_until=until)
    return await load(tx, ingress.id)


async def policy_id(view: Transaction, organization_id: UUID, name: str | None) -> UUID | None:
    """The id of a policy of the organization. Raises NotFound (``policy-unknown``)."""
    if name is None:
        return None
    p = models.policy.c
    own = name.rpartition("~")[2]
    found = await view.scalar(
        select(p.id).where(p.organization_id == organization_id, p.name == own, p.retired_at.is_(None))
    )
    if found is None:
        raise policy_unknown(name)
    return cast(UUID, found)


def policy_unknown(name: str) -> NotFound:
    """The refusal of a policy that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no policy "{name[:80]}".', code="policy-unknown", target="policy")


def note(tx: Transaction, principal: Principal, verb: str, ingress: Ingress, **detail: Any) -> None:
    """Record what was done to an ingress."""
    audit.record(
        tx, principal, f"ingress.{verb}", "ingress", ingress.full_name, organization=ingress.organization, **detail
    )


_TOLD = (
    "description", "listener", "hosts", "ip_rule", "policy", "revocation_source", "refresh_seconds", "forward",
    "fail_mode",
)  # fmt: skip


def _told(ingress: Ingress, name: str) -> Any:
    value = getattr(ingress, name)
    return list(value) if isinstance(value, tuple) else value


async def _set(tx: Transaction, ingress_id: UUID, **values: Any) -> None:
    await tx.execute(update(models.ingress).where(models.ingress.c.id == ingress_id).values(**values))


async def _permissive_time(view: Transaction, days: int | None) -> timedelta:
    longest = (await live_settings.current(view, AccessSettings)).permissive_days
    if days is not None and not 1 <= days <= longest:
        raise InvalidInput(
            f"An ingress may be permissive for 1 to {longest} days.", remedy="See the settings `access`.", target="days"
        )
    return timedelta(days=days or longest)


async def _domain(view: Transaction, organization_id: UUID, name: str) -> UUID:
    d = identities.trust_domain.c
    row = await view.one_or_none(
        select(d.id, d.state).where(d.name == name, d.organization_id == organization_id)
    )
    if row is None:
        raise NotFound(f'There is no trust domain "{name[:80]}".', code="domain-unknown", target="domain")
    if row["state"] == "retired":
        raise StateConflict(f'The trust domain "{name}" is retired.', code="domain-retired")
    return cast(UUID, row["id"])


async def _require_free(view: Transaction, organization_id: UUID, organization: str, name: str) -> None:
    i = models.ingress.c
    taken = select(i.created_at).where(i.organization_id == organization_id, i.name == name, i.retired_at.is_(None))
    if (since := await view.scalar(taken)) is not None:
        raise StateConflict(
            f'There is an ingress "{organization}~{name}" since {rfc3339(since)}.',
            code="ingress-exists",
            remedy="Choose another name, or edit it.",
            target="name",
        )


def _query() -> Select[Any]:
    i, o, d, p, r = (
        models.ingress, authority_models.organization, identities.trust_domain, models.policy, models.ingress_request,
    )  # fmt: skip
    waiting = select(r.c.id).where(r.c.ingress_id == i.c.id, r.c.state == "pending").limit(1).scalar_subquery()
    return (
        select(
            i,
            o.c.name.label("organization"),
            d.c.name.label("domain"),
            d.c.environment,
            p.c.name.label("policy"),
            waiting.label("request"),
        )
        .join(o, o.c.id == i.c.organization_id)
        .join(d, d.c.id == i.c.domain_id)
        .outerjoin(p, p.c.id == i.c.policy_id)
    )


def _ingress_of(row: Row | Mapping[Any, Any]) -> Ingress:
    same = (
        "id", "name", "organization", "domain", "environment", "type", "description", "listener", "mode", "mode_since",
        "permissive_until", "policy", "revocation_source", "refresh_seconds", "fail_mode", "token_made_at",
        "created_by", "created_at", "request", "organization_id", "domain_id", "policy_id",
        "rendered_at", "rendered_settings",
    )  # fmt: skip
    return Ingress(
        **{name: row[name] for name in same},
        hosts=tuple(row["hosts"]),
        ip_rule=None if row["ip_rule"] is None else tuple(row["ip_rule"]),
        forward=tuple(row["forward"]),
        rendered_trust=tuple(row["rendered_trust"]),
    )
