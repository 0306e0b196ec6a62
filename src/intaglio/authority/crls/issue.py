"""Issuing CRLs: complete and delta, whole and partitioned.

1. take the CA key's lock   2. read the finished entries and the event number they stand for, in one statement
3. assemble and sign in a thread   4. store with the next number and an audit record, one transaction.

The number is taken under the lock and rolled back with it, so numbers rise without gaps however many processes issue
and wherever one of them is killed. Source: RFC 5280 section 5.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import LargeBinary, Select, func, insert, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit import record as audit
from intaglio.authority import locks, models
from intaglio.authority.context import Authority
from intaglio.authority.crls import schedule, stored
from intaglio.authority.crls.schedule import Due
from intaglio.authority.crls.stored import CrlFacts, StoredCrl
from intaglio.authority.directory import CaKeyView, CaView
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import NotFound, NotSupported, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.db.journal import CRL_CHANNEL, journal_head
from intaglio.keystore.service import Signer
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.crls import assemble_crl, assemble_tbs_crl, issuing_distribution_point


@dataclass(frozen=True)
class _Scope:
    """What a CRL speaks for, and the key that signs it."""

    ca: CaView
    key: CaKeyView
    certificate: CertificateInfo
    partition: int

    @property
    def name(self) -> str:
        partition = f"/p{self.partition}" if self.partition else ""
        return f"{self.ca.full_id}/g{self.key.generation}{partition}"


@dataclass(frozen=True)
class _Entries:
    """Concatenated entries, their count, and the event number up to which they tell everything."""

    der: bytes
    count: int
    event_seq: int


async def issue_crl(
    authority: Authority, principal: Principal, ca: CaView, generation: int | None = None, *, partition: int = 0
) -> tuple[StoredCrl, ...]:
    """Issue a complete CRL now and, where deltas are on and have a base, the delta that goes with it.

    ``generation`` is the CA key (the current one by default), ``partition`` 0 the whole CA. Returns the complete CRL
    first. Raises Forbidden, NotFound (no such partition), NotSupported (CRLs are off), Refused (key is elsewhere),
    StateConflict, Unavailable.
    """
    principal.require(Permission.CA_OPERATE)
    scope = _scope(ca, generation or ca.generation, partition)
    async with authority.database.transaction() as tx:
        await locks.lock(tx, "crl", ca.id, scope.key.generation)
        await _require_partition(tx, scope)
        return await _issue_complete(authority, tx, principal, scope)


async def issue_if_due(authority: Authority, due: Due) -> tuple[StoredCrl, ...]:
    """Issue what is due, unless another process does so or has done so meanwhile; then nothing is returned."""
    scope = _scope(due.ca, due.generation, due.partition)
    async with authority.database.transaction() as tx:
        if not await locks.try_lock(tx, "crl", due.ca.id, due.generation):
            return ()
        if not await schedule.is_still_due(tx, due):
            return ()
        if due.delta:
            return await _issue_delta_alone(authority, tx, SYSTEM, scope)
        return await _issue_complete(authority, tx, SYSTEM, scope)


def _scope(ca: CaView, generation: int, partition: int) -> _Scope:
    key = ca.keys.get(generation)
    if key is None or key.certificate is None:
        raise StateConflict(f'CA "{ca.full_id}" has no certified key of generation {generation}.', code="ca-not-active")
    if key.key_id is None:
        raise Refused(f'CA "{ca.full_id}" publishes its CRL elsewhere: its key is not here.', code="ca-has-no-key")
    if ca.options.crl_interval is None:
        raise NotSupported(
            f'CA "{ca.full_id}" publishes no CRLs.', code="crl-off", remedy="Set the option crl_interval_hours."
        )
    return _Scope(ca, key, key.certificate, partition)


async def _require_partition(tx: Transaction, scope: _Scope) -> None:
    """Raise NotFound for a partition that no certificate of the CA can name: neither present nor former."""
    if scope.partition <= scope.ca.options.crl_partitions:
        return
    if await stored.latest_facts(tx, scope.ca, scope.key.generation, scope.partition) is None:
        raise NotFound(
            f'CA "{scope.ca.full_id}" has {scope.ca.options.crl_partitions} CRL partitions.',
            code="crl-partition-unknown",
            target="partition",
        )


async def _issue_complete(
    authority: Authority, tx: Transaction, principal: Principal, scope: _Scope
) -> tuple[StoredCrl, ...]:
    now = clock.now().replace(microsecond=0)
    ca, generation = scope.ca, scope.key.generation
    earlier = await stored.complete_crls(tx, ca, generation, scope.partition)
    entries = await _read(tx, _listed(scope, _horizon(ca, earlier, now)))
    next_update = await _next_update(tx, scope, now)
    number = await _next_number(tx, scope)
    facts = CrlFacts(
        ca.id, generation, scope.partition, False, number, None, now, next_update, entries.count, entries.event_seq, b""
    )
    issued = [await _sign_and_store(authority, tx, principal, scope, facts, entries)]
    if ca.options.delta_interval is not None and (base := _base(earlier, now)) is not None:
        # Issued together they carry the same number and tell the same (RFC 5280 section 5.2.4).
        issued.append(await _issue_delta(authority, tx, principal, scope, base, number, now, next_update))
    return tuple(issued)


async def _issue_delta_alone(
    authority: Authority, tx: Transaction, principal: Principal, scope: _Scope
) -> tuple[StoredCrl, ...]:
    now = clock.now().replace(microsecond=0)
    ca, generation = scope.ca, scope.key.generation
    complete = await stored.complete_crls(tx, ca, generation, scope.partition)
    previous = await stored.latest_facts(tx, ca, generation, scope.partition, True)
    # Without an earlier delta the changes are known for certain only since the newest complete CRL: taking a
    # certificate off hold leaves no trace while deltas are off.
    base = _base(complete if previous is not None else complete[:1], now)
    if base is None:
        return ()
    number = await _next_number(tx, scope)
    return (await _issue_delta(authority, tx, principal, scope, base, number, now, complete[0].next_update),)


async def _issue_delta(
    authority: Authority,
    tx: Transaction,
    principal: Principal,
    scope: _Scope,
    base: CrlFacts,
    number: int,
    now: datetime,
    latest_end: datetime,
) -> StoredCrl:
    interval = scope.ca.options.delta_interval
    assert interval is not None
    entries = await _read(tx, _changed(scope, base))
    # Twice the interval: one late delta does not leave relying parties without a valid one.
    next_update = min(now + 2 * interval, latest_end)
    facts = CrlFacts(
        scope.ca.id, scope.key.generation, scope.partition, True, number, base.number, now, next_update,
        entries.count, entries.event_seq, b"",
    )  # fmt: skip
    return await _sign_and_store(authority, tx, principal, scope, facts, entries)


# ---- what is on it ---------------------------------------------------------------------------------------------------


def _listed(scope: _Scope, horizon: datetime | None) -> Select[tuple[int, int, bytes]]:
    """Everything revoked or on hold in the scope that did not expire before ``horizon``.

    The whole CRL names no scope but its issuer, so it speaks for every key the CA ever had; a partition's CRL names its
    distribution point, which belongs to one key.
    """
    r = models.revocation.c
    statement = _aggregate().where(r.ca_id == scope.ca.id, r.removed_at.is_(None))
    if scope.partition:
        statement = statement.where(r.generation == scope.key.generation, r.partition == scope.partition)
    return statement if horizon is None else statement.where(r.not_after >= horizon)


def _changed(scope: _Scope, base: CrlFacts) -> Select[tuple[int, int, bytes]]:
    """Everything in the scope whose status changed since ``base``, certificates taken off hold as removeFromCRL."""
    r, e = models.revocation.c, models.certificate_event.c
    changed = select(e.serial).where(e.ca_id == scope.ca.id, e.seq > base.event_seq, e.action != "issued")
    statement = _aggregate().where(r.ca_id == scope.ca.id, r.serial.in_(changed))
    if scope.partition:
        statement = statement.where(r.generation == scope.key.generation, r.partition == scope.partition)
    return statement


def _aggregate() -> Select[tuple[int, int, bytes]]:
    """Count and concatenation by the server, with the event number of the same snapshot of the database."""
    r = models.revocation.c
    joined = func.string_agg(r.entry, aggregate_order_by(literal(b"", LargeBinary), r.revoked_at, r.serial))
    head = select(journal_head.c.event_seq).scalar_subquery()
    return select(head.label("event_seq"), func.count().label("count"), joined.label("entries"))


async def _read(tx: Transaction, statement: Select[tuple[int, int, bytes]]) -> _Entries:
    row = await tx.one_or_none(statement)
    assert row is not None  # an aggregate always has one row
    return _Entries(row["entries"] or b"", row["count"], row["event_seq"])


def _horizon(ca: CaView, earlier: Sequence[CrlFacts], now: datetime) -> datetime | None:
    """Entries of certificates that expired before this instant are left out; None keeps all.

    An entry may go only after it stood on a regular CRL issued past the expiry of its certificate (RFC 5280 section
    3.3), so it stays for one more interval after that.
    """
    if ca.options.keep_expired_on_crl or ca.options.crl_interval is None or not earlier:
        return None
    return min(earlier[0].this_update, now - ca.options.crl_interval)


def _base(complete: Sequence[CrlFacts], now: datetime) -> CrlFacts | None:
    """The oldest complete CRL that relying parties may still hold, so that all of them can apply the delta."""
    return next((facts for facts in reversed(complete) if facts.next_update > now), None)


async def _next_update(tx: Transaction, scope: _Scope, now: datetime) -> datetime:
    """The end of a complete CRL: its validity, never beyond the CA certificate that proves it; a deleted CA's last CRL
    holds until the last certificate has expired."""
    end = now + scope.ca.options.crl_validity
    if scope.ca.state == "deleted":
        c = models.certificate.c
        last = await tx.scalar(select(func.max(c.not_after)).where(c.ca_id == scope.ca.id))
        end = max(end, last) if last is not None else end
    limit = scope.certificate.not_after
    return min(end, limit) if limit > now else end


async def _next_number(tx: Transaction, scope: _Scope) -> int:
    table = models.crl_counter
    statement = upsert(table).values(ca_id=scope.ca.id, generation=scope.key.generation, number=1)
    statement = statement.on_conflict_do_update(
        index_elements=["ca_id", "generation"], set_={"number": table.c.number + 1}
    )
    return int(await tx.scalar(statement.returning(table.c.number)))


# ---- signing and storing ---------------------------------------------------------------------------------------------


async def _sign_and_store(
    authority: Authority, tx: Transaction, principal: Principal, scope: _Scope, facts: CrlFacts, entries: _Entries
) -> StoredCrl:
    assert scope.key.key_id is not None
    authority.require_clock()
    signer = await authority.keystore.load(tx, scope.key.key_id)
    der = await asyncio.to_thread(_assemble, signer, scope, facts, entries.der)
    facts = replace(facts, fingerprint=hashlib.sha256(der).digest())
    values = {column.name: getattr(facts, column.name) for column in stored.FACTS}
    await tx.execute(insert(models.crl).values(id=new_id(), der=der, **values))
    audit.record(
        tx, principal, "crl.issue", "crl", f"{scope.name}/{facts.number}", organization=scope.ca.organization,
        base_number=facts.base_number, entries=facts.entries, this_update=rfc3339(facts.this_update),
        next_update=rfc3339(facts.next_update),
    )  # fmt: skip
    tx.notify(CRL_CHANNEL)
    return StoredCrl(facts, der)


def _assemble(signer: Signer, scope: _Scope, facts: CrlFacts, entries: bytes) -> bytes:
    """Runs in a thread: a large CRL takes long enough to hash and sign to hold up everybody else."""
    ca, generation = scope.ca, scope.key.generation
    deltas = ca.options.delta_interval is not None and not facts.delta
    tbs = assemble_tbs_crl(
        signature_identifier=signer.algorithm.signature_identifier,
        issuer_der=scope.certificate.subject.der,
        this_update=facts.this_update,
        next_update=facts.next_update,
        entries=entries,
        number=facts.number,
        aki=scope.key.key_identifier,
        delta_base=facts.base_number,
        idp=issuing_distribution_point(ca.urls.crl(generation, scope.partition)) if scope.partition else None,
        freshest_urls=(ca.urls.crl(generation, scope.partition, delta=True),) if deltas else (),
    )
    return assemble_crl(tbs, signer.algorithm.signature_identifier, signer.sign_now(tbs))
