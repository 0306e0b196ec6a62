"""Drills: revocation and rotation rehearsed with certificates made for it, and the evidence kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from sqlalchemy import Select, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import locks
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.authority.certificates import RevocationReason
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row as Stored
from intaglio.db.engine import Transaction
from intaglio.mtls.access.ingresses import list_ingresses
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.models import drill
from intaglio.mtls.drills.probes import ACCEPTED, MADE_BY_DRILL, NOWHERE, Network, Probe
from intaglio.mtls.drills.silence import SILENCE_SECONDS, door, refused_in_silence
from intaglio.mtls.drills.values import INTERVAL, KINDS, TARGET_SECONDS, Drill, Due, Kind, Row
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.domains import get_domain
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.revoking import retire_identity, revoke_binding
from intaglio.mtls.identities.values import Channel, Identity, TrustDomain
from intaglio.mtls.ingresses.service import ingress_latency
from intaglio.mtls.scenarios.credentials import Held, new_key, new_request
from intaglio.platform import outgoing
from intaglio.x509.certificates import pem

_LONGEST = timedelta(minutes=15)  # what is running for longer was broken off
_KNOWN_SECONDS = 15.0


@dataclass
class Course:
    """A drill under way: what it works with, and what it has seen so far."""

    mtls: Mtls
    principal: Principal
    domain: TrustDomain
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def note(
        self, step: str, expected: str, observed: str, *, ingress: str = "", seconds: float | None = None,
        passed: bool | None = None,
    ) -> None:  # fmt: skip
        """Add what was seen; it is passed when it is what was expected, unless said otherwise."""
        holds = observed == expected if passed is None else passed
        self.rows.append(Row(step, ingress, expected, observed, holds, seconds))

    async def throw_away(self) -> Identity:
        """An identity for this drill alone."""
        name = f"drill-{new_id().hex[-12:]}"
        wanted = registry.NewIdentity(self.domain.name, "service", name, team="drill", service=name)
        return await registry.add_identity(self.mtls, self.principal, wanted)

    async def credential(self, identity: Identity, *, renews: UUID | None = None) -> tuple[Held, UUID]:
        """A certificate of the identity with its key, and its binding."""
        key = new_key()
        issued = await issue_identity(
            self.mtls, self.principal, identity, new_request(key), channel=Channel.DRILL, renews=renews
        )
        issuers = tuple(pem(each).encode() for each in issued.chain)
        return Held(identity.name, x509.load_der_x509_certificate(issued.certificate), key, issuers), issued.binding_id

    async def revoke(
        self, binding_id: UUID, reason: RevocationReason = RevocationReason.CESSATION_OF_OPERATION
    ) -> None:
        """Revoke the certificate of a binding; what was renewed with it stays only when it is superseded."""
        await revoke_binding(self.mtls, self.principal, binding_id, reason, comment="Part of a drill.")

    async def reloaded(self, identity: Identity) -> Identity:
        """The identity with its trust domain as that is now."""
        return await registry.get_identity(self.mtls, self.principal, identity.id)

    async def see_refused(self, probe: Probe, held: Held, step: str, sla: float, began: float | None = None) -> None:
        """Wait until the ingress refuses a certificate, and note after how long."""
        seen, seconds = await probe.until_refused(held, monotonic() if began is None else began, sla)
        refused = seen != ACCEPTED and not seen.startswith("let in")
        self.figures["slowest_seconds"] = max(seconds, self.figures.get("slowest_seconds", 0.0))
        self.note(
            step, f"refused within {sla:g} s", seen, ingress=probe.ingress.full_name, seconds=seconds,
            passed=refused and seconds <= sla,
        )  # fmt: skip


# ---- the revocation drill --------------------------------------------------------------------------------------------


async def revocation_drill(
    mtls: Mtls,
    principal: Principal,
    domain: str,
    *,
    service: str | None = None,
    network: Network = NOWHERE,
    sla: float = TARGET_SECONDS,
    unless_since: timedelta | None = None,
) -> Drill:
    """Issue a certificate, see every ingress of the trust domain take it, revoke it, and measure until each refuses.

    It is issued for ``service``, or for an identity that is retired afterwards. Ingresses named in ``network`` are
    connected to; of others, the decisions that they enforce are asked, and for those that decide by themselves the
    bound is computed. What live decisions come to while no status is known is seen at an ingress made for it. Needs
    ``mtls.policy`` and ``mtls.identities``. Raises NotFound, InvalidInput, StateConflict
    (``drill-running``, ``drill-without-ingress``), and what issuing raises.
    """
    found = await allowed(mtls, principal, domain)
    probes = await probes_of(mtls, principal, found, network)
    async with recorded(mtls, principal, found, "revoke", unless_since=unless_since) as (course, drill_id):
        identity = (
            await course.throw_away() if service is None else await registry.get_identity(mtls, principal, service)
        )
        try:
            await _rehearse_revocation(course, identity, probes, sla)
        finally:
            if service is None:
                await retire_identity(mtls, principal, identity.id, comment="The drill is over.")
    return await get_drill(mtls, principal, drill_id)


async def _rehearse_revocation(course: Course, identity: Identity, probes: Sequence[Probe], sla: float) -> None:
    measured = [each for each in probes if each.measures]
    held, binding_id = await course.credential(identity)
    for probe in measured:
        seen = await when_known(probe, held)
        course.note("takes the new certificate", ACCEPTED, seen, ingress=probe.ingress.full_name)
    began = monotonic()
    await course.revoke(binding_id)
    step = "refuses the revoked certificate"
    await asyncio.gather(*(course.see_refused(probe, held, step, sla, began) for probe in measured))
    for probe in probes:
        await _compute(course, probe, sla)
    again, binding_id = await course.credential(identity)
    for probe in measured:
        seen = await probe.ask(again)
        course.note("takes the certificate issued anew", ACCEPTED, seen, ingress=probe.ingress.full_name)
    await _see_silence(course, measured, again)
    await course.revoke(binding_id)


async def _compute(course: Course, probe: Probe, sla: float) -> None:
    """The bounds that follow from the settings: for one that cannot be asked from here, and for a silent source."""
    name, expected = probe.ingress.full_name, f"at most {sla:g} s"
    try:
        latency = await ingress_latency(course.mtls, course.principal, name)
    except IntaglioError as error:
        course.note("bound of its configuration", expected, error.detail, ingress=name, passed=False)
        return
    if not probe.measures or probe.ingress.revocation_source != "live":
        silent = latency.silent_seconds
        _bound(course, "refuses everybody while no status is known (computed)", expected, name, silent, sla)
    if not probe.measures:
        _bound(course, "refuses a revoked certificate (computed)", expected, name, latency.seconds, sla)


async def _see_silence(course: Course, probes: Sequence[Probe], held: Held) -> None:
    """Take the status source away from an ingress made for it, once for each way to fail that is in use."""
    live = [each.ingress for each in probes if each.ingress.revocation_source == "live"]
    for fail_mode in sorted({each.fail_mode for each in live}):
        async with door(course.mtls, course.principal, course.domain, fail_mode) as opened:
            before = await when_known(opened.probe, held)
            seen, seconds = await refused_in_silence(opened, held)
            opened.restore()
            after = await when_known(opened.probe, held)
        refused = before == ACCEPTED and seen != ACCEPTED
        for each in (each for each in live if each.fail_mode == fail_mode):
            course.note(
                "refuses everybody while no status is known", f"refused within {SILENCE_SECONDS:g} s", seen,
                ingress=each.full_name, seconds=seconds, passed=refused and seconds <= SILENCE_SECONDS,
            )  # fmt: skip
            course.note("takes it again when status is known", ACCEPTED, after, ingress=each.full_name)


def _bound(course: Course, step: str, expected: str, ingress: str, seconds: float | None, sla: float) -> None:
    observed = "no bound" if seconds is None else f"{seconds:g} s"
    course.note(step, expected, observed, ingress=ingress, passed=seconds is not None and seconds <= sla)


# ---- for both drills -------------------------------------------------------------------------------------------------


async def when_known(probe: Probe, held: Held) -> str:
    """Ask until the certificate is taken, for a while: an ingress may hear of a new CA or identity a little later."""
    deadline = monotonic() + _KNOWN_SECONDS
    while True:
        seen = await probe.ask(held)
        if seen == ACCEPTED or monotonic() > deadline:
            return seen
        await asyncio.sleep(0.2)


async def allowed(mtls: Mtls, principal: Principal, domain: str) -> TrustDomain:
    """The trust domain, for who may rehearse in it. Raises Forbidden, NotFound."""
    principal.require(Permission.MTLS_POLICY)
    principal.require(Permission.MTLS_IDENTITIES)
    found = await get_domain(mtls, principal, domain)
    async with mtls.database.read() as view:
        await require_organization(view, principal, found.organization, Permission.MTLS_IDENTITIES)
    return found


async def probes_of(mtls: Mtls, principal: Principal, domain: TrustDomain, network: Network) -> list[Probe]:
    """How every ingress of a trust domain is asked.

    Raises NotFound, StateConflict (``drill-without-ingress``), Refused (``address-not-allowed``).
    """
    found = await list_ingresses(mtls, principal, domain=domain.name)
    ingresses = [each for each in found if each.mode != "off" and each.description != MADE_BY_DRILL]
    if unknown := set(network.urls) - {each.name for each in ingresses} - {each.full_name for each in ingresses}:
        raise NotFound(f'There is no ingress "{min(unknown)[:80]}" in this trust domain.', code="ingress-unknown")
    if not ingresses:
        raise StateConflict(
            f'No ingress of "{domain.name}" asks for certificates, so nothing could refuse one.',
            code="drill-without-ingress",
            remedy="Register one: intaglio mtls ingress add NAME.",
        )
    async with mtls.database.read() as view:
        guard = await outgoing.guard_of(view)
    await network.require_admitted(guard)
    urls = network.urls
    return [
        Probe(mtls, each, urls.get(each.full_name) or urls.get(each.name, ""), network.authority, guard)
        for each in ingresses
    ]


@contextlib.asynccontextmanager
async def recorded(
    mtls: Mtls, principal: Principal, domain: TrustDomain, kind: Kind, *, unless_since: timedelta | None = None
) -> AsyncIterator[tuple[Course, UUID]]:
    """Record a drill from its beginning to its end, whatever that is. Raises StateConflict: one is running
    (``drill-running``), or one of its kind began within ``unless_since`` (``drill-not-due``)."""
    drill_id, course = new_id(), Course(mtls, principal, domain)
    await _begin(mtls, principal, domain, kind, drill_id, unless_since)
    try:
        yield course, drill_id
    except IntaglioError as error:
        course.note("went wrong", "", error.detail, passed=False)
        await _end(course, kind, drill_id)
        raise
    await _end(course, kind, drill_id)


async def _begin(
    mtls: Mtls, principal: Principal, domain: TrustDomain, kind: Kind, drill_id: UUID, unless_since: timedelta | None
) -> None:
    d = drill.c
    async with mtls.database.transaction() as tx:
        await locks.lock(tx, "mtls-drill", domain.id)
        running = (d.domain_id == domain.id, d.state == "running", d.started_at > tx.now - _LONGEST)
        if await tx.scalar(select(d.id).where(*running)) is not None:
            raise StateConflict(
                f'A drill of "{domain.name}" is running.', code="drill-running", remedy="Wait until it is over."
            )
        if unless_since is not None:
            lately = (d.domain_id == domain.id, d.kind == kind, d.started_at > tx.now - unless_since)
            if await tx.scalar(select(d.id).where(*lately).limit(1)) is not None:
                raise StateConflict(f'A drill of "{domain.name}" took place already.', code="drill-not-due")
        values: dict[str, Any] = {"id": drill_id, "organization_id": domain.organization_id, "domain_id": domain.id}
        values |= {"kind": kind, "state": "running", "rows": [], "figures": {}}
        await tx.execute(insert(drill).values(**values, started_by=principal.name, started_at=tx.now))
        _note(tx, principal, f"start-{kind}", domain.name, domain.organization)


async def _end(course: Course, kind: Kind, drill_id: UUID) -> None:
    passed = bool(course.rows) and all(row.passed for row in course.rows)
    async with course.mtls.database.transaction() as tx:
        values: dict[str, Any] = {"state": "passed" if passed else "failed", "finished_at": clock.now()}
        values |= {"rows": [asdict(row) for row in course.rows], "figures": course.figures}
        await tx.execute(update(drill).where(drill.c.id == drill_id).values(**values))
        _note(
            tx, course.principal, kind, course.domain.name, course.domain.organization,
            outcome="success" if passed else "failed", figures=course.figures,
        )  # fmt: skip


# ---- what was done ---------------------------------------------------------------------------------------------------


async def list_drills(mtls: Mtls, principal: Principal, organization: str) -> list[Drill]:
    """The drills of an organization, newest first, at most 1000. Needs ``mtls.view``. Raises NotFound."""
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        query = _query().where(drill.c.organization_id == found.id).order_by(drill.c.id.desc()).limit(1000)
        return [_drill_of(row, view.now) for row in await view.all(query)]


async def get_drill(mtls: Mtls, principal: Principal, drill_id: UUID) -> Drill:
    """One drill with its evidence. Needs ``mtls.view``. Raises NotFound (``drill-unknown``)."""
    principal.require(Permission.MTLS_VIEW)
    query = _query().where(drill.c.id == drill_id)
    if not sees_all(principal):
        query = query.where(drill.c.organization_id.in_(memberships_of(principal.name)))
    async with mtls.database.read() as view:
        row = await view.one_or_none(query)
        if row is None:
            raise NotFound(f"There is no drill {drill_id}.", code="drill-unknown")
        return _drill_of(row, view.now)


async def due_drills(mtls: Mtls, principal: Principal, organization: str) -> list[Due]:
    """When each drill of each trust domain in use has to be repeated: 92 days after it was last passed, at once when it
    never was. Needs ``mtls.view``. Raises NotFound."""
    t, d = identities.trust_domain.c, drill.c
    async with mtls.database.read() as view:
        found = await require_organization(view, principal, organization, Permission.MTLS_VIEW)
        used = (t.organization_id == found.id, t.state.in_(("active", "rotating")))
        domains = await view.all(select(t.id, t.name, t.created_at).where(*used).order_by(t.name))
        passed = (d.organization_id == found.id, d.state == "passed")
        rows = await view.all(select(d.domain_id, d.kind, d.finished_at).where(*passed).order_by(d.id))
        now = view.now
    last = {(row["domain_id"], row["kind"]): row["finished_at"] for row in rows}
    return [_due(each, kind, last.get((each["id"], kind)), now) for each in domains for kind in KINDS]


def _due(domain: Stored, kind: Kind, last: datetime | None, now: datetime) -> Due:
    at = domain["created_at"] if last is None else last + INTERVAL
    return Due(domain["name"], kind, last, at, at <= now)


def _query() -> Select[Any]:
    o, t = authority_models.organization, identities.trust_domain
    return (
        select(drill, o.c.name.label("organization"), t.c.name.label("domain"))
        .join(o, o.c.id == drill.c.organization_id)
        .join(t, t.c.id == drill.c.domain_id)
    )


def _drill_of(row: Stored, now: datetime) -> Drill:
    same = ("id", "organization", "domain", "kind", "figures", "started_by", "started_at", "finished_at")
    aborted = row["state"] == "running" and row["started_at"] <= now - _LONGEST
    rows = tuple(Row(**each) for each in row["rows"])
    return Drill(**{name: row[name] for name in same}, state="aborted" if aborted else row["state"], rows=rows)


def _note(
    tx: Transaction, principal: Principal, verb: str, domain: str, organization: str,
    outcome: audit.Outcome = "success", **detail: Any,
) -> None:  # fmt: skip
    audit.record(
        tx, principal, f"drill.{verb}", "trust-domain", domain, outcome=outcome, organization=organization, **detail
    )
