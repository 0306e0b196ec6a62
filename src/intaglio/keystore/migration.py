"""Moving a private key from one place to another: into a token, or out of one that lets it.

The key keeps its id and its public key, so whoever uses it notices nothing. What is moved has proved in its new place
that it signs before the old place gives it up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import insert, update

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import PrivateKey
from intaglio.audit.record import record
from intaglio.core.errors import NotSupported, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Database, Transaction
from intaglio.keystore.models import private_key
from intaglio.keystore.providers import Provider, SoftwareProvider, StoredKey, seal_key
from intaglio.keystore.service import KeyStore, take_back

_LONGEST_LABEL = 200


@dataclass(frozen=True)
class Migrated:
    """A key that was moved. ``kept`` says that the place it left still has it."""

    key_id: UUID
    label: str
    origin: str
    provider: str
    kept: bool
    protection: dict[str, bool | None] | None


async def migrate_key(
    database: Database, keystore: KeyStore, principal: Principal, key_id: UUID, to: str, *, keep: bool = False
) -> Migrated:
    """Move a private key to the provider ``to`` (``pkcs11:<token>`` or ``software``).

    ``keep`` leaves a copy in its old place: the sealed one in the database, by which it can come back, or the objects
    in the token. Needs ``keys.manage``. Raises NotFound, StateConflict (``key-is-there``), NotSupported
    (``key-not-exportable``, ``key-algorithm-not-in-tokens``), Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    async with database.transaction() as tx:
        stored = await keystore.stored(tx, key_id, lock=True)
        if stored.provider == to:
            raise StateConflict(f'The private key {key_id} is in "{to}" already.', code="key-is-there", target="to")
        source, target = await keystore.provider(tx, stored.provider), await keystore.provider(tx, to)
        key = await _taken_out(keystore, source, stored)
        values = await _put_in(tx, keystore, target, stored, key)
        if keep and values["sealed"] is None:
            values["sealed"] = stored.sealed
        await tx.execute(update(private_key).where(private_key.c.id == key_id).values(provider=to, **values))
        facts: dict[str, Any] = {"label": stored.label, "origin": stored.provider, "provider": to, "kept": keep}
        record(tx, principal, "key.migrate", "key", str(key_id), **facts, protection=values["protection"])
        tx.changed_configuration()
        if source.dispatcher is not None and not keep:
            await _leave_to_erasure(tx, stored)
        tx.after_commit(lambda: keystore.forget(key_id))
    return Migrated(key_id, stored.label, stored.provider, to, keep, values["protection"])


async def _leave_to_erasure(tx: Transaction, left: StoredKey) -> None:
    """Note that a token still has a key that moved away, so that it is destroyed there (:mod:`.erasure`), also when the
    token, or this process, is away by then."""
    await tx.execute(
        insert(private_key).values(
            id=new_id(),
            provider=left.provider,
            algorithm=left.algorithm.value,
            label=f"moved: {left.label}"[:_LONGEST_LABEL],
            public_key=left.spki,
            reference=left.reference,
            created_at=tx.now,
            destroyed_at=tx.now,
            erasure_due=True,
        )
    )


async def _taken_out(keystore: KeyStore, source: Provider, stored: StoredKey) -> PrivateKey:
    """The key itself: from the sealed copy where there is one, else from a token that lets it out."""
    from intaglio.keystore.pkcs11.provider import Pkcs11Provider

    if stored.sealed is not None:
        key = SoftwareProvider(keystore.master).load(stored)
    elif isinstance(source, Pkcs11Provider):
        key = await source.dispatcher.run(lambda: source.export_key(stored))
    else:
        raise NotSupported(f"Keys in {stored.provider} never leave it.", code="key-not-exportable")
    if algorithms.spki(key.public_key()) != stored.spki:
        raise StateConflict(f"The private key {stored.key_id} does not belong to its public key.", code="key-mismatch")
    return key


async def _put_in(
    tx: Transaction, keystore: KeyStore, target: Provider, stored: StoredKey, key: PrivateKey
) -> dict[str, Any]:
    """What the row says of the key in its new place, where it is from now on."""
    from intaglio.keystore.pkcs11.provider import Pkcs11Provider

    if not isinstance(target, Pkcs11Provider):
        return {"sealed": seal_key(keystore.master, stored.key_id, key), "reference": None, "protection": None}
    # Two tokens may be one, recorded under two names: what comes from a token never takes the place of what it was
    # there, nor is it taken away with it.
    reference = None if stored.provider == SoftwareProvider.name else new_id().bytes
    placed = replace(stored, provider=target.name, reference=reference or stored.key_id.bytes)
    tx.after_rollback(lambda: take_back(target, placed))
    if keystore.tokens is not None:
        await keystore.tokens.hold(tx, target.name)
    held = await target.dispatcher.run(lambda: target.import_key(placed, key))
    return {"sealed": None, "reference": reference, "protection": held.protection}
