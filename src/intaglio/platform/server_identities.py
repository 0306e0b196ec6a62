"""Server identities: the TLS certificates and keys that the listeners serve.

One identity per listener, and ``default`` for all listeners without one of their own. A certificate is installed only
after every check; a bad one leaves the old in use. The key is sealed under the master key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Row, Transaction
from intaglio.platform.models import server_identity
from intaglio.platform.server_certificates import check_identity, describe_key, names_of, read_chain, read_key

DEFAULT = "default"
LISTENERS = (DEFAULT, "public", "console", "enroll", "gateway", "health")

Origin = Literal["platform", "imported"]


@dataclass(frozen=True)
class ServerIdentity:
    """What a listener serves: the chain (PEM, leaf first) and the key (PEM, PKCS#8, unencrypted)."""

    chain: bytes
    key: bytes = field(repr=False)
    not_after: datetime


class ServerIdentityInfo(BaseModel):
    """What may be shown of an identity."""

    model_config = ConfigDict(frozen=True)

    listener: str
    origin: Origin
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key_algorithm: str
    fingerprint: str  # SHA-256 of the certificate, hexadecimal
    self_signed: bool
    chain_length: int
    changed_at: datetime
    certificate_id: UUID | None


async def install(
    tx: Transaction,
    principal: Principal,
    master: MasterKey,
    chain: bytes,
    key: bytes,
    *,
    password: SecretStr | None = None,
    listener: str = DEFAULT,
    origin: Origin = "imported",
    certificate_id: UUID | None = None,
) -> ServerIdentityInfo:
    """Install or replace the identity of a listener; all processes serve it at once, connections stay.

    Arguments: ``chain`` is PEM, leaf first; ``key`` PEM or DER, encrypted when ``password`` is given;
    ``certificate_id`` links to our own certificate when the platform's CA issued it.

    Raises InvalidInput with the codes of :func:`~intaglio.platform.server_certificates.check_identity`
    (``key-mismatch``, ``weak-key``, ``weak-signature``, ``certificate-expired``, ``certificate-without-names``,
    ``chain-broken``, ``key-password-missing`` ...), NotFound for an unknown listener, Forbidden.
    """
    principal.require(Permission.PLATFORM_MANAGE)
    _require_listener(listener)
    certificates, private_key = read_chain(chain), read_key(key, password)
    # Not the beginning of the transaction: the platform's own certificate was made since.
    check_identity(certificates, private_key, at=clock.now())
    encoded = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    columns: dict[str, Any] = {
        "chain": b"".join(c.public_bytes(Encoding.PEM) for c in certificates).decode(),
        "sealed_key": master.seal(encoded, purpose=purpose_of(listener)),
        "origin": origin,
        "not_after": certificates[0].not_valid_after_utc,
        "changed_at": tx.now,
        "certificate_id": certificate_id,
    }
    statement = insert(server_identity).values(listener=listener, **columns)
    await tx.execute(statement.on_conflict_do_update(index_elements=["listener"], set_=columns))
    info = _info({"listener": listener, **columns})
    record(
        tx,
        principal,
        "server-identity.install",
        "listener",
        listener,
        origin=origin,
        subject=info.subject,
        names=list(info.names),
        fingerprint=info.fingerprint,
    )
    tx.changed_configuration()
    return info


async def remove(tx: Transaction, principal: Principal, listener: str) -> None:
    """Take a listener's own identity away; it serves the default one from now on. Raises NotFound, Forbidden,
    InvalidInput for the default itself: something must be served, so it is replaced."""
    principal.require(Permission.PLATFORM_MANAGE)
    if listener == DEFAULT:
        raise InvalidInput("The default identity can only be replaced.", code="default-identity", target="listener")
    if not (await tx.execute(delete(server_identity).where(server_identity.c.listener == listener))).rowcount:
        raise NotFound(f'The listener "{listener[:50]}" has no identity of its own.', code="listener-unknown")
    record(tx, principal, "server-identity.remove", "listener", listener)
    tx.changed_configuration()


async def load(view: Transaction, master: MasterKey, listener: str) -> ServerIdentity | None:
    """What ``listener`` serves: its own identity, else the default one, else None.

    Raises Unavailable when the key cannot be opened under the master key.
    """
    query = select(server_identity).where(server_identity.c.listener.in_([listener, DEFAULT]))
    rows = {row["listener"]: row for row in await view.all(query)}
    row = rows.get(listener) or rows.get(DEFAULT)
    if row is None:
        return None
    encoded = master.open(row["sealed_key"], purpose=purpose_of(row["listener"]))
    key = load_der_private_key(encoded, None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServerIdentity(row["chain"].encode(), pem, row["not_after"])


async def list_identities(view: Transaction, principal: Principal) -> list[ServerIdentityInfo]:
    """All identities by listener. Needs ``platform.manage``."""
    principal.require(Permission.PLATFORM_MANAGE)
    return [_info(row) for row in await view.all(select(server_identity).order_by(server_identity.c.listener))]


def purpose_of(listener: str) -> str:
    """What the sealed key of a listener is bound to."""
    return f"server-identity:{listener}"


def _require_listener(listener: str) -> None:
    if listener not in LISTENERS:
        raise NotFound(
            f'There is no listener "{listener[:50]}".',
            code="listener-unknown",
            remedy=f"There are: {', '.join(LISTENERS)}.",
            target="listener",
        )


def _info(row: Row) -> ServerIdentityInfo:
    chain = read_chain(row["chain"].encode())
    leaf: x509.Certificate = chain[0]
    return ServerIdentityInfo(
        listener=row["listener"],
        origin=row["origin"],
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        names=tuple(names_of(leaf)),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        key_algorithm=describe_key(leaf.public_key()),
        fingerprint=leaf.fingerprint(SHA256()).hex(),
        self_signed=leaf.subject == leaf.issuer,
        chain_length=len(chain),
        changed_at=row["changed_at"],
        certificate_id=row["certificate_id"],
    )
