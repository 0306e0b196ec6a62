"""Registration authorities: the keys that messages are encrypted for and answers are signed with.

Every CA has one for each set of options that its endpoints ask for, certified by the CA itself on the path that every
certificate takes. It is made when it is first needed and renewed after two thirds of its life, or when the CA has a new
key; one that was replaced still decrypts, and answers, until its certificate ends. Source: RFC 8894 section 2.1.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, insert, select, update

from intaglio.audit.record import record
from intaglio.authority import internal_profiles, issuance, locks
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.models import certificate as certificate_table
from intaglio.core.errors import StateConflict
from intaglio.core.identifiers import new_id, serial_hex
from intaglio.core.principal import SYSTEM, Principal
from intaglio.db.engine import Transaction
from intaglio.enrollment.scep import models
from intaglio.enrollment.scep.options import RaOptions
from intaglio.keystore.service import Signer
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import AttributeValue, Name

#: How long a key is kept after the end of its certificate: clocks of devices differ.
KEY_RETENTION: Final = timedelta(days=1)
_LONGEST_COMMON_NAME: Final = 64
_BOTH: Final = ("digitalSignature", "keyEncipherment")


@dataclass(frozen=True)
class RegistrationAuthority:
    """One key, or two, with certificates. ``status`` is that of the certificates: valid, held or revoked.

    Messages are encrypted for ``certificate`` and answers signed under :attr:`signing_certificate`, often the same.
    """

    id: UUID
    ca_id: UUID
    generation: int
    options: RaOptions
    state: str
    key_id: UUID
    certificate_id: UUID
    certificate: CertificateInfo = field(repr=False)
    separate_key_id: UUID | None
    separate_certificate_id: UUID | None
    separate_certificate: CertificateInfo | None = field(repr=False)
    not_before: datetime
    not_after: datetime
    created_at: datetime
    status: str = "valid"

    @classmethod
    def of(cls, row: Mapping[Any, Any], status: str) -> RegistrationAuthority:
        signing = row["signing_certificate"]
        return cls(
            id=row["id"],
            ca_id=row["ca_id"],
            generation=row["generation"],
            options=RaOptions.model_validate(row["options"]),
            state=row["state"],
            key_id=row["key_id"],
            certificate_id=row["certificate_id"],
            certificate=read_certificate(row["certificate"]),
            separate_key_id=row["signing_key_id"],
            separate_certificate_id=row["signing_certificate_id"],
            separate_certificate=None if signing is None else read_certificate(signing),
            not_before=row["not_before"],
            not_after=row["not_after"],
            created_at=row["created_at"],
            status=status,
        )

    @property
    def signing_key_id(self) -> UUID:
        return self.separate_key_id or self.key_id

    @property
    def signing_certificate(self) -> CertificateInfo:
        return self.separate_certificate or self.certificate

    @property
    def certificates(self) -> tuple[CertificateInfo, ...]:
        """What clients are told: the certificate to encrypt for, then the one to verify with where it is another."""
        return (
            (self.certificate,) if self.separate_certificate is None else (self.certificate, self.separate_certificate)
        )

    @property
    def renew_at(self) -> datetime:
        """Two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3

    def is_due(self, ca: CaView, now: datetime) -> bool:
        """Whether another one is needed: this one is revoked, of an older key of the CA, or near its end, unless a new
        one could not last longer since the CA ends."""
        if self.status != "valid" or self.generation != ca.generation or self.not_before > now:
            return True
        return now >= self.renew_at and self.not_after < ca.certificate.not_after


async def ensure(authority: Authority, ca: CaView, options: RaOptions) -> RegistrationAuthority:
    """The registration authority of a CA, made or renewed now when there is none that is good for longer.

    Safe in any number of processes at once. Raises StateConflict (the CA cannot sign), NotFound or Refused (a profile
    that the CA does not offer, or that does not fit), NotSupported, Unavailable.
    """
    return await _replace_if(authority, SYSTEM, ca, options, force=False)


async def renew(authority: Authority, principal: Principal, ca: CaView, options: RaOptions) -> RegistrationAuthority:
    """A new registration authority in place of the one in use, whatever its age. Raises like :func:`ensure`."""
    return await _replace_if(authority, principal, ca, options, force=True)


async def load_all(view: Transaction, now: datetime) -> list[RegistrationAuthority]:
    """Those that answer or decrypt still, newest first."""
    table, c = models.ra, models.ra.c
    rows = await view.all(select(table).where(c.not_after > now).order_by(c.created_at.desc(), c.id.desc()))
    return await _with_status(view, rows)


async def destroy_old_keys(authority: Authority) -> int:
    """Destroy the keys of registration authorities that have ended; returns how many of these.

    One in use has not, unless no endpoint wants it any more.
    """
    c = models.ra.c
    async with authority.database.transaction() as tx:
        old = await tx.all(
            select(models.ra).where(c.not_after < tx.now - KEY_RETENTION).limit(100).with_for_update(skip_locked=True)
        )
        for row in old:
            await tx.execute(delete(models.ra).where(c.id == row["id"]))
            for key_id in filter(None, (row["key_id"], row["signing_key_id"])):
                await authority.keystore.destroy(tx, key_id)
    return len(old)


