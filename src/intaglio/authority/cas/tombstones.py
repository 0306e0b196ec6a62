"""What remains of a deleted CA: its row and id, its certificates, its last CRL."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update

from intaglio.authority import models
from intaglio.authority.cas.checks import RESERVATION
from intaglio.authority.client_users import drop_rights
from intaglio.db.engine import Transaction


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
