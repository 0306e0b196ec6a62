"""Service edges: who calls whom inside, and whether mutual TLS protects the call. Declared, or seen at an ingress."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import Organization, memberships_of, require_organization, sees_all
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access.ingress_values import one_of
from intaglio.mtls.access.readiness import flush_events
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation.models import access_event
from intaglio.mtls.posture.models import service_edge
from intaglio.mtls.posture.values import EVENT_WINDOW

STATES: Final = ("none", "permissive", "enforced")
_LONGEST_NAME, _MOST_DISCOVERED = 300, 5000
EdgeMode = Literal["none", "permissive", "enforced"]


@dataclass(frozen=True)
class ServiceEdge:
    """A call from one service to another. ``state`` is how mutual TLS protects it."""

    id: UUID
    organization: str
    caller: str
    callee: str
    protocol: str
    state: EdgeMode
    origin: Literal["declared", "discovered"]
    changed_by: str
    changed_at: datetime


async def declare_edge(
    mtls: Mtls,
    principal: Principal,
    organization: str,
    caller: str,
    callee: str,
    state: str,
    *,
    protocol: str = "https",
) -> ServiceEdge:
    """Write down that ``caller`` calls ``callee``, or change how it does. Needs ``mtls.identities``.

    Raises InvalidInput, NotFound.
    """
    one_of(state, STATES, "state")
    values = {"caller": _name(caller, "caller"), "callee": _name(callee, "callee"), "state": state}
    values |= {"protocol": _name(protocol, "protocol"), "origin": "declared"}
    async with mtls.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES)
        edge_id = await _put(tx, principal, found, values)
        _note(tx, principal, "declare", organization, **values)
        return await _load(tx, edge_id)


async def discover_edges(mtls: Mtls, principal: Principal, organization: str) -> list[ServiceEdge]:
    """Write down the calls that ingresses have let in during the last seven days; declared ones stay as declared.

    What was seen at an ingress that enforces is enforced, else permissive; without a certificate none. Needs
    ``mtls.identities``. Raises NotFound.
    """
    await flush_events(mtls)
    async with mtls.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES)
        seen = await tx.all(_seen(found.id, tx.now))
        made = []
        for row in seen:
            values = {"caller": row["caller"][:_LONGEST_NAME], "callee": row["ingress"][:_LONGEST_NAME]}
            values |= {"protocol": "https", "origin": "discovered", "state": _state_of(row)}
            if (edge_id := await _put(tx, principal, found, values, keep_declared=True)) is not None:
                made.append(await _load(tx, edge_id))
        _note(tx, principal, "discover", organization, count=len(made))
        return made


async def list_edges(mtls: Mtls, principal: Principal, organization: str) -> list[ServiceEdge]:
    """The service edges of an organization. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        query = _query().where(service_edge.c.organization_id == found.id)
        order = (service_edge.c.caller, service_edge.c.callee, service_edge.c.protocol)
        return [_edge_of(row) for row in await view.all(query.order_by(*order))]


async def remove_edge(mtls: Mtls, principal: Principal, edge_id: UUID) -> None:
    """Forget a service edge. Needs ``mtls.identities``. Raises NotFound (``service-edge-unknown``)."""
    principal.require(Permission.MTLS_IDENTITIES)
    async with mtls.database.transaction() as tx:
        query = _query().where(service_edge.c.id == edge_id)
        if not sees_all(principal):
            query = query.where(service_edge.c.organization_id.in_(memberships_of(principal.name)))
        row = await tx.one_or_none(query)
        if row is None:
            raise NotFound(f"There is no service edge {edge_id}.", code="service-edge-unknown")
        await tx.execute(delete(service_edge).where(service_edge.c.id == edge_id))
        _note(tx, principal, "remove", row["organization"], caller=row["caller"], callee=row["callee"])


def _seen(organization_id: UUID, now: datetime) -> Select[Any]:
    """One row per caller and ingress; a caller without a good certificate is known by its address."""
    e = access_event.c
    caller = func.coalesce(func.nullif(e.identity, ""), e.source_ip)
    return (
        select(
            caller.label("caller"),
            e.ingress,
            func.bool_and(e.identity != "").label("proved"),
            func.bool_and(e.mode == "enforce").label("enforced"),
        )
        .where(
            e.organization_id == organization_id,
            e.at > now - EVENT_WINDOW,
            e.decision == "allow",
            e.ingress != "",
            caller != "",
        )
        .group_by(caller, e.ingress)
        .order_by(caller, e.ingress)
        .limit(_MOST_DISCOVERED)
    )


def _state_of(row: Row) -> str:
    if not row["proved"]:
        return "none"
    return "enforced" if row["enforced"] else "permissive"


async def _put(
    tx: Transaction,
    principal: Principal,
    organization: Organization,
    values: dict[str, Any],
    *,
    keep_declared: bool = False,
) -> UUID | None:
    """The id of the edge; None for a declared one that is kept."""
    changed = {"changed_by": principal.name, "changed_at": tx.now}
    made = insert(service_edge).values(id=new_id(), organization_id=organization.id, **values, **changed)
    renewed = {"state": values["state"], "origin": values["origin"], **changed}
    made = made.on_conflict_do_update(
        index_elements=["organization_id", "caller", "callee", "protocol"],
        set_=renewed,
        where=service_edge.c.origin == "discovered" if keep_declared else None,
    )
    row = await tx.one_or_none(made.returning(service_edge.c.id))
    return None if row is None else row["id"]


async def _load(view: Transaction, edge_id: UUID | None) -> ServiceEdge:
    row = await view.one_or_none(_query().where(service_edge.c.id == edge_id))
    assert row is not None
    return _edge_of(row)


def _query() -> Select[Any]:
    o = authority_models.organization
    return select(service_edge, o.c.name.label("organization")).join(o, o.c.id == service_edge.c.organization_id)


def _edge_of(row: Row) -> ServiceEdge:
    return ServiceEdge(**{name: row[name] for name in ServiceEdge.__dataclass_fields__})


def _name(text: str, target: str) -> str:
    found = text.strip()
    if not 0 < len(found) <= _LONGEST_NAME or not found.isprintable():
        raise InvalidInput(f"This has 1 to {_LONGEST_NAME} printable characters.", target=target)
    return found


def _note(tx: Transaction, principal: Principal, verb: str, organization: str, **detail: Any) -> None:
    action = f"service-edge.{verb}"
    audit.record(tx, principal, action, "organization", organization, organization=organization, **detail)
