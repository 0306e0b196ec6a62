"""Delegated OCSP signers: one current per CA key, made by the CA itself, renewed long before its end.

Every key generation has its own, because a relying party accepts a delegated signer only when its certificate was
signed with the same key as the certificate in question. Source: RFC 6960 section 4.2.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, insert, select, update

from intaglio.asn1.algorithms import KeyAlgorithm, load_public_key
from intaglio.authority import issuance, locks, models
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core import clock
from intaglio.core.errors import NotSupported, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.profiles import registry
from intaglio.profiles.engine import IssuanceInput
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.names import AttributeValue, Name

#: How long the key of a replaced signer is kept after its certificate expired.
KEY_RETENTION = timedelta(days=1)

_LONGEST_COMMON_NAME = 64
_COLUMNS = [column for column in models.ocsp_signer.c if column.name != "current"]


@dataclass(frozen=True)
class OcspSigner:
    """A delegated signer; ``certificate`` is DER."""

    id: UUID
    ca_id: UUID
    generation: int
    key_id: UUID
    certificate_id: UUID
    certificate: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> OcspSigner:
        return cls(**{column.name: row[column.name] for column in _COLUMNS})

    @property
    def renew_at(self) -> datetime:
        """Two thirds of its life: ten days remain of thirty."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


async def ensure_signer(authority: Authority, ca: CaView, generation: int) -> OcspSigner:
    """The signer of a CA key, made or renewed now when there is none that is good for longer.

    Safe to call from any number of processes at once. Raises NotSupported (OCSP is off, key elsewhere), StateConflict
    (the CA has expired), Unavailable.
    """
    issuer = _issuing_view(ca, generation)
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "ocsp-signer", ca.id, generation)
        row = await tx.one_or_none(_current(ca, generation))
        if row is not None and not _is_due(row, issuer, tx.now):
            return OcspSigner.of(row)
        return await _replace(authority, tx, issuer, generation)


async def due_signers(view: Transaction, snapshot: Snapshot) -> Sequence[tuple[CaView, int]]:
    """Every (CA, key generation) whose signer is missing, near its end, or revoked."""
    now = clock.now()
    rows = await view.all(_current())
    signers = {(row["ca_id"], row["generation"]): row for row in rows}
    return [
        (ca, generation)
        for ca in snapshot.cas.values()
        for generation in _answerable(ca, now)
        if _is_due(signers.get((ca.id, generation)), _issuing_view(ca, generation), now)
    ]


async def destroy_old_keys(authority: Authority) -> int:
    """Destroy the keys of replaced signers whose certificates have expired; returns how many."""
    table = models.ocsp_signer
    async with authority.database.transaction() as tx:
        statement = select(table).where(table.c.current.is_(False), table.c.not_after < tx.now - KEY_RETENTION)
        old = await tx.all(statement.limit(100).with_for_update(skip_locked=True))
        for row in old:
            await tx.execute(delete(table).where(table.c.id == row["id"]))
            await authority.keystore.destroy(tx, row["key_id"])
    return len(old)


def _answerable(ca: CaView, now: datetime) -> Sequence[int]:
    """The key generations of a CA that OCSP answers are signed for."""
    if not ca.ocsp_enabled or ca.state not in ("active", "deleted"):
        return ()
    return [
        generation
        for generation, key in ca.keys.items()
        if key.key_id is not None and key.certificate is not None and key.certificate.not_after > now
    ]


def _issuing_view(ca: CaView, generation: int) -> CaView:
    """The CA as issuer of a signer: with that key, and also after deletion, for what it issued must stay checkable."""
    now = clock.now()
    if generation not in _answerable(ca, now):
        raise NotSupported(
            f'CA "{ca.full_id}" answers no OCSP requests for its key of generation {generation}.', code="ocsp-off"
        )
    algorithm = load_public_key(ca.keys[generation].spki)[1]
    return replace(ca, generation=generation, algorithm=algorithm, state="active", _compiled={})


def _current(ca: CaView | None = None, generation: int = 0) -> Select[Any]:
    """Current signers with the status of their certificates: of one CA key, or all."""
    signer, c = models.ocsp_signer.c, models.certificate.c
    joined = select(*_COLUMNS, c.status).join(models.certificate, c.id == signer.certificate_id)
    statement = joined.where(signer.current)
    return statement if ca is None else statement.where(signer.ca_id == ca.id, signer.generation == generation)


def _is_due(row: Mapping[Any, Any] | None, ca: CaView, now: datetime) -> bool:
    """Missing, revoked, made while the clock was ahead, or past two thirds of its life, unless a new one could not live
    longer since the CA ends."""
    if row is None or row["status"] != "valid":
        return True
    signer = OcspSigner.of(row)
    if signer.not_before > now:
        return True
    return now >= signer.renew_at and signer.not_after < ca.certificate.not_after


async def _replace(authority: Authority, tx: Transaction, ca: CaView, generation: int) -> OcspSigner:
    assert ca.ocsp_algorithm is not None
    if ca.certificate.not_after <= tx.now:
        raise StateConflict(f'CA "{ca.full_id}" has expired.', code="ca-expired")
    label = f"ocsp:{ca.full_id}/g{generation}"
    provider = await _provider(authority, tx, ca, generation)
    key = await authority.keystore.generate(tx, ca.ocsp_algorithm, label, provider=provider)
    request = IssuanceInput(
        subject=_subject(ca), spki=key.spki, key_algorithm=ca.ocsp_algorithm, channel="platform", clamp_validity=True
    )
    issued = await issuance.issue_in(authority, tx, SYSTEM, issuance.Order(ca, profile(), request))
    signer = OcspSigner(
        new_id(), ca.id, generation, key.key_id, issued.id, issued.der, issued.not_before, issued.not_after
    )
    table = models.ocsp_signer
    await tx.execute(
        update(table)
        .where(table.c.ca_id == ca.id, table.c.generation == generation, table.c.current)
        .values(current=False)
    )
    values = {column.name: getattr(signer, column.name) for column in _COLUMNS}
    await tx.execute(insert(table).values(**values, current=True))
    return signer


async def _provider(authority: Authority, tx: Transaction, ca: CaView, generation: int) -> str:
    """Where the signer's key is made: beside the CA's own unless the options of the CA say otherwise."""
    if ca.options.ocsp_key_provider is not None:
        return ca.options.ocsp_key_provider
    key_id = ca.keys[generation].key_id
    assert key_id is not None, "checked by _answerable"
    return (await authority.keystore.stored(tx, key_id)).provider


@cache
def profile() -> CertificateProfile:
    """basic-ocsp for every kind of key: the six types of the built-in profiles bind subscribers, not the platform.

    Nothing in it leads to more questions: whoever believes a signer without asking (id-pkix-ocsp-nocheck) needs neither
    CRLs nor another responder to ask about it.
    """
    changes = {"key_algorithms": tuple(KeyAlgorithm), "cdp": "never", "aia": "never"}
    return registry.get("basic-ocsp").model_copy(update=changes)


def _subject(ca: CaView) -> Name:
    """The CA's own name with "OCSP" behind its common name, so that people see whose answers it signs."""
    rdns: list[list[AttributeValue]] = [
        [(attribute.oid, attribute.raw) for attribute in rdn]
        for rdn in ca.certificate.subject.attributes
        if all(attribute.oid != COMMON_NAME for attribute in rdn)
    ]
    common_name = (ca.certificate.subject.common_names or (ca.name,))[-1]
    return Name.build([*rdns, ("CN", f"{common_name[: _LONGEST_COMMON_NAME - 5]} OCSP")])
