"""What calls for alerts: access events, volumes beyond the baseline, certificates that end and were not renewed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, literal, or_, select, update

from intaglio.authority import models as authority_models
from intaglio.core.clock import rfc3339
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.identities import models as identities
from intaglio.mtls.observation.alert_models import alert
from intaglio.mtls.observation.alerts import Sighting, open_alert
from intaglio.mtls.observation.models import access_event
from intaglio.mtls.observation.networks import look_at_networks
from intaglio.mtls.observation.progress import events_since_last_look

#: Who the alerts of a test are about. Its events are told by their recorder, which no certificate can name; they open
#: alerts only when the test itself looks.
TEST_CALLER = "alert-test"
_BASELINE_HOURS, _SIGMAS, _LEAST = 24, 4.0, 100
_NOTICE = timedelta(hours=72)
_URGENT = timedelta(hours=1)

_e = access_event.c
_reason = func.coalesce(func.nullif(_e.certificate_reason, ""), _e.reason)
_KIND = case(
    (_reason == "no_certificate", "no-certificate"),
    (_reason == "expired", "expired-attempt"),
    (_reason.in_(("unknown_ca", "self_signed", "wrong_environment")), "unknown-ca"),
    (_reason == "revoked", "revoked-attempt"),
)
_SEVERITY = {"revoked-attempt": "critical"}
_WORDS = {
    "no-certificate": "Connections without a certificate, the last one from {source}.",
    "expired-attempt": "Its expired certificate was presented, last from {source}.",
    "unknown-ca": "Certificates of CAs that do not count there, the last one from {source}.",
    "revoked-attempt": "Its revoked certificate was presented, last from {source}.",
}


async def look_at_events(tx: Transaction) -> int:
    """Open alerts for the access events that were recorded since the last look; returns for how many groups."""
    new = (*await events_since_last_look(tx), _e.recorder != "test")
    seen = await tx.all(_groups(*new))
    for row in seen:
        await open_alert(tx, _sighting(row))
    return len(seen) + len(await look_at_networks(tx, *new))


async def look_at_test(tx: Transaction, organization_id: UUID, since: datetime) -> list[UUID]:
    """The alerts opened for the events of a test."""
    seen = await tx.all(_groups(_e.organization_id == organization_id, _e.at >= since, _e.recorder == "test"))
    return [await open_alert(tx, _sighting(row)) for row in seen]


async def look_at_volumes(tx: Transaction, *, only: str | None = None) -> list[UUID]:
    """Open alerts for identities that asked more often in the last hour than mean and four standard deviations of the
    24 hours before it, and at least a hundred times."""
    start = tx.now - timedelta(hours=_BASELINE_HOURS + 1)
    who = _e.identity == only if only else and_(_e.identity != "", _e.recorder != "test")
    # Hours counted back from now: 0 is the last one.
    hour = func.floor(func.extract("epoch", literal(tx.now) - _e.at) / 3600).label("hour")
    hourly = (
        select(_e.organization_id, _e.identity, hour, func.count().label("n"), func.max(_e.at).label("last"))
        .where(_e.at > start, _e.kind == "request", _e.organization_id.is_not(None), who)
        .group_by(_e.organization_id, _e.identity, hour)
        .subquery()
    )
    now = func.coalesce(func.sum(case((hourly.c.hour <= 0, hourly.c.n))), 0)
    before = func.coalesce(func.sum(case((hourly.c.hour > 0, hourly.c.n))), 0) / float(_BASELINE_HOURS)
    squares = func.coalesce(func.sum(case((hourly.c.hour > 0, hourly.c.n * hourly.c.n))), 0) / float(_BASELINE_HOURS)
    deviation = func.sqrt(func.greatest(squares - before * before, 0.0))
    query = (
        select(
            hourly.c.organization_id, hourly.c.identity, now.label("n"), before.label("mean"),
            func.max(hourly.c.last).label("last"),
        )
        .group_by(hourly.c.organization_id, hourly.c.identity)
        .having(now >= _LEAST, now > before + _SIGMAS * deviation)
    )  # fmt: skip
    opened = []
    for row in await tx.all(query):
        detail = f"{row['n']} requests in the last hour, {float(row['mean']):.1f} an hour in the day before."
        seen = Sighting(
            row["organization_id"], "unusual-volume", row["identity"], "", "warning", detail, int(row["n"]),
            row["last"], row["last"],
        )  # fmt: skip
        opened.append(await open_alert(tx, seen, add=False))
    return opened


async def look_at_expiry(tx: Transaction) -> int:
    """Open alerts for certificates in use that end and were not renewed, and close those that were; returns how many
    are ending.

    Told 72 hours before the end, or after two thirds of a shorter life; when an hour is left (or a sixth of a life that
    an automatic channel should have renewed), it is critical.
    """
    b, i, d, c = identities.binding.c, identities.identity.c, identities.trust_domain.c, authority_models.certificate.c
    left, life = func.extract("epoch", b.not_after - tx.now), func.extract("epoch", b.not_after - b.not_before)
    query = (
        select(
            d.organization_id, i.kind, i.name, d.name.label("domain"), b.channel, b.not_before, b.not_after
        )
        .join_from(identities.binding, identities.identity, i.id == b.identity_id)
        .join(identities.trust_domain, d.id == i.domain_id)
        .join(authority_models.certificate, c.id == b.id)
        .where(
            b.not_after > tx.now, b.not_after <= tx.now + _NOTICE, left * 3 <= life, b.replaced_by.is_(None),
            c.status == "valid", i.state == "active", b.channel != "drill",
        )
        .order_by(b.not_after)
    )  # fmt: skip
    ending = await tx.all(query)
    kept: dict[str, set[tuple[UUID, str]]] = {"expiry": set(), "rotation-failing": set()}
    for row in ending:
        for seen in _ending(row, tx.now):
            kept[seen.kind].add((seen.organization_id, seen.subject))
            await open_alert(tx, seen, add=False)
    for kind, subjects in kept.items():
        await _close_settled(tx, kind, subjects)
    return len(ending)


def _ending(row: Row, now: datetime) -> list[Sighting]:
    subject, ends = f"{row['kind']}:{row['name']}@{row['domain']}", rfc3339(row["not_after"])
    left, life = row["not_after"] - now, row["not_after"] - row["not_before"]
    severity = "critical" if left <= _URGENT else "warning"
    detail = f"Its certificate ends {ends} and was not renewed."
    found = [Sighting(row["organization_id"], "expiry", subject, "", severity, detail, 1, now, now)]
    if row["channel"] not in ("manual", "page", "pipeline") and left <= life / 6:
        detail = f"Its renewal by {row['channel']} is overdue; the certificate ends {ends}."
        found.append(Sighting(row["organization_id"], "rotation-failing", subject, "", "critical", detail, 1, now, now))
    return found


async def _close_settled(tx: Transaction, kind: str, still: set[tuple[UUID, str]]) -> None:
    live = (alert.c.kind == kind, alert.c.state != "closed", alert.c.subject != TEST_CALLER)
    for row in await tx.all(select(alert.c.id, alert.c.organization_id, alert.c.subject).where(*live)):
        if (row["organization_id"], row["subject"]) not in still:
            values = {"state": "closed", "changed_by": "intaglio", "changed_at": tx.now}
            await tx.execute(update(alert).where(alert.c.id == row["id"]).values(**values))


def _groups(*conditions: ColumnElement[bool]) -> Any:
    # What strangers present is theirs to choose: such alerts are one per ingress, or they would open thousands. Logs of
    # others call certificates expired that nobody vouched for.
    strange = or_(_KIND.in_(("no-certificate", "unknown-ca")), _e.recorder == "import")
    named = case((_e.recorder == "test", TEST_CALLER), (strange, ""), else_=func.left(_e.claimed, 300))
    columns = (_e.organization_id, _KIND.label("kind"), named.label("subject"), _e.ingress)
    return (
        select(
            *columns,
            func.sum(_e.count).cast(BigInteger).label("count"),
            func.min(_e.at).label("first_seen"),
            func.max(_e.at).label("last_seen"),
            func.max(_e.source_ip).label("source"),
        )
        .where(*conditions, _e.organization_id.is_not(None), _KIND.is_not(None), _e.kind != "loss")
        .group_by(*columns)
    )


def _sighting(row: Row) -> Sighting:
    kind = row["kind"]
    return Sighting(
        row["organization_id"], kind, row["subject"], row["ingress"], _SEVERITY.get(kind, "warning"),
        _WORDS[kind].format(source=row["source"] or "an unknown address"), row["count"], row["first_seen"],
        row["last_seen"],
    )  # fmt: skip
