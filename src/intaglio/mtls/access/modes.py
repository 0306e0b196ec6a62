"""Switching an ingress: off, permissive, enforce; and the second person who has to agree when evidence is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID

from sqlalchemy import insert, select, update

from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, sees_all
from intaglio.authority.configuration import changing
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access import models, readiness
from intaglio.mtls.access.ingress_values import MODES, Ingress, one_of
from intaglio.mtls.access.ingresses import load, locked, note, set_mode
from intaglio.mtls.access.settings import AccessSettings
from intaglio.mtls.context import Mtls
from intaglio.platform import live_settings

_LONGEST_REASON = 500


@dataclass(frozen=True)
class ModeRequest:
    """A wish to enforce without clean evidence; ``evidence`` is the readiness report as it was then.

    ``state`` is pending, approved, rejected, withdrawn or expired.
    """

    id: UUID
    ingress: str
    reason: str
    evidence: Mapping[str, Any]
    state: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None


@dataclass(frozen=True)
class ModeChange:
    """The ingress after the change; with ``request``, nothing has changed yet: a second person has to agree."""

    ingress: Ingress
    request: ModeRequest | None = None


async def change_mode(
    mtls: Mtls,
    principal: Principal,
    name: str,
    mode: str,
    *,
    force: bool = False,
    reason: str = "",
    days: int | None = None,
) -> ModeChange:
    """Switch the mode of an ingress. Needs ``mtls.policy``.

    ``enforce`` needs a clean readiness report; with ``force`` and a ``reason`` it becomes a request that another policy
    administrator approves. ``off`` needs a reason. From enforce to permissive (``days`` long) is always possible.
    Raises InvalidInput, NotFound, StateConflict (``ingress-not-ready`` with the report, ``request-pending``).
    """
    one_of(mode, MODES, "mode")
    if (mode == "off" or force) and not reason.strip():
        raise InvalidInput("This needs a reason.", remedy="Say why; it is recorded.", target="reason")
    _check_reason(reason)
    await readiness.flush_events(mtls)
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        ingress = await locked(tx, principal, name)
        if mode == ingress.mode != "permissive":
            return ModeChange(ingress)
        if mode == "enforce":
            found = await readiness.report(tx, ingress)
            if not found.ready:
                if not force:
                    raise _not_ready(ingress, found)
                return ModeChange(ingress, await _request(tx, principal, ingress, reason, found))
        after = await set_mode(tx, ingress, mode, days)
        note(tx, principal, "mode", after, mode=[ingress.mode, mode], reason=reason)
        return ModeChange(after)


async def list_requests(mtls: Mtls, principal: Principal) -> list[ModeRequest]:
    """Requests of the organizations one sees, newest first. Needs ``mtls.view``."""
    principal.require(Permission.MTLS_VIEW)
    async with mtls.database.read() as view:
        query = _query().order_by(models.ingress_request.c.id.desc()).limit(1000)
        if not sees_all(principal):
            query = query.where(models.ingress.c.organization_id.in_(memberships_of(principal.name)))
        return [_request_of(row, view.now) for row in await view.all(query)]


async def decide_request(
    mtls: Mtls, principal: Principal, request_id: UUID, verdict: Literal["approved", "rejected"]
) -> ModeChange:
    """Approve or reject a request. Needs ``mtls.policy``; to approve one has to be another person than who asked.

    Raises NotFound (``request-unknown``), StateConflict (``request-decided``, ``request-expired``), Forbidden
    (``second-person-needed``).
    """
    async with changing(mtls.authority, principal, Permission.MTLS_POLICY) as change:
        tx = change.tx
        ingress = await _ingress_of(tx, principal, request_id)
        row = await tx.one_or_none(_query().where(models.ingress_request.c.id == request_id))
        assert row is not None
        request = _request_of(row, tx.now)
        if request.state != "pending":
            code = "request-expired" if request.state == "expired" else "request-decided"
            remedy = "Ask again if it is still wanted."
            raise StateConflict(f"The request is {request.state}.", code=code, remedy=remedy)
        if verdict == "approved" and who(principal) == request.requested_by:
            raise Forbidden(
                "Who asked for it cannot approve it.",
                code="second-person-needed",
                remedy="Have another policy administrator approve it.",
            )
        r = models.ingress_request
        decided = {"state": verdict, "decided_by": who(principal), "decided_at": tx.now}
        await tx.execute(update(r).where(r.c.id == request_id).values(**decided))
        if verdict == "approved":
            before, ingress = ingress, await set_mode(tx, ingress, "enforce")
            note(tx, principal, "mode", ingress, mode=[before.mode, "enforce"], forced=True, request=str(request_id))
        else:
            ingress = await load(tx, ingress.id)
        note(tx, principal, f"request-{verdict}", ingress, request=str(request_id), requested_by=request.requested_by)
        return ModeChange(ingress, _request_of({**row, **decided}, tx.now))


def who(principal: Principal) -> str:
    """The person, told apart from others of another kind with the same name."""
    return f"{principal.kind}:{principal.name}"


async def _request(
    tx: Transaction, principal: Principal, ingress: Ingress, reason: str, found: readiness.Readiness
) -> ModeRequest:
    r = models.ingress_request
    expired = (r.c.ingress_id == ingress.id) & (r.c.state == "pending") & (r.c.expires_at <= tx.now)
    await tx.execute(update(r).where(expired).values(state="withdrawn", decided_at=tx.now))
    pending = await tx.scalar(select(r.c.id).where(r.c.ingress_id == ingress.id, r.c.state == "pending"))
    if pending is not None:
        raise StateConflict(
            f"Request {pending} for this ingress waits for approval already.",
            code="request-pending",
            remedy="Have it approved or rejected first.",
            extra={"request": str(pending)},
        )
    hours = (await live_settings.current(tx, AccessSettings)).request_hours
    values: dict[str, Any] = {
        "id": new_id(),
        "ingress_id": ingress.id,
        "kind": "enforce",
        "reason": reason.strip(),
        "evidence": found.as_json(),
        "state": "pending",
        "requested_by": who(principal),
        "requested_at": tx.now,
        "expires_at": tx.now + timedelta(hours=hours),
    }
    await tx.execute(insert(r).values(**values))
    note(tx, principal, "request-enforce", ingress, request=str(values["id"]), reason=reason, offences=found.offences)
    row = await tx.one_or_none(_query().where(r.c.id == values["id"]))
    assert row is not None
    return _request_of(row, tx.now)


def _not_ready(ingress: Ingress, found: readiness.Readiness) -> StateConflict:
    return StateConflict(
        f'Ingress "{ingress.full_name}" is not ready to enforce. {" ".join(found.why)}',
        code="ingress-not-ready",
        remedy="Look at its readiness report, give the callers certificates, or force it with a reason and a second "
        "person's approval.",
        extra={"readiness": found.as_json()},
    )


def _check_reason(reason: str) -> None:
    if len(reason) > _LONGEST_REASON or not reason.isprintable():
        raise InvalidInput(f"A reason has at most {_LONGEST_REASON} printable characters.", target="reason")


async def _ingress_of(tx: Transaction, principal: Principal, request_id: UUID) -> Ingress:
    """The ingress a request is about, locked. To who may not see it, the request does not exist either."""
    row = await tx.one_or_none(_query().where(models.ingress_request.c.id == request_id))
    if row is not None and row["retired_at"] is None:
        with contextlib.suppress(NotFound):
            return await locked(tx, principal, cast(str, row["ingress"]))
    raise NotFound(f"There is no request {request_id}.", code="request-unknown")


def _query() -> Any:
    r, i, o = models.ingress_request, models.ingress, authority_models.organization
    return (
        select(r, (o.c.name + "~" + i.c.name).label("ingress"), i.c.retired_at)
        .join(i, i.c.id == r.c.ingress_id)
        .join(o, o.c.id == i.c.organization_id)
    )


def _request_of(row: Row, now: datetime) -> ModeRequest:
    state = "expired" if row["state"] == "pending" and row["expires_at"] <= now else row["state"]
    names = (
        "id", "ingress", "reason", "evidence", "requested_by", "requested_at", "expires_at", "decided_by", "decided_at",
    )  # fmt: skip
    return ModeRequest(**{name: row[name] for name in names}, state=state)
