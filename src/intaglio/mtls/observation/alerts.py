"""Alerts: opened once per kind, subject and ingress; counted while they last; acknowledged and closed by people.

They are derived from what is recorded (access events, bindings), by any number of processes under one lock. Nothing is
silent for ever: a kind can be muted until a date, and goes on being counted meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from intaglio.audit import record as audit
from intaglio.authority import locks
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.access.ingress_values import one_of
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models as identities
from intaglio.mtls.observation import alert_channels
from intaglio.mtls.observation.alert_models import alert, alert_delivery, alert_mute

#: Kinds with what they mean.
KINDS: Final[Mapping[str, str]] = {
    "no-certificate": "Somebody connected without a certificate.",
    "expired-attempt": "An expired certificate was presented.",
    "unknown-ca": "A certificate of a CA that does not count there was presented.",
    "unusual-volume": "An identity asks far more often than it used to.",
    "expiry": "A certificate in use is about to end and was not renewed.",
    "revoked-attempt": "A revoked certificate was presented.",
    "rotation-failing": "A certificate that renews itself is overdue.",
    "key-received": "Somebody's private key was sent to us.",
    "drill-failed": "A drill that started by itself was not passed.",
    "new-network": "An identity came from a network that it was never seen in.",
}
SEVERITIES: Final = ("info", "warning", "critical")
_LONGEST_MUTE = timedelta(days=31)
_MOST_LISTED = 1000
_MOST_COUNTED = 2**31 - 1


@dataclass(frozen=True)
class Sighting:
    """Something that calls for an alert: how often it was seen since it was looked at last, and when."""

    organization_id: UUID
    kind: str
    subject: str
    ingress: str
    severity: str
    detail: str
    count: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True)
class Alert:
    """An alert. ``undelivered`` counts what the channels were not told yet, ``trouble`` says why not."""

    id: UUID
    organization: str
    kind: str
    subject: str
    ingress: str
    severity: str
    state: str
    detail: str
    count: int
    first_seen: datetime
    last_seen: datetime
    changed_by: str | None
    changed_at: datetime | None
    undelivered: int
    trouble: str


@dataclass(frozen=True)
class Mute:
    """A kind that nobody is told of until ``until``."""

    organization: str
    kind: str
    until: datetime
    reason: str
    muted_by: str


async def open_alert(tx: Transaction, seen: Sighting, *, add: bool = True) -> UUID:
    """Open an alert, or count it on the one that is not closed yet. The channels are told when it opens, and when it
    becomes more severe, unless its kind is muted. Without ``add`` the count is that of the sighting."""
    one_of(seen.kind, tuple(KINDS), "kind")
    row = await tx.one_or_none(_live(seen))
    if row is None:
        values = {name: getattr(seen, name) for name in seen.__dataclass_fields__}
        values["count"] = min(seen.count, _MOST_COUNTED)
        alert_id = new_id()
        await tx.execute(insert(alert).values(id=alert_id, state="open", opened_at=tx.now, **values))
        await _tell(tx, seen, alert_id, "opened")
        return alert_id
    worse = SEVERITIES.index(seen.severity) > SEVERITIES.index(row["severity"])
    count = row["count"] + seen.count if add else max(seen.count, row["count"])
    # Who is refused for long enough must not be able to stop alerts by what a column can hold.
    changed: dict[str, Any] = {"count": min(count, _MOST_COUNTED)}
    changed |= {"last_seen": max(seen.last_seen, row["last_seen"]), "detail": seen.detail}
    if worse:
        changed |= {"severity": seen.severity, "state": "open", "opened_at": tx.now}
    await tx.execute(update(alert).where(alert.c.id == row["id"]).values(**changed))
    if worse:
        await _tell(tx, seen, row["id"], "escalated")
    return row["id"]  # type: ignore[no-any-return]


async def key_received(
    tx: Transaction, organization_id: UUID | None, subject: str, at: str, source: str
) -> list[UUID]:
    """Open the alert that somebody's private key was sent to us: to the organization whose he is, or to every one with
    a trust domain when nobody knows. ``at`` is where it was sent to."""
    await locks.lock(tx, "mtls-alerts", "key-received")
    told: list[UUID] = [] if organization_id is None else [organization_id]
    if organization_id is None:
        told = [row["organization_id"] for row in await tx.all(_with_trust_domain())]
    detail = f"A private key was sent to {at} from {source or 'an unknown address'}. It was thrown away; "
    detail += "its owner has to make a new one."
    return [
        await open_alert(tx, Sighting(each, "key-received", subject, "", "critical", detail, 1, tx.now, tx.now))
        for each in told
    ]


async def escalate(tx: Transaction) -> int:
    """Have the second list told of alerts that nobody acknowledged in time; each once. Returns how many."""
    settings = await alert_channels.settings_of(tx)
    if not settings.escalation:
        return 0
    a, m = alert.c, alert_mute.c
    muted = select(m.kind).where(m.organization_id == a.organization_id, m.kind == a.kind, m.until > tx.now)
    overdue = func.coalesce(a.opened_at, a.first_seen) <= tx.now - timedelta(hours=settings.escalate_hours)
    waiting = select(a.id).where(a.state == "open", a.escalated_at.is_(None), overdue, ~muted.exists())
    found = await tx.all(waiting.order_by(a.id).limit(_MOST_LISTED).with_for_update(skip_locked=True))
    for row in found:
        await tx.execute(update(alert).where(a.id == row["id"]).values(escalated_at=tx.now))
        await _deliver_to(tx, row["id"], "escalation", "unacknowledged")
    return len(found)


async def list_alerts(mtls: Mtls, principal: Principal, organization: str) -> list[Alert]:
    """The alerts of an organization, newest first, at most 1000. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        query = _query().where(alert.c.organization_id == found.id).order_by(alert.c.id.desc()).limit(_MOST_LISTED)
        return [_alert_of(row) for row in await view.all(query)]


