"""Verification: is the audit trail what was written, complete and in order?

Every seal's signature, its link to the seal before it, its hash tree and every record under it are checked, and the
end of the trail against the journal. Memory is constant: one seal at a time. With a checkpoint kept outside the
database, even a trail that was replaced as a whole is recognized.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select

from intaglio.asn1.algorithms import load_public_key
from intaglio.asn1.algorithms import verify as verify_signature
from intaglio.audit.merkle import HASH_LENGTH, root_hash
from intaglio.audit.models import audit_record, audit_seal
from intaglio.audit.sealing import FIRST_PREVIOUS, missing_leaf, record_leaf, seal_hash, signed_octets
from intaglio.core.errors import IntaglioError
from intaglio.db.engine import Row, Transaction
from intaglio.db.journal import journal_head

FindingKind = Literal[
    "record-edited",
    "record-missing",
    "record-inserted",
    "seal-missing",
    "seal-edited",
    "seal-forged",
    "chain-broken",
    "trail-truncated",
    "trail-replaced",
    "sealing-overdue",
]

MOST_FINDINGS = 1000
_BATCH = 500  # records hashed between two turns of the event loop: some ten milliseconds
_OVERDUE = timedelta(minutes=1)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: at which record, or under which seal."""

    kind: FindingKind
    text: str
    seq: int | None = None
    seal: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The newest seal at some time; kept elsewhere, it proves later that history was not replaced."""

    number: int
    last_seq: int
    hash: bytes


@dataclass
class Report:
    """The result of a verification. ``records`` and ``seals`` were examined; ``unsealed`` records have no seal yet."""

    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    seals: int = 0
    unsealed: int = 0
    checkpoint: Checkpoint | None = None
    truncated: bool = False  # there were more findings than are listed

    @property
    def intact(self) -> bool:
        return not self.findings

    @property
    def first_bad_seq(self) -> int | None:
        """The first record known to be wrong."""
        return min((finding.seq for finding in self.findings if finding.seq is not None), default=None)

    def add(self, kind: FindingKind, text: str, *, seq: int | None = None, seal: int | None = None) -> None:
        if len(self.findings) >= MOST_FINDINGS:
            self.truncated = True
        else:
            self.findings.append(Finding(kind, text, seq, seal))


async def verify(
    view: Transaction,
    public_keys: Mapping[UUID, bytes],
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check the whole trail.

    Arguments: ``public_keys`` are the trusted sealing keys (SubjectPublicKeyInfo by key id); ``checkpoint`` is one
    kept from an earlier report; ``progress`` is told records done and in total.
    """
    report = Report()
    head = int(await view.scalar(select(journal_head.c.audit_seq)))
    expected_number, expected_seq, previous = 1, 1, FIRST_PREVIOUS
    seen_checkpoint = checkpoint is None
    async for seal in _seals(view):
        number = seal["number"]
        if number != expected_number:
            report.add("seal-missing", f"Seal {expected_number} is missing.", seq=expected_seq, seal=expected_number)
        elif bytes(seal["previous"]) != previous:
            report.add("chain-broken", f"Seal {number} does not continue the seal before it.", seal=number)
        if number == expected_number and seal["first_seq"] != expected_seq:
            report.add("chain-broken", f"Seal {number} does not begin at record {expected_seq}.", seal=number)
        _check_signature(report, seal, public_keys)
        await _check_records(view, report, seal)
        previous, expected_number, expected_seq = seal_hash(seal), number + 1, seal["last_seq"] + 1
        report.seals += 1
        report.checkpoint = Checkpoint(number, seal["last_seq"], previous)
        if checkpoint is not None and number == checkpoint.number:
            seen_checkpoint = previous == checkpoint.hash
        progress(min(seal["last_seq"], head), head)
    if not seen_checkpoint and checkpoint is not None:
        number = checkpoint.number
        report.add("trail-replaced", f"Seal {number} is not the one of the checkpoint.", seal=number)
    await _check_unsealed(view, report, expected_seq, head)
    progress(head, head)
    return report


def public_key_pem(spki: bytes) -> str:
    """A sealing key's public half, to verify elsewhere."""
    key, _ = load_public_key(spki)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signature_is_valid(seal: Mapping[str, Any], spki: bytes) -> bool:
    """Whether a seal was signed by this key."""
    try:
        key, algorithm = load_public_key(spki)
    except IntaglioError:
        return False
    return verify_signature(key, algorithm.signature_oid, bytes(seal["signature"]), signed_octets(seal))


