"""Who signs the answers for a CA: a certificate of that CA itself, made when it is first needed and renewed in time.

A client that trusts the CA, or the root above it, trusts these answers without anything to configure. Its purpose
id-kp-cmcRA says that it may speak for the CA (RFC 9810 section 4.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, insert, select, update

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import internal_profiles, issuance, locks
from intaglio.authority import models as authority_models
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Transaction
from intaglio.enrollment.cmp.models import cmp_signer
from intaglio.keystore.service import Signer
from intaglio.profiles.engine import IssuanceInput
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import AttributeValue, Name

#: How long the key of a replaced signer is kept after its certificate expired.
KEY_RETENTION: Final = timedelta(days=1)
_REMEMBERED_SECONDS: Final = 30.0
_MOST_REMEMBERED: Final = 1_000
_LONGEST_COMMON_NAME: Final = 64
_COLUMNS = [column for column in cmp_signer.c if column.name != "current"]


@dataclass(frozen=True)
class SignerRecord:
    """A signer as it is stored; ``certificate`` is DER."""

    id: UUID
    ca_id: UUID
    generation: int
    key_id: UUID
    certificate_id: UUID
    certificate: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> SignerRecord:
        return cls(**{column.name: row[column.name] for column in _COLUMNS})

    @property
    def renew_at(self) -> datetime:
        """Two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


@dataclass(frozen=True)
class ResponseSigner:
    """A signer ready to sign. ``chain`` is the certificate and its issuers without the root, DER."""

    certificate: CertificateInfo
    key: Signer
    chain: tuple[bytes, ...] = field(repr=False)


class Signers:
    """The signers of one process, remembered for some seconds."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._known: dict[tuple[UUID, int], tuple[float, ResponseSigner]] = {}

    async def of(self, ca: CaView) -> ResponseSigner:
        """The signer of the current key of a CA, made now when there is none.

        Raises StateConflict (the CA has no certificate, or has expired), Unavailable.
        """
        known = self._known.get((ca.id, ca.generation))
        if known is not None and monotonic() < known[0]:
            return known[1]
        record = await ensure_signer(self._authority, ca)
        key = self._authority.keystore.cached(record.key_id)
        if key is None:
            async with self._authority.database.read() as view:
                key = await self._authority.keystore.load(view, record.key_id)
        above = ca.chain[:-1] if len(ca.chain) > 1 else ()
        ready = ResponseSigner(read_certificate(record.certificate), key, (record.certificate, *above))
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[ca.id, ca.generation] = monotonic() + _REMEMBERED_SECONDS, ready
        return ready


async def ensure_signer(authority: Authority, ca: CaView) -> SignerRecord:
    """The signer of the current key of a CA, made or renewed now when there is none that is good for longer.

    Safe to call from any number of processes at once. Raises StateConflict, Unavailable.
    """
    ca.require_active()
    async with authority.database.read() as view:
        row = await view.one_or_none(_current(ca))
    if row is not None and not _is_due(row, ca, clock.now()):
        return SignerRecord.of(row)
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "cmp-signer", ca.id, ca.generation)
        row = await tx.one_or_none(_current(ca))
        if row is not None and not _is_due(row, ca, tx.now):
            return SignerRecord.of(row)
        return await _replace(authority, tx, ca)


async def destroy_old_keys(authority: Authority) -> int:
    """Destroy the keys of signers whose certificates have expired; returns how many."""
    c = cmp_signer.c
    async with authority.database.transaction() as tx:
        over = select(cmp_signer).where(c.not_after < tx.now - KEY_RETENTION)
        old = await tx.all(over.limit(100).with_for_update(skip_locked=True))
        for row in old:
            await tx.execute(delete(cmp_signer).where(c.id == row["id"]))
            await authority.keystore.destroy(tx, row["key_id"])
    return len(old)


def _current(ca: CaView) -> Select[Any]:
    signer, certificate = cmp_signer.c, authority_models.certificate.c
    joined = select(*_COLUMNS, certificate.status).join(
        authority_models.certificate, certificate.id == signer.certificate_id
    )
    return joined.where(signer.current, signer.ca_id == ca.id, signer.generation == ca.generation)


def _is_due(row: Mapping[Any, Any], ca: CaView, now: datetime) -> bool:
    """Revoked, made while the clock was ahead, or past two thirds of its life, unless a new one could not live longer
    since the CA ends."""
    signer = SignerRecord.of(row)
    if row["status"] != "valid" or signer.not_before > now:
        return True
    return now >= signer.renew_at and signer.not_after < ca.certificate.not_after


async def _replace(authority: Authority, tx: Transaction, ca: CaView) -> SignerRecord:
    algorithm = _algorithm(ca)
    label = f"cmp:{ca.full_id}/g{ca.generation}"
    key_id = ca.key.key_id
    provider = "software" if key_id is None else (await authority.keystore.stored(tx, key_id)).provider
    key = await authority.keystore.generate(tx, algorithm, label, provider=provider)
    request = IssuanceInput(
        subject=signer_name(ca), spki=key.spki, key_algorithm=algorithm, channel="platform", clamp_validity=True
    )
    order = issuance.Order(ca, internal_profiles.cmp_protection(), request)
    issued = await issuance.issue_in(authority, tx, SYSTEM, order)
    signer = SignerRecord(
        new_id(), ca.id, ca.generation, key.key_id, issued.id, issued.der, issued.not_before, issued.not_after
    )
    c = cmp_signer.c
    await tx.execute(
        update(cmp_signer).where(c.ca_id == ca.id, c.generation == ca.generation, c.current).values(current=False)
    )
    values = {column.name: getattr(signer, column.name) for column in _COLUMNS}
    await tx.execute(insert(cmp_signer).values(**values, current=True))
    return signer


def _algorithm(ca: CaView) -> KeyAlgorithm:
    """What every client of the CA understands: the CA's own kind of key, of RSA the size that signs quickly."""
    assert ca.algorithm is not None, "an active CA has a key"
    if ca.algorithm in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096):
        return KeyAlgorithm.RSA_2048
    return ca.algorithm


def signer_name(ca: CaView) -> Name:
    """The name of the CA with "CMP" behind its common name, so that people see whose answers it signs."""
    rdns: list[list[AttributeValue]] = [
        [(attribute.oid, attribute.raw) for attribute in rdn]
        for rdn in ca.certificate.subject.attributes
        if all(attribute.oid != COMMON_NAME for attribute in rdn)
    ]
    common_name = (ca.certificate.subject.common_names or (ca.name,))[-1]
    return Name.build([*rdns, ("CN", f"{common_name[: _LONGEST_COMMON_NAME - 4]} CMP")])
