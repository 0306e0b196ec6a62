"""Secrets of the service itself: made when first needed, sealed, the same on every process from then on."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Transaction
from intaglio.mtls.identities import models


def purpose_of(name: str) -> str:
    """What a sealed secret of this name is bound to."""
    return f"mtls-secret:{name}"


async def server_secret(tx: Transaction, master_key: MasterKey, name: str) -> bytes:
    """The 256-bit secret ``name``. Raises Unavailable when the master key does not open it."""
    table = models.secret
    sealed = await tx.scalar(select(table.c.sealed).where(table.c.name == name))
    if sealed is None:
        fresh = master_key.seal(secrets.token_bytes(32), purpose=purpose_of(name))
        made = upsert(table).values(name=name, sealed=fresh, created_at=tx.now)
        await tx.execute(made.on_conflict_do_nothing(index_elements=["name"]))
        sealed = await tx.scalar(select(table.c.sealed).where(table.c.name == name))
    return master_key.open(sealed, purpose=purpose_of(name))
