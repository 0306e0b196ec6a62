"""Rendering for a registered ingress, and the bound of its revocation latency."""

from __future__ import annotations

import asyncio

from intaglio.audit import record as audit
from intaglio.authority.crls.stored import latest_crl
from intaglio.authority.directory import CaView, Snapshot
from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.access.ingresses import visible
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import cas_of
from intaglio.mtls.identities.bundles import bundle_of, export_bundle
from intaglio.mtls.identities.domains import load_by_name
from intaglio.mtls.identities.environments import anchor_of
from intaglio.mtls.identities.values import TrustDomain
from intaglio.mtls.ingresses.checking import Checked, check
from intaglio.mtls.ingresses.kinds import KINDS, OWN_GATEWAY
from intaglio.mtls.ingresses.latency import Latency, latency_of
from intaglio.mtls.ingresses.plan import CrlSource, Layout, Plan, Status, plan_of
from intaglio.mtls.ingresses.rendering import Rendering, render
from intaglio.mtls.ingresses.renderings import Rendered, note_rendering, stale_because
from intaglio.x509 import pem
from intaglio.x509.certificates import CertificateInfo, read_certificates

#: Issued within a second of the revocation, and known to every process within another.
_PROMPT_SECONDS = 2.0


async def render_ingress(mtls: Mtls, principal: Principal, name: str, layout: Layout) -> Rendering:
    """The configuration for an ingress. Needs ``mtls.view``; with a token in the layout ``mtls.policy``.

    Raises NotFound, InvalidInput (``layout-invalid``), StateConflict when its type or settings allow none.
    """
    needed = Permission.MTLS_POLICY if layout.token else Permission.MTLS_VIEW
    plan = await plan_for(mtls, principal, name, layout, needed)
    made = render(plan)
    async with mtls.database.transaction() as tx:
        audit.record(
            tx, principal, "ingress.render", "ingress", plan.ingress.full_name,
            organization=plan.ingress.organization, type=plan.ingress.type, mode=plan.ingress.mode,
        )  # fmt: skip
        await note_rendering(tx, plan)
    return made


async def look_at_rendering(mtls: Mtls, principal: Principal, name: str) -> Rendered:
    """Whether what was rendered last for an ingress is what would be rendered now. Needs ``mtls.view``. Raises
    NotFound."""
    snapshot = await mtls.authority.current()
    async with mtls.database.read() as view:
        ingress = await visible(view, principal, name, Permission.MTLS_VIEW)
        domain = await load_by_name(view, ingress.domain)
    bundle = bundle_of(snapshot, domain.name, [domain])
    return Rendered(ingress.full_name, ingress.rendered_at, tuple(stale_because(ingress, bundle.certificates)))


async def ingress_latency(mtls: Mtls, principal: Principal, name: str, layout: Layout | None = None) -> Latency:
    """How soon a revocation counts at an ingress at the latest. Needs ``mtls.view``. Raises NotFound."""
    plan = await plan_for(mtls, principal, name, layout or Layout(), Permission.MTLS_VIEW)
    return latency_of_plan(plan)


def latency_of_plan(plan: Plan) -> Latency:
    """The bound for a plan; an ingress of a type without files asks for decisions itself."""
    return latency_of(plan, KINDS.get(plan.ingress.type, OWN_GATEWAY))


async def plan_for(mtls: Mtls, principal: Principal, name: str, layout: Layout, needed: Permission) -> Plan:
    """The plan for an ingress that the principal sees. Raises NotFound, InvalidInput, StateConflict."""
    snapshot = await mtls.authority.current()
    async with mtls.database.read() as view:
        ingress = await visible(view, principal, name, needed)
        domain = await load_by_name(view, ingress.domain)
        bundle = bundle_of(snapshot, domain.name, [domain])
        status = await status_of(view, snapshot, domain, mtls.settings.public_base)
    return plan_of(ingress, layout, bundle.anchors, bundle.certificates, status)


async def status_of(view: Transaction, snapshot: Snapshot, domain: TrustDomain, base: str) -> Status:
    """Where the status of the certificates of a trust domain is learnt: one CRL for every key of every CA of its chains
    that still counts. ``whole`` is false when one of them has no CRL here."""
    found: dict[str, CrlSource] = {}
    whole = True
    for ca in _chain_cas(snapshot, domain):
        for generation, key in sorted(ca.keys.items()):
            certificate = key.certificate
            counts = certificate is not None and key.certificate_status == "valid"
            if certificate is None or not counts or certificate.not_after <= snapshot.read_at:
                continue
            crl = await latest_crl(view, ca, generation)
            if crl is None or ca.options.crl_partitions:
                whole = False
                continue
            source = f"{ca.name}-{generation}"
            found[source] = CrlSource(
                name=source,
                url=ca.urls.crl(generation),
                issuer=certificate.pem,
                pem=pem.encode("X509 CRL", crl.der),
                publish_seconds=_publish_seconds(ca),
            )
    return Status(tuple(found.values()), f"{base}/ocsp", whole and bool(found))


def _chain_cas(snapshot: Snapshot, domain: TrustDomain) -> list[CaView]:
    """The issuing CAs of a trust domain and what is above them up to its anchors, each once."""
    found: dict[str, CaView] = {}
    for each in cas_of(snapshot, domain):
        ca: CaView | None = each
        anchor = anchor_of(snapshot, each, domain.anchor)
        while ca is not None:
            found[ca.full_id] = ca
            ca = None if ca.id == anchor.id or ca.issuer_id is None else snapshot.cas.get(ca.issuer_id)
    return list(found.values())


def _publish_seconds(ca: CaView) -> float:
    """How long after a revocation a CRL says so at the latest."""
    if ca.options.crl_on_revoke:
        return _PROMPT_SECONDS
    interval = ca.options.crl_interval
    return _PROMPT_SECONDS + (interval.total_seconds() if interval else 366 * 86_400.0)


def is_rendered(ingress: Ingress) -> bool:
    """Whether files are made for an ingress of this type."""
    return ingress.type in KINDS


async def check_configuration(
    mtls: Mtls, principal: Principal, text: str, kind: str | None = None, *, bundle: str = "", domain: str = ""
) -> Checked:
    """The findings of a configuration; with ``bundle`` (PEM) and ``domain`` its trust bundle is compared with that of
    the trust domain. Needs ``mtls.view``. Raises as :func:`intaglio.mtls.ingresses.checking.check`, and NotFound."""
    principal.require(Permission.MTLS_VIEW)
    if bool(bundle) != bool(domain):
        raise InvalidInput("A bundle is compared with the one of a trust domain; name both.", target="trust_domain")
    given = read_certificates(bundle) if bundle else None
    trusted = await trusted_in(mtls, principal, domain) if domain else None
    # Reading YAML takes its time, and others wait for this thread.
    return await asyncio.to_thread(check, text, kind, bundle=given, trusted=trusted)


async def trusted_in(mtls: Mtls, principal: Principal, domain: str) -> list[CertificateInfo]:
    """The CAs whose certificates count in a trust domain. Needs ``mtls.view`` or ``mtls.own``. Raises NotFound."""
    bundle = await export_bundle(mtls, principal, domain)
    return list(bundle.certificates)