async def change_alert(mtls: Mtls, principal: Principal, alert_id: UUID, state: str) -> Alert:
    """Acknowledge or close an alert. Needs ``mtls.policy``. What goes on opens a new one after it was closed.

    Raises NotFound (``alert-unknown``), InvalidInput, StateConflict (``alert-closed``).
    """
    principal.require(Permission.MTLS_POLICY)
    one_of(state, ("acknowledged", "closed"), "state")
    async with mtls.database.transaction() as tx:
        query = _query().where(alert.c.id == alert_id)
        if not sees_all(principal):
            query = query.where(alert.c.organization_id.in_(memberships_of(principal.name)))
        row = await tx.one_or_none(query.with_for_update(of=alert))
        if row is None:
            raise NotFound(f"There is no alert {alert_id}.", code="alert-unknown")
        if row["state"] == "closed":
            raise StateConflict("The alert is closed.", code="alert-closed")
        values = {"state": state, "changed_by": principal.name, "changed_at": tx.now}
        await tx.execute(update(alert).where(alert.c.id == alert_id).values(**values))
        audit.record(
            tx, principal, f"alert.{state}", "alert", str(alert_id), organization=row["organization"],
            kind=row["kind"], subject=row["subject"],
        )  # fmt: skip
        return _alert_of({**row, **values})


async def mute(
    mtls: Mtls, principal: Principal, organization: str, kind: str, until: datetime, reason: str
) -> Mute:
    """Tell nobody of a kind until a date, a month ahead at most; a date that is past ends it. Needs ``mtls.policy``.

    Raises InvalidInput, NotFound.
    """
    one_of(kind, tuple(KINDS), "kind")
    if not 0 < len(reason.strip()) <= 500 or not reason.isprintable():
        raise InvalidInput("A reason has 1 to 500 printable characters.", target="reason")
    async with mtls.database.transaction() as tx:
        found = await require_organization(tx, principal, organization, Permission.MTLS_POLICY)
        if until.tzinfo is None or until > tx.now + _LONGEST_MUTE:
            raise InvalidInput(
                "An alert can be muted for 31 days at most.",
                code="mute-too-long",
                remedy="Give an earlier time, with its zone; no kind can be silenced for good.",
                target="until",
            )
        values = {"until": until, "reason": reason.strip(), "muted_by": principal.name, "muted_at": tx.now}
        made = insert(alert_mute).values(organization_id=found.id, kind=kind, **values)
        await tx.execute(made.on_conflict_do_update(index_elements=["organization_id", "kind"], set_=values))
        audit.record(
            tx, principal, "alert.mute", "organization", organization, organization=organization, kind=kind,
            until=rfc3339(until), reason=reason,
        )  # fmt: skip
        return Mute(organization, kind, until, reason.strip(), principal.name)


async def is_muted(view: Transaction, organization_id: UUID, kind: str) -> bool:
    """Whether nobody is to be told of a kind at this moment."""
    m = alert_mute.c
    wanted = (m.organization_id == organization_id, m.kind == kind, m.until > view.now)
    return await view.scalar(select(m.kind).where(*wanted)) is not None


def _live(seen: Sighting) -> Select[Any]:
    """The alert about the same that is not closed yet, locked."""
    a = alert.c
    about = (a.organization_id == seen.organization_id, a.kind == seen.kind, a.subject == seen.subject)
    return select(alert).where(*about, a.ingress == seen.ingress, a.state != "closed").with_for_update()


async def _tell(tx: Transaction, seen: Sighting, alert_id: UUID, cause: str) -> None:
    if await is_muted(tx, seen.organization_id, seen.kind):
        return
    for channel in (await alert_channels.settings_of(tx)).channels:
        await _deliver_to(tx, alert_id, channel, f"{cause} {seen.severity}")


async def _deliver_to(tx: Transaction, alert_id: UUID, channel: str, cause: str) -> None:
    made = insert(alert_delivery).values(
        id=new_id(), alert_id=alert_id, channel=channel, cause=cause, next_at=tx.now
    )
    await tx.execute(made.on_conflict_do_nothing(index_elements=["alert_id", "channel", "cause"]))


def _with_trust_domain() -> Select[Any]:
    t = identities.trust_domain.c
    return select(t.organization_id).where(t.state.in_(("active", "rotating"))).distinct().order_by(t.organization_id)


def _query() -> Select[Any]:
    o, d = authority_models.organization, alert_delivery.c
    waiting = (d.alert_id == alert.c.id, d.delivered_at.is_(None))
    return select(
        alert,
        o.c.name.label("organization"),
        select(func.count()).where(*waiting).scalar_subquery().label("undelivered"),
        select(func.coalesce(func.max(d.error), "")).where(*waiting).scalar_subquery().label("trouble"),
    ).join(o, o.c.id == alert.c.organization_id)


def _alert_of(row: Row | Mapping[Any, Any]) -> Alert:
    return Alert(**{name: row[name] for name in Alert.__dataclass_fields__})
