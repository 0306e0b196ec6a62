"""Reading status authorities from their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from intaglio.authority import models as authority_models
from intaglio.core.errors import NotFound
from intaglio.db.engine import Transaction
from intaglio.validation import models
from intaglio.validation.authorities.values import Authority

_A, _I = models.status_authority, models.status_issuer
_CA, _ORG = authority_models.ca, authority_models.organization


async def load_all(view: Transaction, *, enabled_only: bool = False) -> list[Authority]:
    """Every status authority, by name."""
    query = _authorities()
    rows = await view.all((query.where(_A.c.enabled) if enabled_only else query).order_by(_A.c.name))
    return await _with_issuers(view, rows)


async def load(view: Transaction, name: str, *, lock: bool = False) -> Authority:
    """One status authority. Raises NotFound (``status-authority-unknown``)."""
    query = _authorities().where(_A.c.name == name)
    rows = await view.all(query.with_for_update(of=_A) if lock else query)
    if not rows:
        raise unknown(name)
    return (await _with_issuers(view, rows))[0]


async def load_by_id(view: Transaction, authority_id: UUID) -> Authority | None:
    """The status authority with this id; None when it was deleted."""
    rows = await view.all(_authorities().where(_A.c.id == authority_id))
    return (await _with_issuers(view, rows))[0] if rows else None


def unknown(name: str) -> NotFound:
    """The refusal of a name that no status authority has."""
    return NotFound(
        f'There is no status authority "{name[:100]}".',
        code="status-authority-unknown",
        remedy="List them with: intaglio ocsp authority list",
    )


def _authorities() -> Select[Any]:
    joined = _A.outerjoin(_CA, _CA.c.id == _A.c.ca_id).outerjoin(_ORG, _ORG.c.id == _CA.c.organization_id)
    return select(_A, _CA.c.name.label("ca_name"), _ORG.c.name.label("organization_name")).select_from(joined)


async def _with_issuers(view: Transaction, rows: Sequence[Mapping[Any, Any]]) -> list[Authority]:
    wanted = [row["id"] for row in rows]
    query = select(_I.c.authority_id, _I.c.certificate).where(_I.c.authority_id.in_(wanted))
    issuers: dict[UUID, list[bytes]] = {}
    for row in await view.all(query.order_by(_I.c.authority_id, _I.c.position)):
        issuers.setdefault(row["authority_id"], []).append(row["certificate"])
    return [
        Authority.of(
            row,
            tuple(issuers.get(row["id"], ())),
            f"{row['organization_name']}~{row['ca_name']}" if row["ca_name"] else None,
        )
        for row in rows
    ]
