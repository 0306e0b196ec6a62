"""Trust edges: which service takes callers of which trust domain. They are the written design of who trusts whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, exists, insert, select, update

from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, models, names, registry
from intaglio.mtls.identities.values import Identity, TrustDomain

_TRUSTED = models.trust_domain.alias("trusted")


@dataclass(frozen=True)
class TrustEdge:
    """A service trusts callers of a trust domain; of its ``cas`` only, where any are named. ``state`` is proposed or
    approved."""

    id: UUID
    identity_id: UUID
    service: str
    domain: str
    environment: str
    trusted_domain: str
    cas: tuple[str, ...]
    reason: str
    state: str
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None
    approved_at: datetime | None


@dataclass(frozen=True)
class EdgePage:
    """A page of trust edges; ``next_cursor`` is None at the end."""

    edges: Sequence[TrustEdge]
    next_cursor: str | None
    total: int | None


async def propose_edge(
    mtls: Mtls,
    principal: Principal,
    service: UUID | str,
    trusted_domain: str,
    *,
    cas: Sequence[str] = (),
    reason: str = "",
) -> TrustEdge:
    """Propose that a service takes callers of a trust domain.

    Needs ``mtls.identities``, or ``mtls.own`` for one's own service. Raises NotFound, InvalidInput (no service; CAs
    that do not count in the trust domain), StateConflict (``edge-exists``; ``foreign-environment`` for a trust domain
    of another environment).
    """
    async with mtls.database.transaction() as tx:
        identity = await registry.visible_identity(tx, principal, service)
        await registry.require_may_use(tx, principal, identity)
        trusted = await domains.visible_domain(tx, principal, trusted_domain)
        _require_sensible(identity, trusted, cas)
        e = models.trust_edge
        same = select(e.c.id).where(e.c.identity_id == identity.id, e.c.trusted_domain_id == trusted.id)
        if await tx.scalar(same) is not None:
            raise StateConflict(
                f'"{identity.name}" trusts "{trusted.name}" already, or it was proposed.', code="edge-exists"
            )
        edge_id = new_id()
        values = {"id": edge_id, "identity_id": identity.id, "trusted_domain_id": trusted.id, "cas": sorted(set(cas))}
        values |= {"reason": names.plain_text(reason, target="reason"), "state": "proposed"}
        values |= {"proposed_by": principal.name, "proposed_at": tx.now}
        await tx.execute(insert(e).values(**values))
        edge = await _load(tx, edge_id)
        registry.note(tx, principal, "propose-edge", identity, trusts=trusted.name, cas=list(edge.cas))
        return edge


async def approve_edge(mtls: Mtls, principal: Principal, edge_id: UUID) -> TrustEdge:
    """Approve a trust edge. Needs ``mtls.policy``, and somebody else than who proposed it (but for the operator of the
    host, who may do everything anyway).

    Raises NotFound, Forbidden (``own-proposal``), StateConflict when it is approved already.
    """
    principal.require(Permission.MTLS_POLICY)
    async with mtls.database.transaction() as tx:
        edge, identity = await _locked(tx, principal, edge_id)
        if edge.state == "approved":
            raise StateConflict("This trust edge is approved already.", code="edge-approved")
        if edge.proposed_by == principal.name and principal.kind != "operator":
            raise Forbidden(
                "Who proposed a trust edge cannot approve it.",
                code="own-proposal",
                remedy="Ask another policy administrator.",
            )
        e = models.trust_edge
        values = {"state": "approved", "approved_by": principal.name, "approved_at": tx.now}
        await tx.execute(update(e).where(e.c.id == edge_id).values(**values))
        registry.note(tx, principal, "approve-edge", identity, trusts=edge.trusted_domain)
        return await _load(tx, edge_id)


async def remove_edge(mtls: Mtls, principal: Principal, edge_id: UUID) -> None:
    """Withdraw a trust edge. Needs ``mtls.identities``, or ``mtls.own`` for one's own service. Raises NotFound."""
    async with mtls.database.transaction() as tx:
        edge, identity = await _locked(tx, principal, edge_id)
        await registry.require_may_use(tx, principal, identity)
        await tx.execute(delete(models.trust_edge).where(models.trust_edge.c.id == edge_id))
        registry.note(tx, principal, "remove-edge", identity, trusts=edge.trusted_domain)


