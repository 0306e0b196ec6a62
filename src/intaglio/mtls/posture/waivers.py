"""Waivers: findings that are borne for a while, with an owner, a reason and an end, agreed to by a second person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access.modes import who
from intaglio.mtls.context import Mtls
from intaglio.mtls.posture.checks import CHECKS
from intaglio.mtls.posture.models import waiver
from intaglio.mtls.posture.values import Waiver

LONGEST = timedelta(days=366)
_LONGEST_TEXT = 500


@dataclass(frozen=True)
class NewWaiver:
    """What is to be borne. ``subject`` is that of the finding, or ``*`` for all findings of the check."""

    organization: str
    check: str
    subject: str
    owner: str
    reason: str
    until: datetime


async def request_waiver(mtls: Mtls, principal: Principal, wanted: NewWaiver) -> Waiver:
    """Ask for a waiver, which counts once somebody else has approved it. Needs ``mtls.policy``.

    Raises InvalidInput, NotFound (``check-unknown``, organization).
    """
    if wanted.check not in CHECKS:
        raise NotFound(f'There is no check "{wanted.check[:20]}".', code="check-unknown", target="check")
    values = {
        "check": wanted.check,
        "subject": _text(wanted.subject, "subject"),
        "owner": _text(wanted.owner, "owner"),
        "reason": _text(wanted.reason, "reason"),
        "until": wanted.until,
    }
    async with mtls.database.transaction() as tx:
        organization = await require_organization(tx, principal, wanted.organization, Permission.MTLS_POLICY)
        _check_end(wanted.until, tx.now)
        waiver_id = new_id()
        values |= {"id": waiver_id, "organization_id": organization.id, "state": "pending"}
        await tx.execute(insert(waiver).values(**values, requested_by=who(principal), requested_at=tx.now))
        made = await _load(tx, waiver_id)
        _note(tx, principal, "request", made)
        return made


async def list_waivers(mtls: Mtls, principal: Principal, organization: str) -> list[Waiver]:
    """The waivers of an organization, newest first. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        return await waivers_of(view, found.id)


async def decide_waiver(
    mtls: Mtls, principal: Principal, waiver_id: UUID, verdict: Literal["approved", "rejected", "withdrawn"]
) -> Waiver:
    """Approve, reject or withdraw a waiver. Needs ``mtls.policy``; to approve one has to be another person than who
    asked. One that is approved can still be withdrawn.

    Raises NotFound (``waiver-unknown``), StateConflict (``waiver-decided``), Forbidden (``second-person-needed``).
    """
    principal.require(Permission.MTLS_POLICY)
    async with mtls.database.transaction() as tx:
        await tx.scalar(select(waiver.c.id).where(waiver.c.id == waiver_id).with_for_update())
        found = await _visible(tx, principal, waiver_id)
        if found.state != "pending" and not (found.state == "approved" and verdict == "withdrawn"):
            raise StateConflict(f"The waiver is {found.state}.", code="waiver-decided", remedy="Ask for a new one.")
        if verdict == "approved":
            _check_end(found.until, tx.now)
            if who(principal) == found.requested_by:
                raise Forbidden(
                    "Who asked for a waiver cannot approve it.",
                    code="second-person-needed",
                    remedy="Have another policy administrator approve it.",
                )
        values = {"state": verdict, "decided_by": who(principal), "decided_at": tx.now}
        await tx.execute(update(waiver).where(waiver.c.id == waiver_id).values(**values))
        decided = await _load(tx, waiver_id)
        _note(tx, principal, verdict, decided)
        return decided


async def waivers_of(view: Transaction, organization_id: UUID) -> list[Waiver]:
    """The waivers of an organization, newest first, whoever may see them."""
    query = _query().where(waiver.c.organization_id == organization_id).order_by(waiver.c.id.desc())
    return [_waiver_of(row) for row in await view.all(query)]


def _check_end(until: datetime, now: datetime) -> None:
    if until.tzinfo is None or not now < until <= now + LONGEST:
        raise InvalidInput(
            "A waiver ends in the future, within a year.",
            code="waiver-end-invalid",
            remedy=f"Give a time with zone between {rfc3339(now)} and {rfc3339(now + LONGEST)}.",
            target="until",
        )


def _text(text: str, target: str) -> str:
    found = text.strip()
    if not 0 < len(found) <= _LONGEST_TEXT or not found.isprintable():
        raise InvalidInput(f"This has 1 to {_LONGEST_TEXT} printable characters.", target=target)
    return found


async def _visible(tx: Transaction, principal: Principal, waiver_id: UUID) -> Waiver:
    query = _query().where(waiver.c.id == waiver_id)
    if not sees_all(principal):
        query = query.where(waiver.c.organization_id.in_(memberships_of(principal.name)))
    row = await tx.one_or_none(query)
    if row is None:
        raise NotFound(f"There is no waiver {waiver_id}.", code="waiver-unknown")
    return _waiver_of(row)


async def _load(view: Transaction, waiver_id: UUID) -> Waiver:
    row = await view.one_or_none(_query().where(waiver.c.id == waiver_id))
    assert row is not None
    return _waiver_of(row)


def _query() -> Select[Any]:
    o = authority_models.organization
    return select(waiver, o.c.name.label("organization")).join(o, o.c.id == waiver.c.organization_id)


def _waiver_of(row: Row) -> Waiver:
    return Waiver(**{name: row[name] for name in Waiver.__dataclass_fields__})


def _note(tx: Transaction, principal: Principal, verb: str, made: Waiver) -> None:
    audit.record(
        tx, principal, f"waiver.{verb}", "waiver", str(made.id), organization=made.organization, check=made.check,
        subject=made.subject, owner=made.owner, reason=made.reason, until=rfc3339(made.until),
    )  # fmt: skip
