"""Private keys that operators make themselves, such as one for a service whose certificate comes from elsewhere, and
certificate requests over them.

All need ``keys.manage``. Keys that something of the installation uses are shown, but not deleted here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Table, or_, select, text

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit.record import record
from intaglio.authority import locks
from intaglio.authority.context import Authority
from intaglio.core.errors import IntaglioError, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.base import metadata
from intaglio.db.engine import Transaction
from intaglio.keystore.audit_key import LABEL as AUDIT_LABEL
from intaglio.keystore.erasure import erase_due
from intaglio.keystore.migration import Migrated, migrate_key
from intaglio.keystore.models import private_key
from intaglio.keystore.service import Signer
from intaglio.x509.names import Name

_LOCK = "operator-keys"


@dataclass(frozen=True)
class KeyRequest:
    """A private key and a certificate request (PKCS #10, DER) over it."""

    key_id: UUID
    request: bytes


async def create_key(
    authority: Authority,
    principal: Principal,
    algorithm: KeyAlgorithm,
    *,
    provider: str = "software",
    label: str = "",
    subject: str | None = None,
) -> KeyRequest:
    """Make a key and a certificate request over it, for ``subject`` or else ``CN=<key id>``.

    Raises InvalidInput (``invalid-name``), NotSupported (provider, algorithm), StateConflict
    (``key-operation-running``), Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    wanted = Name.parse(subject) if subject is not None else None
    async with authority.database.transaction() as tx:
        await _alone(tx)
        keystore = authority.keystore
        signer = await keystore.generate(tx, algorithm, label or "key", provider=provider, principal=principal)
        request = await _signed_request(signer, wanted or _default_subject(signer.key_id))
    return KeyRequest(signer.key_id, request)


async def make_key_request(
    authority: Authority, principal: Principal, key_id: UUID, *, subject: str | None = None
) -> KeyRequest:
    """A certificate request over a key there is, for ``subject`` or else ``CN=<key id>``.

    Raises NotFound, InvalidInput (``invalid-name``), Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    wanted = Name.parse(subject) if subject is not None else _default_subject(key_id)
    async with authority.database.transaction() as tx:
        signer = await authority.keystore.load(tx, key_id)
        request = await _signed_request(signer, wanted)
        record(tx, principal, "key.request", "key", str(key_id), subject=wanted.rfc4514)
    return KeyRequest(key_id, request)


async def delete_key(authority: Authority, principal: Principal, key_id: UUID) -> bool:
    """Destroy a key that nothing uses, in its token too; returns whether it is gone there already.

    Raises NotFound, StateConflict (``key-in-use``, ``key-operation-running``).
    """
    principal.require(Permission.KEYS_MANAGE)
    async with authority.database.transaction() as tx:
        await _alone(tx)
        stored = await authority.keystore.stored(tx, key_id, lock=True)
        if (user := await user_of(tx, key_id)) is not None:
            raise StateConflict(
                f"The private key {key_id} ({stored.label}) is in use: {user}.",
                code="key-in-use",
                remedy="Delete or re-key what uses it; the key goes with it.",
            )
        await authority.keystore.destroy(tx, key_id, principal=principal)
    try:
        await erase_due(authority.database, authority.keystore)
        async with authority.database.read() as view:
            query = select(private_key.c.erasure_due).where(private_key.c.id == key_id)
            return not await view.scalar(query)
    except IntaglioError:
        return False


async def migrate_ca_or_key(
    authority: Authority, principal: Principal, name: str, to: str, *, keep: bool = False
) -> list[Migrated]:
    """Move a private key, or those of every generation of a CA and of its OCSP and CMP signers, to another place.

    ``name`` is the id of a key or ``{organization}~{ca}``. The keys of a CA that are there already are passed over.
    Raises NotFound, StateConflict (``key-is-there``), NotSupported (``key-not-exportable``), Unavailable; keys that
    were moved before the refusal stay moved.
    """
    principal.require(Permission.KEYS_MANAGE)
    moved = []
    for key_id in await _meant(authority, name, to):
        moved.append(await migrate_key(authority.database, authority.keystore, principal, key_id, to, keep=keep))
    if not moved:
        raise StateConflict(f'The keys of "{name}" are in "{to}" already.', code="key-is-there", target="to")
    with contextlib.suppress(IntaglioError):  # what is left in tokens is destroyed now, or later
        await erase_due(authority.database, authority.keystore)
    return moved


async def user_of(view: Transaction, key_id: UUID) -> str | None:
    """What uses a key: the table of a row that refers to it, or the audit trail; None when nothing does."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            refers = any(key.column is private_key.c.id for key in column.foreign_keys)
            if refers and await view.scalar(select(column).where(column == key_id).limit(1)) is not None:
                return _described(table)
    label = await view.scalar(select(private_key.c.label).where(private_key.c.id == key_id))
    return "it seals the audit trail" if label == AUDIT_LABEL else None


# ---- steps -----------------------------------------------------------------------------------------------------------


async def _meant(authority: Authority, name: str, to: str) -> list[UUID]:
    if "~" not in name:
        try:
            return [UUID(name)]
        except ValueError:
            raise NotFound(f'"{name[:80]}" is neither the id of a key nor a CA.', code="key-not-found") from None
    ca = (await authority.current()).ca(name)
    wanted = [key.key_id for key in ca.keys.values() if key.key_id is not None]
    c = private_key.c
    async with authority.database.read() as view:
        query = select(c.id).where(c.destroyed_at.is_(None), c.provider != to)
        signers = [c.label.startswith(f"{what}:{ca.full_id}/g", autoescape=True) for what in ("ocsp", "cmp")]
        mine = or_(c.id.in_(wanted), *signers)
        return [row["id"] for row in await view.all(query.where(mine).order_by(c.id))]


async def _signed_request(signer: Signer, subject: Name) -> bytes:
    """A PKCS #10 request that asks for nothing but the name. Source: RFC 2986 section 4."""
    info = der.sequence(der.integer(0), subject.der, signer.spki, der.explicit(0, b""))
    signature = await signer.sign(info)
    return der.sequence(info, signer.algorithm.signature_identifier, der.bit_string(signature))


def _default_subject(key_id: UUID) -> Name:
    return Name.build([("CN", str(key_id))])


async def _alone(tx: Transaction) -> None:
    """One operator at a time makes or deletes keys. Raises StateConflict, saying since when another one does."""
    if await locks.try_lock(tx, _LOCK):
        return
    since = await tx.one_or_none(text(_HOLDER), {"key": locks.number(_LOCK)})
    age = f" since {since['seconds']:.0f} seconds" if since is not None else ""
    raise StateConflict(
        f"Another instance is running key create or key delete{age}.",
        code="key-operation-running",
        remedy="Repeat it when that one has ended; its lock goes with it, however it ends.",
        retry_after=2,
    )


_HOLDER = """
SELECT extract(epoch FROM clock_timestamp() - a.xact_start) AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32) | l.objid::bigint = :key
LIMIT 1
"""


def _described(table: Table) -> str:
    return _USERS.get(table.name, f"by {table.name.replace('_', ' ')}")


_USERS: Mapping[str, str] = {
    "ca_key": "it is the key of a CA",
    "ocsp_signer": "it signs OCSP answers of a CA",
    "mtls_outbound_credential": "it belongs to an outbound interface",
    "timestamp_key": "it signs timestamps",
    "status_signer": "it signs OCSP answers of a status authority",
}