async def list_edges(mtls: Mtls, principal: Principal, asked: ListQuery) -> EdgePage:
    """A page of trust edges, newest first unless told otherwise. Needs ``mtls.view``, or ``mtls.own`` for one's own.

    ``asked.filter`` knows id, service, domain, environment, trusted_domain, state and proposed_at; sorted by id.
    """
    domains.require_reader(principal)
    e, i, d = models.trust_edge.c, models.identity.c, models.trust_domain.c
    columns = {
        "id": e.id, "service": i.name, "domain": d.name, "environment": d.environment,
        "trusted_domain": _TRUSTED.c.name, "state": e.state, "proposed_at": e.proposed_at,
    }  # fmt: skip
    query = edges_query().where(*registry.visible_to(principal))
    listing = Listing(query, columns, identity=e.id, sort="-id", sortable=frozenset({"id"}))
    async with mtls.database.read() as view:
        page = await listing.page(view, asked)
    return EdgePage([edge_of(row) for row in page.rows], page.next_cursor, page.total)


async def services_without_edges(view: Transaction, organization_id: UUID | None = None) -> list[Identity]:
    """Services that are not retired and have no approved trust edge: nobody wrote down whom they trust."""
    i, d, e = models.identity.c, models.trust_domain.c, models.trust_edge.c
    approved = exists().where(e.identity_id == i.id, e.state == "approved")
    query = (
        select(i.id)
        .join(models.trust_domain, d.id == i.domain_id)
        .where(i.kind == "service", i.state != "retired", ~approved)
    )
    if organization_id is not None:
        query = query.where(d.organization_id == organization_id)
    found = await registry.load_identities(view, [row["id"] for row in await view.all(query.order_by(i.id))])
    return list(found.values())


def edges_query() -> Select[Any]:
    """Trust edges with the names of their service and trust domains."""
    e, i, d = models.trust_edge, models.identity, models.trust_domain
    named = (i.c.name.label("service"), d.c.name.label("domain"), d.c.environment)
    return (
        select(e, *named, _TRUSTED.c.name.label("trusted_domain"))
        .join(i, i.c.id == e.c.identity_id)
        .join(d, d.c.id == i.c.domain_id)
        .join(_TRUSTED, _TRUSTED.c.id == e.c.trusted_domain_id)
    )


def edge_of(row: Row) -> TrustEdge:
    """The trust edge in a row of :func:`edges_query`."""
    return TrustEdge(
        id=row["id"],
        identity_id=row["identity_id"],
        service=row["service"],
        domain=row["domain"],
        environment=row["environment"],
        trusted_domain=row["trusted_domain"],
        cas=tuple(row["cas"]),
        reason=row["reason"],
        state=row["state"],
        proposed_by=row["proposed_by"],
        proposed_at=row["proposed_at"],
        approved_by=row["approved_by"],
        approved_at=row["approved_at"],
    )


def _require_sensible(identity: Identity, trusted: TrustDomain, cas: Sequence[str]) -> None:
    if identity.kind not in ("service", "workload"):
        raise InvalidInput(
            f'"{identity.name}" is a {identity.kind}; only services and workloads are called.',
            code="edge-not-a-service",
            target="service",
        )
    if trusted.environment != identity.environment:
        raise StateConflict(
            f'"{identity.name}" of {identity.environment} cannot trust callers of {trusted.environment}.',
            code="foreign-environment",
            remedy="Trust a trust domain of the same environment.",
            target="trusted_domain",
        )
    if unknown := sorted(set(cas) - set(trusted.cas)):
        raise InvalidInput(
            f'"{unknown[0][:80]}" does not count in "{trusted.name}".',
            code="ca-unknown",
            remedy=f"Name some of: {', '.join(trusted.cas) or 'none'}.",
            target="cas",
        )


async def _locked(tx: Transaction, principal: Principal, edge_id: UUID) -> tuple[TrustEdge, Identity]:
    e = models.trust_edge.c
    await tx.scalar(select(e.id).where(e.id == edge_id).with_for_update())
    edge = await _load(tx, edge_id)
    identity = await registry.load_identity(tx, edge.identity_id)
    try:
        await domains.require_visible(tx, principal, identity.domain)
    except NotFound:
        raise _unknown(edge_id) from None
    return edge, identity


async def _load(view: Transaction, edge_id: UUID) -> TrustEdge:
    row = await view.one_or_none(edges_query().where(models.trust_edge.c.id == edge_id))
    if row is None:
        raise _unknown(edge_id)
    return edge_of(row)


def _unknown(edge_id: UUID) -> NotFound:
    return NotFound(f"There is no trust edge {edge_id}.", code="edge-unknown", target="edge")
