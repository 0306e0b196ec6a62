"""What remains of a deleted CA: its row and id, its certificates, its last CRL."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update

from intaglio.authority import models
from intaglio.authority.cas.checks import RESERVATION
from intaglio.authority.client_users import drop_rights
from intaglio.db.engine import Transaction
from intaglio.identity import sessions


async def entomb(tx: Transaction, ca_id: UUID) -> datetime:
    """Mark one CA as deleted and take everybody's rights on it. Returns until when its id is reserved.

    The id stays reserved for 24 hours, and while a certificate of this CA has not expired: its URLs must not lead to
    somebody else.
    """
    c = models.certificate.c
    last = await tx.scalar(select(func.max(c.not_after)).where(c.ca_id == ca_id, c.not_after > tx.now))
    until = max(tx.now + RESERVATION, last or tx.now)
    values = {"state": "deleted", "deleted_at": tx.now, "reserved_until": until}
    await tx.execute(update(models.ca).where(models.ca.c.id == ca_id).values(**values))
    await tx.execute(delete(models.ca_request).where(models.ca_request.c.ca_id == ca_id))
    await drop_rights(tx, ca_id)
    return until


async def end_sessions_below(tx: Transaction, ca_id: UUID) -> int:
    """End the sessions that were opened with certificates of a deleted CA, or of a CA below it; returns how many.

    Call it after :func:`entomb`: whoever opens one holds on to the rows of the CAs above his certificate.
    """
    ca, c = models.ca, models.certificate.c
    below = select(ca.c.id).where(ca.c.id == ca_id).cte("below", recursive=True)
    below = below.union(select(ca.c.id).where(ca.c.issuer_id == below.c.id))
    return await sessions.end_sessions_of(tx, select(c.id).where(c.ca_id.in_(select(below.c.id))))
