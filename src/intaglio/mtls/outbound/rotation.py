"""From one credential to the next without a failed call, and what is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update

from intaglio.audit.record import record
from intaglio.authority import models as authority_models
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.names import plain_text
from intaglio.mtls.outbound import models
from intaglio.mtls.outbound.service import load, owned
from intaglio.mtls.outbound.values import LONG_LIVED, Outbound

_O, _C = models.outbound, models.outbound_credential
EARLY, LATE = timedelta(days=30), timedelta(hours=72)


async def switch(mtls: Mtls, principal: Principal, organization: str, name: str, *, reason: str = "") -> Outbound:
    """Use the new credential from the next call on; the one before stays valid for calls that are under way.

    Everybody who holds the old certificate must have been given the new one and have confirmed it, or a ``reason`` says
    why not. Raises StateConflict (``nothing-to-switch-to``, ``not-confirmed`` with who is missing), InvalidInput.
    """
    reason = plain_text(reason, target="reason")
    if reason and len(reason) < 5:
        raise InvalidInput("A reason is a sentence.", code="reason-missing", target="reason")
    async with mtls.database.transaction() as tx:
        found = await owned(tx, principal, organization, name)
        ready, current = found.credential("ready"), found.current
        if ready is None:
            raise StateConflict(
                "There is no new credential to switch to.",
                code="nothing-to-switch-to",
                remedy="Import one, or request and install a certificate.",
            )
        missing = missing_confirmations(found)
        if missing and not reason:
            raise StateConflict(
                f"Not everybody confirmed the new certificate: {', '.join(missing)}.",
                code="not-confirmed",
                remedy="Share it with them and record their confirmation, or give a reason.",
                extra={"missing": missing},
            )
        if current is not None:
            await tx.execute(update(_C).where(_C.c.id == current.id).values(state="superseded"))
        await tx.execute(update(_C).where(_C.c.id == ready.id).values(state="current", activated_at=tx.now))
        await tx.execute(update(_O).where(_O.c.id == found.id).values(state="active"))
        place = f"{organization}/{name}"
        facts: dict[str, Any] = {"reason": reason, "missing": missing}
        record(tx, principal, "outbound.switch", "outbound", place, organization=organization, **facts)
        return await load(tx, organization, name)


def missing_confirmations(found: Outbound) -> list[str]:
    """Who must still confirm the new certificate: everybody it was shared with, and everybody who holds the old one."""
    ready, current = found.credential("ready"), found.current
    if ready is None:
        return []
    confirmed = {each.api for each in ready.trusts if each.state == "confirmed"}
    wanted = {each.api for each in (*ready.trusts, *(current.trusts if current else ()))}
    return sorted(wanted - confirmed) or ([] if confirmed else ["nobody holds it yet"])


@dataclass(frozen=True)
class Due:
    """A credential in use that ends soon. ``stage`` is early (30 days), late (72 hours) or expired."""

    organization: str
    name: str
    not_after: datetime
    stage: Literal["early", "late", "expired"]
    successor: bool


async def due(view: Transaction, now: datetime) -> list[Due]:
    """The credentials in use that somebody must look after, by their end.

    72 hours before the end, and 30 days before it for certificates that live longer than 60 days; ``successor`` says
    whether a new one is ready.
    """
    org = authority_models.organization
    query = (
        select(_C.c.not_before, _C.c.not_after, _O.c.name, _O.c.state, org.c.name.label("organization"))
        .join(_O, _O.c.id == _C.c.outbound_id)
        .join(org, org.c.id == _O.c.organization_id)
        .where(_C.c.state == "current", _O.c.state != "retired", org.c.deleted_at.is_(None))
        .where(_C.c.not_after <= now + EARLY)
        .order_by(_C.c.not_after, _O.c.name)
    )
    found = []
    for row in await view.all(query):
        stage = _stage(row["not_before"], row["not_after"], now)
        if stage is not None:
            successor = row["state"] == "rotating"
            found.append(Due(row["organization"], row["name"], row["not_after"], stage, successor))
    return found


def _stage(start: datetime, end: datetime, now: datetime) -> Literal["early", "late", "expired"] | None:
    if now >= end:
        return "expired"
    if end - now <= LATE:
        return "late"
    return "early" if end - start > LONG_LIVED and end - now <= EARLY else None
