"""The rotation drill: renew, revoke, re-issue, and exchange the CA while both count, without refusing anybody good."""

from __future__ import annotations

from intaglio.authority.certificates import RevocationReason
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.access.ingress_values import NewIngress
from intaglio.mtls.access.ingresses import create_ingress, retire_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.probes import ACCEPTED, NOWHERE, Network, Probe
from intaglio.mtls.drills.service import Course, allowed, get_drill, probes_of, recorded, when_known
from intaglio.mtls.drills.values import TARGET_SECONDS, Drill
from intaglio.mtls.identities import domains
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.revoking import retire_identity
from intaglio.mtls.identities.rotation import finish_rotation, give_ca


async def rotation_drill(
    mtls: Mtls, principal: Principal, domain: str, *, network: Network = NOWHERE, rollover: bool = True
) -> Drill:
    """Renew a certificate, revoke the old one, issue anew; then exchange the CA.

    The exchange is rehearsed in a trust domain made for it, with CAs and an ingress of its own, so that nobody's bundle
    changes: both CAs count while it is rotating, only the new one afterwards. Without ``rollover`` it is left out, and
    the drill is not passed. Needs ``mtls.policy``, ``mtls.identities``, and for the exchange ``ca.configure``. Raises
    like the revocation drill.
    """
    found = await allowed(mtls, principal, domain)
    if rollover:
        principal.require(Permission.CA_CONFIGURE)
    probes = await probes_of(mtls, principal, found, network)
    async with recorded(mtls, principal, found, "rotate") as (course, drill_id):
        await _renewal(course, [each for each in probes if each.measures])
        if rollover:
            await _rollover(course)
        else:
            course.note("the CA is exchanged", "both count meanwhile", "left out")
    return await get_drill(mtls, principal, drill_id)


async def _renewal(course: Course, probes: list[Probe]) -> None:
    identity = await course.throw_away()
    try:
        first, first_id = await course.credential(identity)
        second, _ = await course.credential(identity, renews=first_id)
        for probe in probes:
            name = probe.ingress.full_name
            course.note("takes the renewed certificate", ACCEPTED, await when_known(probe, second), ingress=name)
            course.note("still takes the one before", ACCEPTED, await probe.ask(first), ingress=name)
        await course.revoke(first_id, RevocationReason.SUPERSEDED)
        for probe in probes:
            await course.see_refused(probe, first, "refuses the one before, revoked", TARGET_SECONDS)
            seen = await probe.ask(second)
            course.note("still takes the renewed certificate", ACCEPTED, seen, ingress=probe.ingress.full_name)
        third, _ = await course.credential(identity)
        for probe in probes:
            seen = await probe.ask(third)
            course.note("takes the certificate issued anew", ACCEPTED, seen, ingress=probe.ingress.full_name)
    finally:
        await retire_identity(course.mtls, course.principal, identity.id, comment="The drill is over.")


async def _rollover(course: Course) -> None:
    """Exchange the CA of a trust domain made for it; it is retired afterwards, with its CAs."""
    mtls, principal, real = course.mtls, course.principal, course.domain
    mark = new_id().hex[-8:]
    wanted = domains.NewDomain(
        f"drill-{mark}.{real.name}", f"drill-{mark}", real.organization, title="Made by a rotation drill",
        new_ca=NewCaWish(ca_id=f"d-{mark}-a"),
    )  # fmt: skip
    course.domain = await domains.create_domain(mtls, principal, wanted)
    made = NewIngress(f"drill-{mark}", real.organization, course.domain.name, type="gateway", mode="enforce")
    ingress = (await create_ingress(mtls, principal, made)).ingress
    try:
        await _exchange(course, Probe(mtls, ingress), f"d-{mark}-b")
    finally:
        await retire_ingress(mtls, principal, ingress.full_name)
        await domains.retire_domain(mtls, principal, course.domain.name)
        course.domain = real


async def _exchange(course: Course, probe: Probe, new_ca: str) -> None:
    mtls, principal, name = course.mtls, course.principal, course.domain.name
    identity = await course.throw_away()
    try:
        old, _ = await course.credential(identity)
        course.note("takes a certificate of the old CA", ACCEPTED, await when_known(probe, old))
        rotating = await give_ca(mtls, principal, name, new_ca=NewCaWish(ca_id=new_ca))
        course.note("the trust bundle while it is rotating", "rotating, 2 CAs", _bundle(rotating.state, rotating.cas))
        identity = await course.reloaded(identity)
        new, _ = await course.credential(identity)
        course.note("takes a certificate of the new CA", ACCEPTED, await when_known(probe, new))
        course.note("still takes one of the old CA", ACCEPTED, await probe.ask(old))
        finished = await finish_rotation(mtls, principal, name, force=True)
        course.note("the trust bundle afterwards", "active, 1 CAs", _bundle(finished.state, finished.cas))
        await course.see_refused(probe, old, "refuses one of the old CA", TARGET_SECONDS)
        course.note("still takes one of the new CA", ACCEPTED, await probe.ask(new))
    finally:
        await retire_identity(mtls, principal, identity.id, comment="The drill is over.")


def _bundle(state: str, cas: tuple[str, ...]) -> str:
    return f"{state}, {len(cas)} CAs"