def _check_signature(report: Report, seal: Row, public_keys: Mapping[UUID, bytes]) -> None:
    number, spki = seal["number"], public_keys.get(seal["key_id"])
    if spki is None:
        report.add("seal-forged", f"Seal {number} is signed by an unknown key, {seal['key_id']}.", seal=number)
    elif not signature_is_valid(seal, spki):
        report.add("seal-edited", f"The signature of seal {number} is not valid.", seal=number)


async def _check_records(view: Transaction, report: Report, seal: Row) -> None:
    number, first_seq, last_seq = seal["number"], seal["first_seq"], seal["last_seq"]
    leaves, size = bytes(seal["leaves"]), last_seq - first_seq + 1
    known = [leaves[at : at + HASH_LENGTH] for at in range(0, len(leaves), HASH_LENGTH)]
    if len(known) != size or root_hash(known) != bytes(seal["root"]):
        report.add("seal-edited", f"The hash tree of seal {number} does not belong to its root.", seal=number)
        return
    expected = first_seq
    async for row in _records(view, first_seq, last_seq):
        for seq in range(expected, row["seq"]):
            _report_missing(report, seq, number, known[seq - first_seq])
        if record_leaf(row) != known[row["seq"] - first_seq]:
            report.add("record-edited", f"Record {row['seq']} is not what was sealed.", seq=row["seq"], seal=number)
        expected = row["seq"] + 1
        report.records += 1
    for seq in range(expected, last_seq + 1):
        _report_missing(report, seq, number, known[seq - first_seq])


def _report_missing(report: Report, seq: int, seal: int, leaf: bytes) -> None:
    when = "before it was sealed" if leaf == missing_leaf(seq) else "after it was sealed"
    report.add("record-missing", f"Record {seq} was deleted {when}.", seq=seq, seal=seal)


async def _check_unsealed(view: Transaction, report: Report, first_seq: int, head: int) -> None:
    """What no seal covers: numbers must still run without gaps to the journal's count, and nothing beyond it."""
    expected, oldest = first_seq, None
    async for row in _records(view, first_seq, head):
        for seq in range(expected, row["seq"]):
            report.add("record-missing", f"Record {seq} was deleted before it was sealed.", seq=seq)
        expected, oldest = row["seq"] + 1, oldest or row["at"]
        report.unsealed += 1
    if expected <= head:
        report.add("trail-truncated", f"The trail ends at record {expected - 1}, the journal at {head}.", seq=expected)
    if oldest is not None and view.now - oldest > _OVERDUE:
        report.add("sealing-overdue", f"Records since {oldest.isoformat()} are not sealed.", seq=first_seq)
    await _check_outside(view, report, max(head, first_seq - 1))


async def _check_outside(view: Transaction, report: Report, last_seq: int) -> None:
    query = select(audit_record.c.seq).where(~audit_record.c.seq.between(1, last_seq)).order_by(audit_record.c.seq)
    # A record written while we verify is above the count we started from, but not above the present one.
    present = await view.scalar(select(func.max(journal_head.c.audit_seq)))
    for row in await view.all(query.limit(MOST_FINDINGS)):
        if not last_seq < row["seq"] <= present:
            report.add("record-inserted", f"Record {row['seq']} was never journalled.", seq=row["seq"])


async def _seals(view: Transaction) -> AsyncIterator[Row]:
    last = 0
    while True:
        query = select(audit_seal).where(audit_seal.c.number > last).order_by(audit_seal.c.number).limit(1)
        seal = await view.one_or_none(query)
        if seal is None:
            return
        yield seal
        last = seal["number"]


async def _records(view: Transaction, first_seq: int, last_seq: int) -> AsyncIterator[Row]:
    while first_seq <= last_seq:
        query = select(audit_record).where(audit_record.c.seq.between(first_seq, last_seq))
        rows = await view.all(query.order_by(audit_record.c.seq).limit(_BATCH))
        for row in rows:
            yield row
        if len(rows) < _BATCH:
            return
        first_seq = rows[-1]["seq"] + 1
