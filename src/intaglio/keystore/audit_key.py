"""The key that seals the audit trail: made when first needed, rotated on request, its predecessors kept."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, text

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Database, Transaction
from intaglio.keystore.models import private_key
from intaglio.keystore.service import KeyStore, Signer

LABEL = "audit-seal"
_LOCK = 0x1A7A6140  # advisory lock: two processes that start at once must not each make a key


async def audit_signer(database: Database, keystore: KeyStore) -> Signer:
    """The current sealing key (ECDSA P-256); made when there is none."""
    async with database.read() as view:
        key_ids = await _key_ids(view)
        if key_ids:
            return await keystore.load(view, key_ids[-1])
    async with database.transaction() as tx:
        await tx.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        key_ids = await _key_ids(tx)
        if key_ids:
            return await keystore.load(tx, key_ids[-1])
        return await keystore.generate(tx, KeyAlgorithm.ECDSA_P256, LABEL)


async def rotate_audit_key(
    tx: Transaction, keystore: KeyStore, *, principal: Principal = SYSTEM, provider: str = "software"
) -> Signer:
    """Make a new sealing key; the next seal is signed with it. Older keys stay for verification."""
    principal.require(Permission.PLATFORM_MANAGE)
    return await keystore.generate(tx, KeyAlgorithm.ECDSA_P256, LABEL, provider=provider, principal=principal)


async def audit_public_keys(view: Transaction, keystore: KeyStore) -> dict[UUID, bytes]:
    """All sealing keys (SubjectPublicKeyInfo by key id).

    Only keys whose private half opens under the master key, or signs in its token, count: a key slipped into the table
    does not verify anything. Raises Unavailable when one does neither.
    """
    found = {}
    for key_id in await _key_ids(view):
        signer = await keystore.load(view, key_id)
        await keystore.prove(signer)
        found[key_id] = signer.spki
    return found


async def _key_ids(view: Transaction) -> list[UUID]:
    query = select(private_key.c.id).where(private_key.c.label == LABEL, private_key.c.destroyed_at.is_(None))
    return [row["id"] for row in await view.all(query.order_by(private_key.c.created_at, private_key.c.id))]
