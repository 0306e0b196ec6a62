"""Whether an ingress may enforce: what would have been refused, had it done so."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, case, func, select

from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.access.ingresses import visible
from intaglio.mtls.access.settings import AccessSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation.models import access_event
from intaglio.platform import live_settings

MOST_OFFENDERS = 100


@dataclass(frozen=True)
class Offender:
    """A caller that got through only because the ingress does not enforce."""

    reason: str
    claimed: str
    source_ip: str
    count: int
    first_seen: datetime
    last_seen: datetime
    detail: str


@dataclass(frozen=True)
class Readiness:
    """What was seen at an ingress from ``since`` to ``until``.

    ``observed`` counts decisions that were made permissively, ``offences`` those of them that would have been refused,
    ``lost`` those of which no record could be kept. ``ready`` only when something was observed, nothing of it would
    have been refused and nothing is missing; ``why`` says what stands against it. ``by_reason`` counts offences;
    ``offenders`` are at most 100, the most frequent first.
    """

    ingress: str
    mode: str
    since: datetime
    until: datetime
    observed: int
    offences: int
    lost: int
    ready: bool
    why: tuple[str, ...]
    by_reason: dict[str, int]
    offenders: tuple[Offender, ...]

    def as_json(self) -> dict[str, Any]:
        """As evidence: JSON-safe."""
        offenders = [
            asdict(each) | {"first_seen": rfc3339(each.first_seen), "last_seen": rfc3339(each.last_seen)}
            for each in self.offenders
        ]
        return asdict(self) | {
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "why": list(self.why),
            "offenders": offenders,
        }


async def readiness(mtls: Mtls, principal: Principal, name: str, *, hours: int | None = None) -> Readiness:
    """The readiness report of an ingress over the last ``hours`` (default: the setting). Needs ``mtls.view``.

    Raises NotFound.
    """
    principal.require(Permission.MTLS_VIEW)
    await flush_events(mtls)
    async with mtls.database.read() as view:
        ingress = await visible(view, principal, name, Permission.MTLS_VIEW)
        return await report(view, ingress, hours)


async def flush_events(mtls: Mtls) -> None:
    """Write what this process has observed so far, if the database lets it."""
    with contextlib.suppress(IntaglioError):
        await mtls.events.flush()


async def report(view: Transaction, ingress: Ingress, hours: int | None = None) -> Readiness:
    """The same for an ingress at hand."""
    asked = hours or (await live_settings.current(view, AccessSettings)).readiness_hours
    # Events are as precise as the clock, a transaction only knows whole seconds.
    until = view.now + timedelta(seconds=1)
    since = max(view.now - timedelta(hours=asked), ingress.created_at)
    e = access_event.c
    within = (e.ingress_id == ingress.id, e.at >= since, e.at <= until)
    # Whoever is outside of the allowed networks is refused already; switching changes nothing for him.
    observed = (e.mode == "permissive") & (e.kind != "loss")
    offence = (e.mode == "permissive") & (e.decision == "allow") & (e.reason != "")
    counted = await view.one_or_none(
        select(
            _total(case((observed, e.count), else_=0)).label("observed"),
            _total(case((offence, e.count), else_=0)).label("offences"),
            _total(case((e.kind == "loss", e.count), else_=0)).label("lost"),
        ).where(*within)
    )
    assert counted is not None
    reasons = await view.all(
        select(e.reason, _total(e.count).label("count")).where(*within, offence).group_by(e.reason).order_by(e.reason)
    )
    grouped = (
        select(
            e.reason,
            e.claimed,
            e.source_ip,
            _total(e.count).label("count"),
            func.min(e.at).label("first_seen"),
            func.max(e.at).label("last_seen"),
            func.max(e.detail).label("detail"),
        )
        .where(*within, offence)
        .group_by(e.reason, e.claimed, e.source_ip)
        .order_by(_total(e.count).desc(), e.reason, e.claimed, e.source_ip)
    )
    offenders = tuple(Offender(**row) for row in await view.all(grouped.limit(MOST_OFFENDERS)))
    why = tuple(_why(counted["observed"], counted["offences"], int(counted["lost"])))
    return Readiness(
        ingress.full_name, ingress.mode, since, until, counted["observed"], counted["offences"], int(counted["lost"]),
        not why, why, {row["reason"]: row["count"] for row in reasons}, offenders,
    )  # fmt: skip


def _total(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0).cast(BigInteger)


def _why(observed: int, offences: int, lost: int) -> list[str]:
    found = []
    if not observed:
        found.append("Nothing was observed in permissive mode, so nobody can say who would be refused.")
    if offences:
        found.append(f"{offences} of {observed} observed requests would have been refused.")
    if lost:
        found.append(f"{lost} events could not be kept, and may have been offences.")
    return found
