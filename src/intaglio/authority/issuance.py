"""Issuing certificates: the one path, whoever asks.

1. decide on the current snapshot (the caller's policy, the CA, the profile)   2. prepare and lint   3. sign
4. commit row, event and audit record   5. hand out. When configuration moved between 1 and 4, start again at 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select

from intaglio.audit import record as audit
from intaglio.audit.models import AUDIT
from intaglio.authority import certificates, models
from intaglio.authority.commit import IssuedRow, RenewedChanged
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Refused, StateConflict
from intaglio.core.identifiers import new_id, new_serial_number, serial_hex
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.db.journal import EpochMoved
from intaglio.profiles.engine import IssuanceInput, PreparedCertificate
from intaglio.profiles.model import CertificateProfile

_ATTEMPTS = 8


@dataclass(frozen=True)
class Order:
    """What was decided to be issued: by which CA, with which profile, and from what.

    ``previous_id`` is the certificate that this one follows; with ``renewal`` that one has to be valid still when the
    new one is recorded. ``facts`` are what the audit record says besides.
    """

    ca: CaView
    profile: CertificateProfile
    input: IssuanceInput
    previous_id: UUID | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    renewal: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Idempotency:
    """A caller's promise that equal keys mean the same request (``request_hash`` is SHA-256 over the request)."""

    caller: str
    key: str
    request_hash: bytes

    @property
    def row(self) -> tuple[str, str, bytes]:
        """As it is recorded with its certificate."""
        return self.caller, self.key, self.request_hash


@dataclass(frozen=True)
class Issued:
    """An issued certificate, durable. ``chain`` is its issuers upwards, root last; ``repeated`` marks an answer that
    was kept for an Idempotency-Key."""

    id: UUID
    ca: CaView
    serial: bytes
    der: bytes
    subject: str
    not_before: datetime
    not_after: datetime
    profile: str
    warnings: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def chain(self) -> tuple[bytes, ...]:
        return self.ca.chain


Decide = Callable[[Snapshot], Order]


async def issue(
    authority: Authority,
    principal: Principal,
    decide: Decide,
    *,
    idempotency: Idempotency | None = None,
) -> Issued:
    """Issue one certificate.

    ``decide`` is pure: it takes the configuration and returns the order, or raises the refusal. It may be called
    several times. Raises what ``decide`` and the profile engine raise, StateConflict (Idempotency-Key reused for
    another request; a certificate to be renewed that was revoked or held), Unavailable (database or key store).
    """
    snapshot = await authority.snapshot()
    for _ in range(_ATTEMPTS):
        try:
            order = decide(snapshot)
        except IntaglioError:
            # What was refused may have been allowed on another process a moment ago.
            newest = await authority.current()
            if newest.epoch == snapshot.epoch:
                raise
            snapshot = newest
            continue
        try:
            if idempotency is not None:
                return await _issue_once(authority, principal, order, snapshot.epoch, idempotency)
            issued, row = await _sign(authority, principal, order)
            await authority.commits.commit(row, epoch=snapshot.epoch)
            return issued
        except EpochMoved:
            snapshot = await authority.directory.reload(beyond=snapshot.epoch)
        except RenewedChanged:
            await _require_renewable(authority, order)  # or it was put on hold for a moment only: try again
    raise StateConflict("The configuration keeps changing.", code="configuration-changed", remedy="Try again.")


async def issue_in(authority: Authority, tx: Transaction, principal: Principal, order: Order) -> Issued:
    """Issue as part of a larger transaction (CA certificates, client credentials, OCSP signers)."""
    issued, row = await _sign(authority, principal, order, at=tx.now, view=tx)
    await _insert(tx, order, row)
    return issued


async def preview(authority: Authority, decide: Decide) -> PreparedCertificate:
    """Decide, prepare and lint without signing or recording anything (``validateOnly``)."""
    order = decide(await authority.snapshot())
    serial = new_serial_number()
    compiled = order.ca.compile(order.profile, order.ca.partition_of(serial))
    return compiled.prepare(order.input, serial=serial, now=clock.now())


async def _issue_once(
    authority: Authority, principal: Principal, order: Order, epoch: int, idempotency: Idempotency
) -> Issued:
    """The certificate that was issued under this key before, or a new one.

    Of two at the same time one is recorded, by a unique row; the other is thrown away unseen.
    """
    if (known := await _kept(authority, order.ca, idempotency)) is not None:
        return known
    issued, row = await _sign(authority, principal, order)
    try:
        await authority.commits.commit(replace(row, once=idempotency.row), epoch=epoch)
    except StateConflict as error:
        if error.code != "already-exists" or (known := await _kept(authority, order.ca, idempotency)) is None:
            raise
        return known
    return issued


