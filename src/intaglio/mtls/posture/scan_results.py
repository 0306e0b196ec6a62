"""Results of scans, recorded so that the posture can judge them. Scans themselves run where the code and keys are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.authority.access import require_organization
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row
from intaglio.mtls.access.ingress_values import one_of
from intaglio.mtls.context import Mtls
from intaglio.mtls.posture.models import scan_result

KINDS: Final = ("code", "keys", "endpoints")
#: Findings of a scan that are kept; all are counted.
MOST_KEPT, MOST_FINDINGS = 200, 10_000
_LONGEST_PLACE, _LONGEST_TEXT = 300, 500


@dataclass(frozen=True)
class ScanFinding:
    """A finding of a scan; ``waived`` is the reason of an exception that stands next to it."""

    rule: str
    place: str
    text: str
    waived: str | None = None


@dataclass(frozen=True)
class ScanResult:
    """The newest result of a scan of one place."""

    id: UUID
    kind: str
    place: str
    complete: bool
    open_findings: int
    recorded_by: str
    recorded_at: datetime


async def record_scan(
    mtls: Mtls,
    principal: Principal,
    organization: str,
    kind: str,
    place: str,
    *,
    complete: bool,
    findings: Sequence[ScanFinding],
) -> ScanResult:
    """Record what a scan of ``place`` found, instead of what it found before. Needs ``mtls.identities``.

    Raises InvalidInput, NotFound.
    """
    one_of(kind, KINDS, "kind")
    if not 0 < len(place.strip()) <= _LONGEST_PLACE or not place.isprintable():
        raise InvalidInput(f"A place has 1 to {_LONGEST_PLACE} printable characters.", target="place")
    if len(findings) > MOST_FINDINGS:
        raise InvalidInput(f"A scan has at most {MOST_FINDINGS} findings.", target="findings")
    open_ = [each for each in findings if each.waived is None]
    kept = [
        {"rule": _cut(each.rule), "place": _cut(each.place), "text": _cut(each.text)} for each in open_[:MOST_KEPT]
    ]
    async with mtls.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.MTLS_IDENTITIES)
        values = {"complete": complete, "open_findings": len(open_), "findings": kept}
        values |= {"recorded_by": principal.name, "recorded_at": tx.now}
        made = insert(scan_result).values(
            id=new_id(), organization_id=found.id, kind=kind, place=place.strip(), **values
        )
        made = made.on_conflict_do_update(index_elements=["organization_id", "kind", "place"], set_=values)
        row = await tx.one_or_none(made.returning(*_SHOWN))
        assert row is not None
        audit.record(
            tx, principal, "scan.record", "organization", organization, organization=organization, kind=kind,
            place=place.strip(), open_findings=len(open_),
        )  # fmt: skip
        return _result_of(row)


async def list_scans(mtls: Mtls, principal: Principal, organization: str) -> list[ScanResult]:
    """The newest result of every scan. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        query = select(*_SHOWN).where(scan_result.c.organization_id == found.id)
        return [_result_of(row) for row in await view.all(query.order_by(scan_result.c.kind, scan_result.c.place))]


_SHOWN: Any = [scan_result.c[name] for name in ScanResult.__dataclass_fields__]


def _cut(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:_LONGEST_TEXT])


def _result_of(row: Row) -> ScanResult:
    return ScanResult(**{name: row[name] for name in ScanResult.__dataclass_fields__})