def options_digest(options: RaOptions) -> bytes:
    """What endpoints that share a registration authority agree in."""
    return hashlib.sha256(json.dumps(options.model_dump(mode="json"), sort_keys=True).encode()).digest()


async def _replace_if(
    authority: Authority, principal: Principal, ca: CaView, options: RaOptions, *, force: bool
) -> RegistrationAuthority:
    ca.require_active()
    c, digest = models.ra.c, options_digest(options)
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "scep-ra", ca.id, digest.hex())
        rows = await tx.all(select(models.ra).where(c.ca_id == ca.id, c.options_digest == digest, c.state == "current"))
        for current in await _with_status(tx, rows):
            if not force and not current.is_due(ca, tx.now):
                return current
        return await _make(authority, tx, principal, ca, options)


async def _make(
    authority: Authority, tx: Transaction, principal: Principal, ca: CaView, options: RaOptions
) -> RegistrationAuthority:
    if ca.certificate.not_after <= tx.now:
        raise StateConflict(f'CA "{ca.full_id}" has expired.', code="ca-expired")
    usages = ("keyEncipherment",) if options.separate else _BOTH
    key, issued = await _certify(authority, tx, principal, ca, options, usages)
    signing = await _certify(authority, tx, principal, ca, options, ("digitalSignature",)) if options.separate else None
    c, digest = models.ra.c, options_digest(options)
    await tx.execute(
        update(models.ra)
        .where(c.ca_id == ca.id, c.options_digest == digest, c.state == "current")
        .values(state="replaced")
    )
    row = {
        "id": new_id(),
        "ca_id": ca.id,
        "generation": ca.generation,
        "options": options.model_dump(mode="json"),
        "options_digest": digest,
        "state": "current",
        "key_id": key.key_id,
        "certificate_id": issued.id,
        "certificate": issued.der,
        "signing_key_id": None if signing is None else signing[0].key_id,
        "signing_certificate_id": None if signing is None else signing[1].id,
        "signing_certificate": None if signing is None else signing[1].der,
        "not_before": issued.not_before,
        "not_after": issued.not_after,
        "created_at": tx.now,
    }
    await tx.execute(insert(models.ra).values(**row))
    record(
        tx,
        principal,
        "scep-ra.certify",
        "ca",
        ca.full_id,
        organization=ca.organization,
        serial=serial_hex(issued.serial),
        not_after=issued.not_after.isoformat(),
        provider=options.provider,
    )
    tx.changed_configuration()
    return RegistrationAuthority.of(row, "valid")


async def _certify(
    authority: Authority, tx: Transaction, principal: Principal, ca: CaView, options: RaOptions, usages: tuple[str, ...]
) -> tuple[Signer, issuance.Issued]:
    """A new key with a certificate for these usages."""
    key = await authority.keystore.generate(
        tx,
        options.key_algorithm,
        f"scep:{ca.full_id}",
        provider=options.provider,
        principal=principal,
        decrypts="keyEncipherment" in usages,
    )
    profile, channel = _profile(ca, options, usages)
    request = IssuanceInput(
        subject=_subject(ca),
        spki=key.spki,
        key_algorithm=key.algorithm,
        channel=channel,
        validity=RequestedValidity(not_after=tx.now + timedelta(days=options.lifetime_days)),
        clamp_validity=True,
        shorten_only=options.profile is not None,
    )
    return key, await issuance.issue_in(authority, tx, principal, issuance.Order(ca, profile, request))


def _profile(ca: CaView, options: RaOptions, usages: tuple[str, ...]) -> tuple[CertificateProfile, Any]:
    chosen = options.fitting_profile(ca, usages)
    return (internal_profiles.registration_authority(usages), "platform") if chosen is None else (chosen, "scep")


def _subject(ca: CaView) -> Name:
    """The name of the CA with "SCEP RA" behind its common name."""
    rdns: list[list[AttributeValue]] = [
        [(attribute.oid, attribute.raw) for attribute in rdn]
        for rdn in ca.certificate.subject.attributes
        if all(attribute.oid != COMMON_NAME for attribute in rdn)
    ]
    common_name = (ca.certificate.subject.common_names or (ca.name,))[-1]
    return Name.build([*rdns, ("CN", f"{common_name[: _LONGEST_COMMON_NAME - 8]} SCEP RA")])


async def _with_status(view: Transaction, rows: Sequence[Mapping[Any, Any]]) -> list[RegistrationAuthority]:
    ids = {each for row in rows for each in _certificate_ids(row)}
    c = certificate_table.c
    bad = {
        found["id"]: found["status"]
        for found in await view.all(select(c.id, c.status).where(c.id.in_(ids), c.status != "valid"))
    }
    return [
        RegistrationAuthority.of(row, next((bad[each] for each in _certificate_ids(row) if each in bad), "valid"))
        for row in rows
    ]


def _certificate_ids(row: Mapping[Any, Any]) -> Iterable[UUID]:
    return filter(None, (row["certificate_id"], row["signing_certificate_id"]))
