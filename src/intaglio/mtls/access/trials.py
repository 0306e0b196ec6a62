"""Policies tried without consequences: on recorded traffic, and on one made-up request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from intaglio.authority import models as authority_models
from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row
from intaglio.mtls.access import models
from intaglio.mtls.access.cedar import CompiledPolicy, PolicyRequest
from intaglio.mtls.access.configuration import address_of
from intaglio.mtls.access.policies import compiled, load_version, visible
from intaglio.mtls.access.policy_values import PolicyCase, PolicyVersion, check_cases
from intaglio.mtls.access.readiness import flush_events
from intaglio.mtls.access.routes import normalized_host, normalized_path
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.attributes import read_identity
from intaglio.mtls.identities.values import CertifiedIdentity
from intaglio.mtls.observation.models import access_event
from intaglio.x509.certificates import read_certificate

MOST_REQUESTS = 10_000
MOST_CHANGES = 200


@dataclass(frozen=True)
class ChangedDecision:
    """Requests that would be decided differently. ``before`` and ``after`` are allow or deny."""

    identity: str
    ingress: str
    method: str
    host: str
    path: str
    source_ip: str
    before: str
    after: str
    rules: tuple[str, ...]
    count: int
    last_seen: datetime


@dataclass(frozen=True)
class DryRun:
    """What a version would have decided about the recorded requests of the last ``hours``.

    ``requests`` counts those that were tried, ``distinct`` how many different ones they were; ``complete`` is False
    when there were more than could be tried. ``changes`` are at most 200, the most frequent first.
    """

    policy: str
    version: int
    hours: int
    requests: int
    distinct: int
    complete: bool
    newly_allowed: int
    newly_denied: int
    changes: tuple[ChangedDecision, ...]


@dataclass(frozen=True)
class Explanation:
    """What a version answers to a request, and from what. ``rules`` are the rules that determined it."""

    policy: str
    version: int
    allowed: bool
    rules: tuple[str, ...]
    principal: dict[str, Any]
    action: str
    path: str


async def dry_run(
    mtls: Mtls, principal: Principal, name: str, version: int | None = None, *, hours: int = 24
) -> DryRun:
    """Decide recorded requests again by a version (default: the newest), at all ingresses of the policy.

    Only requests whose certificate was good are tried: no policy was asked about the others. Who called is read from
    the certificate that was issued then. Needs ``mtls.view``. Raises NotFound, InvalidInput.
    """
    if not 1 <= hours <= 24 * 366:
        raise InvalidInput("hours is 1 to 8784.", target="hours")
    await flush_events(mtls)
    async with mtls.database.read() as view:
        policy = await visible(view, principal, name, Permission.MTLS_VIEW)
        found = await load_version(view, policy, policy.latest_version if version is None else version)
        rows = await view.all(_recorded(policy.id, view.now - timedelta(hours=hours)))
    # Thousands of questions take seconds, and others wait for this thread.
    changes = await asyncio.to_thread(_changes, compiled(policy, found), rows[:MOST_REQUESTS])
    return DryRun(
        policy=policy.full_name,
        version=found.version,
        hours=hours,
        requests=sum(row["count"] for row in rows[:MOST_REQUESTS]),
        distinct=min(len(rows), MOST_REQUESTS),
        complete=len(rows) <= MOST_REQUESTS,
        newly_allowed=sum(change.count for change in changes if change.after == "allow"),
        newly_denied=sum(change.count for change in changes if change.after == "deny"),
        changes=tuple(changes[:MOST_CHANGES]),
    )


async def explain(
    mtls: Mtls, principal: Principal, name: str, question: PolicyCase, version: int | None = None
) -> Explanation:
    """What a version (default: the active one, else the newest) answers to a request. Needs ``mtls.view``.

    Raises NotFound, InvalidInput (``case-invalid``).
    """
    check_cases([question])
    async with mtls.database.read() as view:
        policy = await visible(view, principal, name, Permission.MTLS_VIEW)
        wanted = version if version is not None else policy.active_version or policy.latest_version
        found: PolicyVersion = await load_version(view, policy, wanted)
    request = question.request()
    outcome = compiled(policy, found).evaluate(request)
    return Explanation(
        policy.full_name, found.version, outcome.allowed, outcome.rules, request.attributes(), request.method,
        request.path,
    )  # fmt: skip


def _changes(asked: CompiledPolicy, rows: Sequence[Row]) -> list[ChangedDecision]:
    """What would be decided differently, the most frequent first."""
    readers: dict[bytes, tuple[CertifiedIdentity | None, str]] = {}
    changes = []
    for row in rows:
        outcome = asked.evaluate(_request(row, readers))
        before = "deny" if row["reason"] == "policy_denied" else "allow"
        after = "allow" if outcome.allowed else "deny"
        if before != after:
            changes.append(_changed(row, before, after, outcome.rules))
    changes.sort(key=lambda change: (-change.count, change.identity, change.path))
    return changes


def _recorded(policy_id: Any, since: datetime) -> Any:
    """Different requests at the ingresses of a policy, with the certificates they were made with."""
    e, i, b, c = access_event.c, models.ingress.c, identities.binding.c, authority_models.certificate
    asked = (e.ingress_id, e.ingress, e.fingerprint, e.method, e.host, e.path, e.source_ip, e.tls_version, e.reason)
    grouped = (
        select(
            *asked,
            func.count().label("count"),
            func.max(e.at).label("last_seen"),
            func.max(e.identity).label("who"),
        )
        .join(models.ingress, i.id == e.ingress_id)
        .where(
            i.policy_id == policy_id, e.at >= since, e.kind == "request", e.method != "", e.certificate_reason == "",
            e.fingerprint != b"", e.recorder != "import", e.reason != "ip_denied",
        )
        .group_by(*asked)
        .order_by(func.count().desc())
        .limit(MOST_REQUESTS + 1)
        .subquery()
    )  # fmt: skip
    return (
        select(grouped, c.c.der, b.ca)
        .outerjoin(identities.binding, b.certificate_sha256 == grouped.c.fingerprint)
        .outerjoin(c, c.c.id == b.id)
    )


def _request(row: Row, readers: dict[bytes, tuple[CertifiedIdentity | None, str]]) -> PolicyRequest:
    fingerprint = bytes(row["fingerprint"])
    if fingerprint not in readers:
        readers[fingerprint] = _holder(row)
    identity, issuer = readers[fingerprint]
    address = address_of(row["source_ip"])
    return PolicyRequest(
        identity=identity,
        issuer=issuer,
        ingress=row["ingress"].partition("~")[2],
        method=row["method"],
        host=normalized_host(row["host"]),
        path=normalized_path(row["path"]) or "",
        source_ip=str(address) if address else "",
        tls_version=row["tls_version"],
    )


def _holder(row: Row) -> tuple[CertifiedIdentity | None, str]:
    if row["der"] is None:
        return None, ""
    try:
        return read_identity(read_certificate(bytes(row["der"]))), row["ca"]
    except InvalidInput:
        return None, row["ca"]


def _changed(row: Row, before: str, after: str, rules: tuple[str, ...]) -> ChangedDecision:
    return ChangedDecision(
        row["who"], row["ingress"], row["method"], row["host"], row["path"], row["source_ip"], before, after, rules,
        row["count"], row["last_seen"],
    )  # fmt: skip
