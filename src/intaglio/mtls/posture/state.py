"""Gathering what the posture checks look at: a handful of set-based queries, however many identities there are."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on

from intaglio.authority import models as authority_models
from intaglio.authority.access import Organization
from intaglio.authority.crls.stored import latest_crl
from intaglio.authority.directory import Snapshot
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError
from intaglio.db.engine import Transaction
from intaglio.mtls.access import models as access_models
from intaglio.mtls.access.cedar import admits_anybody
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.access.ingresses import load as load_ingress
from intaglio.mtls.access.values import Facts
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.models import drill
from intaglio.mtls.identities import models as identities
from intaglio.mtls.identities.bundles import bundle_of
from intaglio.mtls.identities.domains import load_all
from intaglio.mtls.identities.edges import services_without_edges
from intaglio.mtls.identities.environments import anchor_of
from intaglio.mtls.identities.ownership import without_owner
from intaglio.mtls.identities.values import AUTOMATED, Channel, TrustDomain
from intaglio.mtls.ingresses.kinds import KINDS
from intaglio.mtls.ingresses.plan import Layout, Plan, plan_of
from intaglio.mtls.ingresses.rendering import render
from intaglio.mtls.ingresses.renderings import stale_because
from intaglio.mtls.ingresses.service import latency_of_plan, status_of
from intaglio.mtls.observation.alert_models import alert_mute, alert_proof
from intaglio.mtls.observation.models import access_event
from intaglio.mtls.posture import models
from intaglio.mtls.posture.values import (
    EVENT_WINDOW,
    CertifiedState,
    DomainState,
    DrillState,
    EdgeState,
    IngressState,
    ScanState,
    State,
)
from intaglio.mtls.toolkit import strength

_MOST_UNMONITORED = 1000
#: Addresses of documentation (RFC 5737, RFC 3849) and a few others: one of them is outside of every sensible IP rule.
_OUTSIDE = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "10.255.255.254", "100.64.0.1", "8.8.8.8")
_AUTOMATIC = tuple(each.value for each in Channel if each not in (Channel.MANUAL, Channel.DRILL))


async def gather(mtls: Mtls, snapshot: Snapshot, view: Transaction, organization: Organization) -> State:
    """Everything about an organization, without the probe of the barriers (:func:`probed`)."""
    every = await load_all(view)
    own = [each for each in every if each.organization_id == organization.id and each.state not in ("draft", "retired")]
    drills = await _drills(view, organization.id)
    domains = [
        DomainState(
            name=each.name,
            environment=each.environment,
            trouble=await _ca_trouble(view, snapshot, each),
            foreign=tuple(sorted(_foreign(snapshot, each, every))),
            revoke_drill=drills.get((each.id, "revoke")),
            rotate_drill=drills.get((each.id, "rotate")),
            runbook_at=runbook.at if (runbook := drills.get((each.id, "runbook"))) else None,
        )
        for each in own
    ]
    certified = await _certified(view, organization.id)
    lonely = await services_without_edges(view, organization.id)
    proofs = await view.all(select(alert_proof).where(alert_proof.c.organization_id == organization.id))
    mutes = await view.all(select(alert_mute).where(alert_mute.c.organization_id == organization.id))
    return State(
        organization=organization.name,
        now=view.now,
        domains=tuple(domains),
        without_edges=tuple(each.uri for each in lonely),
        without_owner=tuple(await without_owner(view, organization.id)),
        services=len({each.name for each in certified if each.kind == "service"}),
        certified=tuple(certified),
        unmonitored=tuple(await _unmonitored(view, organization.id)),
        ingresses=tuple(await _ingresses(mtls, view, snapshot, organization, every)),
        edges=tuple(await _edges(view, organization.id)),
        scans=tuple(await _scans(view, organization.id)),
        proofs={row["kind"]: row["proved_at"] for row in proofs},
        mutes={row["kind"]: row["until"] for row in mutes},
    )


# ---- trust domains ---------------------------------------------------------------------------------------------------


async def _ca_trouble(view: Transaction, snapshot: Snapshot, domain: TrustDomain) -> str:
    ca = None if domain.issuing_ca_id is None else snapshot.cas.get(domain.issuing_ca_id)
    if ca is None or ca.state != "active" or not ca.generation:
        return "Its issuing CA is not active." if ca else "It has no issuing CA."
    if ca.broken_link is not None:
        return f"The certificate of {ca.broken_link.ca} is {ca.broken_link.status}."
    if ca.certificate.not_after <= view.now:
        return f"The certificate of {ca.full_id} ended {rfc3339(ca.certificate.not_after)}."
    crl = await latest_crl(view, ca, ca.generation)
    if crl is not None and crl.facts.next_update <= view.now:
        return f"The newest CRL of {ca.full_id} ended {rfc3339(crl.facts.next_update)}."
    return ""


def _foreign(snapshot: Snapshot, domain: TrustDomain, every: list[TrustDomain]) -> set[str]:
    """The other environments in which something that this trust domain trusts counts too."""
    mine = _trusted(snapshot, domain)
    return {
        other.environment
        for other in every
        if other.environment != domain.environment and mine & _trusted(snapshot, other)
    }


def _trusted(snapshot: Snapshot, domain: TrustDomain) -> set[UUID]:
    cas = [snapshot.cas[each] for each in domain.ca_ids if each in snapshot.cas]
    return {ca.id for ca in cas} | {anchor_of(snapshot, ca, domain.anchor).id for ca in cas}


async def _drills(view: Transaction, organization_id: UUID) -> dict[tuple[UUID, str], DrillState]:
    d = drill.c
    newest = (
        select(d.domain_id, d.kind, d.state, d.finished_at, d.figures)
        .ext(distinct_on(d.domain_id, d.kind))
        .where(d.organization_id == organization_id, d.finished_at.is_not(None))
        .order_by(d.domain_id, d.kind, d.id.desc())
    )
    found = {}
    for row in await view.all(newest):
        slowest = row["figures"].get("slowest_seconds")
        passed = row["state"] == "passed"
        found[row["domain_id"], row["kind"]] = DrillState(passed, row["finished_at"], slowest)
    return found


# ---- certificates ----------------------------------------------------------------------------------------------------


async def _certified(view: Transaction, organization_id: UUID) -> list[CertifiedState]:
    """One row per active machine and live certificate of it, one without certificate where there is none."""
    i, d, b, c = identities.identity.c, identities.trust_domain.c, identities.binding.c, authority_models.certificate.c
    old = identities.binding.alias("old")
    live = (
        select(b.identity_id, b.channel, b.not_before, b.not_after, c.der)
        .join_from(identities.binding, authority_models.certificate, c.id == b.id)
        .where(b.not_after > view.now, b.replaced_by.is_(None), c.status == "valid")
        .subquery("live")
    )
    renewed = (
        select(old.c.identity_id)
        .join_from(old, identities.binding, b.id == old.c.replaced_by)
        .where(b.channel.in_(_AUTOMATIC))
        .distinct()
        .subquery("renewed")
    )
    query = (
        select(
            i.kind, i.name, i.team, i.service, d.name.label("domain"), live.c.channel, live.c.not_before,
            live.c.not_after, live.c.der, renewed.c.identity_id.is_not(None).label("renewed"),
        )
        .join_from(identities.identity, identities.trust_domain, d.id == i.domain_id)
        .outerjoin(live, live.c.identity_id == i.id)
        .outerjoin(renewed, renewed.c.identity_id == i.id)
        .where(
            d.organization_id == organization_id,
            d.state != "retired",
            i.state == "active",
            i.kind.in_([kind.value for kind in AUTOMATED]),
        )
        .order_by(i.id)
    )  # fmt: skip
    return [
        CertifiedState(
            name=f"{row['kind']}:{row['name']}@{row['domain']}",
            kind=row["kind"],
            team=row["team"],
            service=row["service"],
            channel=row["channel"] or "",
            not_before=row["not_before"],
            not_after=row["not_after"],
            renewed=row["renewed"],
            weakness=_weakness(row["der"]) if row["der"] else "",
        )
        for row in await view.all(query)
    ]


def _weakness(der: bytes) -> str:
    certificate = x509.load_der_x509_certificate(der)
    signature = strength.signature(certificate.signature_algorithm_oid.dotted_string)[1]
    return signature or " ".join(strength.key(certificate.public_key())[2])


async def _unmonitored(view: Transaction, organization_id: UUID) -> list[str]:
    """Certificates that were let in and are bound to nobody: nothing here knows when they end."""
    e, b = access_event.c, identities.binding.c
    query = (
        select(e.fingerprint, func.max(e.claimed).label("claimed"))
        .where(
            e.organization_id == organization_id,
            e.at > view.now - EVENT_WINDOW,
            e.decision == "allow",
            e.fingerprint != b"",
            ~select(b.id).where(b.certificate_sha256 == e.fingerprint).exists(),
        )
        .group_by(e.fingerprint)
        .limit(_MOST_UNMONITORED)
    )
    return [row["claimed"] or bytes(row["fingerprint"]).hex() for row in await view.all(query)]


# ---- ingresses -------------------------------------------------------------------------------------------------------


async def ingresses_of(view: Transaction, organization_id: UUID) -> list[Ingress]:
    """The ingresses of an organization, by name."""
    i = access_models.ingress.c
    query = select(i.id).where(i.organization_id == organization_id, i.retired_at.is_(None)).order_by(i.name)
    return [await load_ingress(view, row["id"]) for row in await view.all(query)]


async def _ingresses(
    mtls: Mtls, view: Transaction, snapshot: Snapshot, organization: Organization, every: list[TrustDomain]
) -> list[IngressState]:
    domains = {each.id: each for each in every}
    counts = await _event_counts(view, organization.id)
    policies = await _policies(view, organization.id)
    found = []
    for ingress in await ingresses_of(view, organization.id):
        domain = domains[ingress.domain_id]
        trouble, bound = await _verification(mtls, view, snapshot, ingress, domain)
        found.append(
            IngressState(
                name=ingress.full_name,
                mode=ingress.mode,
                permissive_until=ingress.permissive_until,
                ip_rule=ingress.ip_rule,
                trouble=tuple(trouble),
                bound=bound,
                admits=_admits(ingress, policies),
                events=counts[ingress.id],
            )
        )
    return found


async def _verification(
    mtls: Mtls, view: Transaction, snapshot: Snapshot, ingress: Ingress, domain: TrustDomain
) -> tuple[list[str], float | None]:
    """What keeps an ingress from verifying fully, and the bound of its revocation latency."""
    if ingress.mode == "off":
        return [], None
    trouble = []
    if ingress.fail_mode == "open":
        trouble.append("It lets everybody in while no status can be looked up (fail mode open).")
    if domain.state == "retired":
        trouble.append(f'Its trust domain "{domain.name}" is retired.')
    try:
        plan = await _plan(mtls, view, snapshot, ingress, domain)
        if ingress.type in KINDS:
            render(plan)
        trouble += stale_because(ingress, plan.certificates)
        latency = latency_of_plan(plan)
    except IntaglioError as error:
        return [*trouble, error.detail], None
    bounds = (latency.seconds, latency.silent_seconds)
    known = [each for each in bounds if each is not None]
    return trouble, max(known) if len(known) == len(bounds) else None


async def _plan(
    mtls: Mtls, view: Transaction, snapshot: Snapshot, ingress: Ingress, domain: TrustDomain
) -> Plan:
    bundle = bundle_of(snapshot, domain.name, [domain])
    status = await status_of(view, snapshot, domain, mtls.settings.public_base)
    return plan_of(ingress, Layout(), bundle.anchors, bundle.certificates, status)


def _admits(ingress: Ingress, policies: dict[UUID, str | None]) -> str:
    if ingress.policy_id is None:
        return "It has no policy: any valid certificate gets in."
    source = policies.get(ingress.policy_id)
    if source is not None and admits_anybody(source):
        return f'Its policy "{ingress.policy}" has a rule that any valid certificate meets.'
    return ""


async def _policies(view: Transaction, organization_id: UUID) -> dict[UUID, str | None]:
    """The Cedar text of the active version, by policy."""
    p, v = access_models.policy.c, access_models.policy_version.c
    query = (
        select(p.id, v.cedar)
        .join_from(access_models.policy, access_models.policy_version, v.policy_id == p.id)
        .where(p.organization_id == organization_id, v.version == p.active_version)
    )
    return {row["id"]: row["cedar"] for row in await view.all(query)}


async def _event_counts(view: Transaction, organization_id: UUID) -> defaultdict[UUID, int]:
    e = access_event.c
    recent = (e.organization_id == organization_id, e.at > view.now - EVENT_WINDOW, e.kind != "loss")
    found: defaultdict[UUID, int] = defaultdict(int)
    for row in await view.all(select(e.ingress_id, func.count().label("n")).where(*recent).group_by(e.ingress_id)):
        found[row["ingress_id"]] = row["n"]
    return found


# ---- service edges and scans -----------------------------------------------------------------------------------------


async def _edges(view: Transaction, organization_id: UUID) -> list[EdgeState]:
    e = models.service_edge.c
    query = select(e.caller, e.callee, e.protocol, e.state).where(e.organization_id == organization_id)
    return [EdgeState(**row) for row in await view.all(query.order_by(e.caller, e.callee, e.protocol))]


async def _scans(view: Transaction, organization_id: UUID) -> list[ScanState]:
    s = models.scan_result.c
    rows = await view.all(select(models.scan_result).where(s.organization_id == organization_id).order_by(s.id))
    return [
        ScanState(
            kind=row["kind"],
            place=row["place"],
            complete=row["complete"],
            open_findings=row["open_findings"],
            findings=tuple((each["rule"], each["place"], each["text"]) for each in row["findings"]),
            at=row["recorded_at"],
        )
        for row in rows
    ]


# ---- the two barriers ------------------------------------------------------------------------------------------------


async def certificates_to_probe_with(view: Transaction, organization_id: UUID) -> dict[str, bytes]:
    """A live certificate of each trust domain of the organization that has any, by name of the domain."""
    d, b, c = identities.trust_domain.c, identities.binding.c, authority_models.certificate.c
    query = (
        select(d.name, c.der)
        .ext(distinct_on(d.name))
        .join_from(identities.trust_domain, identities.binding, b.domain_id == d.id)
        .join(authority_models.certificate, c.id == b.id)
        .where(
            d.organization_id == organization_id,
            b.not_after > view.now + timedelta(minutes=1),
            b.not_before <= view.now,
            c.status == "valid",
        )
        .order_by(d.name, b.id.desc())
    )
    return {row["name"]: bytes(row["der"]) for row in await view.all(query)}


async def probed(
    mtls: Mtls, ingress: Ingress, certificate: bytes | None, now: datetime
) -> tuple[bool | None, bool | None]:
    """Ask the decisions of an ingress twice, each time with one barrier satisfied and the other not.

    Returns whether the address alone, and the certificate alone, refuses; None where nothing could be tried. The first
    question needs a good certificate. Nothing of it is recorded as an access.
    """
    outside, inside = outside_of(ingress.ip_rule), inside_of(ingress.ip_rule)
    address: bool | None = None
    if outside is not None and certificate is not None:
        address = await _refused(mtls, Facts(ingress.id, outside, now, (certificate,)), by_address=True)
    elif outside is None:
        address = False
    return address, await _refused(mtls, Facts(ingress.id, inside, now), by_address=False)


async def _refused(mtls: Mtls, facts: Facts, *, by_address: bool) -> bool:
    decision = await mtls.decider.decide(facts)
    barrier: Any = decision.ip_allowed is False if by_address else decision.certificate_reason is not None
    return bool(barrier and not decision.allowed)


def outside_of(rule: tuple[str, ...] | None) -> str | None:
    """An address that the rule denies; None when there is no rule, or none of the usual addresses is outside."""
    if rule is None:
        return None
    allowed = [ipaddress.ip_network(each) for each in rule]
    for text in _OUTSIDE:
        address = ipaddress.ip_address(text)
        if not any(address in network for network in allowed):
            return text
    return None


def inside_of(rule: tuple[str, ...] | None) -> str:
    """An address that the rule allows; loopback when nothing is said, or nothing is allowed."""
    return str(ipaddress.ip_network(rule[0])[0]) if rule else "127.0.0.1"