async def _require_renewable(authority: Authority, order: Order) -> None:
    assert order.previous_id is not None
    async with authority.database.read() as view:
        (await certificates.get_by_id(view, order.ca, order.previous_id)).require_renewable()


async def _sign(
    authority: Authority,
    principal: Principal,
    order: Order,
    *,
    at: datetime | None = None,
    view: Transaction | None = None,
) -> tuple[Issued, IssuedRow]:
    ca, now = order.ca, (at or clock.now().replace(microsecond=0))
    authority.require_clock()
    ca.require_active()
    if order.profile.kind != "ocsp-signer":  # status of what it issued before is answered for to the end
        ca.require_good_certificate()
    serial = new_serial_number()
    partition = ca.partition_of(serial)
    prepared = ca.compile(order.profile, partition).prepare(order.input, serial=serial, now=now)
    der = prepared.assemble(await _sign_tbs(authority, ca, prepared.tbs, view))
    certificate_id = new_id()
    issued = Issued(
        certificate_id, ca, serial, der, prepared.subject.rfc4514, prepared.not_before, prepared.not_after,
        order.profile.id, prepared.warnings,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "subject": issued.subject,
        "profile": order.profile.id,
        "not_after": clock.rfc3339(prepared.not_after),
        **order.facts,
    }
    if prepared.warnings:
        facts["warnings"] = list(prepared.warnings)
    name = f"{ca.full_id}/{serial_hex(serial)}"
    audit_row = audit.row(
        now, principal, "certificate.issue", "certificate", name, organization=ca.organization, **facts
    )
    row = IssuedRow(
        id=certificate_id,
        ca_id=ca.id,
        generation=ca.generation,
        partition=partition,
        serial=serial,
        subject=issued.subject,
        subject_key=prepared.subject.key,
        sans=tuple(prepared.san.text) if prepared.san is not None else (),
        profile=order.profile.id,
        not_before=prepared.not_before,
        not_after=prepared.not_after,
        issued_at=now,
        spki_sha256=hashlib.sha256(order.input.spki).digest(),
        der=der,
        previous_id=order.previous_id,
        renewal=order.renewal and order.previous_id is not None,
        requester=principal.name,
        channel=order.input.channel,
        properties=order.properties,
        audit=audit_row,
    )
    return issued, row


async def _sign_tbs(authority: Authority, ca: CaView, tbs: bytes, view: Transaction | None) -> bytes:
    key_id = ca.key.key_id
    if key_id is None:
        raise Refused(f'CA "{ca.full_id}" has no key here.', code="ca-has-no-key")
    signer = authority.keystore.cached(key_id)
    if signer is None and view is not None:
        signer = await authority.keystore.load(view, key_id)
    if signer is None:
        async with authority.database.read() as view:
            signer = await authority.keystore.load(view, key_id)
    return signer.sign_now(tbs) if signer.inline else await signer.sign(tbs)


async def _insert(tx: Transaction, order: Order, row: IssuedRow) -> None:
    if order.renewal and order.previous_id is not None:
        (await certificates.get_by_id(tx, order.ca, order.previous_id, keep=True)).require_renewable()
    await tx.execute(insert(models.certificate).values(row.columns))
    tx.append(
        models.EVENTS,
        {"at": row.issued_at, "ca_id": row.ca_id, "action": "issued", "certificate_id": row.id, "serial": row.serial,
         "reason": None, "detail": {}},
    )  # fmt: skip
    tx.append(AUDIT, row.audit)


async def _kept(authority: Authority, ca: CaView, idempotency: Idempotency) -> Issued | None:
    once, c = models.idempotency.c, models.certificate.c
    async with authority.database.read() as view:
        kept = await view.one_or_none(
            select(once.request_hash, models.certificate)
            .select_from(models.idempotency.outerjoin(models.certificate, c.id == once.certificate_id))
            .where(once.caller == idempotency.caller, once.key == idempotency.key)
        )
    if kept is None:
        return None
    if bytes(kept["request_hash"]) != idempotency.request_hash:
        raise StateConflict(
            "This Idempotency-Key was used for a different request.",
            code="idempotency-key-reused",
            remedy="Use a new key for a new request.",
        )
    if kept["ca_id"] != ca.id:
        raise StateConflict(
            "The certificate of this Idempotency-Key belongs to another CA.", code="idempotency-key-reused"
        )
    return Issued(
        kept["id"], ca, kept["serial"], kept["der"], kept["subject"], kept["not_before"], kept["not_after"],
        kept["profile"], repeated=True,
    )  # fmt: skip
