"""The rotation drill: renew, revoke, re-issue, and exchange the CA while both count, without refusing anybody good."""

from __future__ import annotations

from datetime import timedelta

from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.certificates import RevocationReason
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.access.ingress_values import NewIngress
from intaglio.mtls.access.ingresses import create_ingress, list_ingresses, retire_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.drills.probes import ACCEPTED, MADE_BY_DRILL, NOWHERE, Network, Probe
from intaglio.mtls.drills.service import Course, allowed, get_drill, probes_of, recorded, when_known
from intaglio.mtls.drills.values import TARGET_SECONDS, Drill
from intaglio.mtls.identities import domains, registry
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.revoking import retire_identity
from intaglio.mtls.identities.rotation import finish_rotation, give_ca

_TITLE = "Made by a rotation drill"


async def rotation_drill(
    mtls: Mtls,
    principal: Principal,
    domain: str,
    *,
    network: Network = NOWHERE,
    rollover: bool = True,
    unless_since: timedelta | None = None,
) -> Drill:
    """Renew a certificate, revoke the old one, issue anew; then exchange the CA.

    The exchange is rehearsed in a trust domain made for it, with CAs and an ingress of its own, so that nobody's bundle
    changes: both CAs count while it is rotating, only the new one afterwards. They are deleted at the end, or by the
    next drill. Without ``rollover`` it is left out, and the drill is not passed. Needs ``mtls.policy``,
    ``mtls.identities``, and for the exchange ``ca.configure`` and ``ca.operate``. Raises like the revocation drill.
    """
    found = await allowed(mtls, principal, domain)
    if rollover:
        principal.require(Permission.CA_CONFIGURE)
        principal.require(Permission.CA_OPERATE)
    probes = await probes_of(mtls, principal, found, network)
    async with recorded(mtls, principal, found, "rotate", unless_since=unless_since) as (course, drill_id):
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
    """Exchange the CA of a trust domain made for it; it is retired afterwards, and its CAs are deleted."""
    mtls, principal, real = course.mtls, course.principal, course.domain
    await _clear_away(course, real.organization)  # what a drill left behind that was broken off
    mark = new_id().hex[-8:]
    wanted = domains.NewDomain(
        f"drill-{mark}.{real.name}", f"drill-{mark}", real.organization, title=_TITLE,
        new_ca=NewCaWish(ca_id=f"d-{mark}-a"),
    )  # fmt: skip
    course.domain = await domains.create_domain(mtls, principal, wanted)
    made = NewIngress(
        f"drill-{mark}", real.organization, course.domain.name, type="gateway", mode="enforce",
        description=MADE_BY_DRILL,
    )  # fmt: skip
    try:
        ingress = (await create_ingress(mtls, principal, made)).ingress
        await _exchange(course, Probe(mtls, ingress), f"d-{mark}-b")
    finally:
        course.domain = real
        await _clear_away(course, real.organization)


async def _clear_away(course: Course, organization: str) -> None:
    """End the trust domains that were made by rotation drills of an organization, with all that is in them, and delete
    their CAs. What was done already is left out, so that nothing is lost when this is broken off."""
    mtls, principal = course.mtls, course.principal
    for each in await domains.list_domains(mtls, principal):
        if each.organization != organization or each.title != _TITLE or not each.name.startswith("drill-"):
            continue
        if each.state != "retired":
            for ingress in await list_ingresses(mtls, principal, domain=each.name):
                await retire_ingress(mtls, principal, ingress.full_name)
            asked = ListQuery(filter=(f"domain={each.name}", "state!=retired"))
            for identity in (await registry.list_identities(mtls, principal, asked)).identities:
                await retire_identity(mtls, principal, identity.id, comment="The drill is over.")
            await domains.retire_domain(mtls, principal, each.name)
        await _delete_cas(mtls, principal, organization, each.name)


async def _delete_cas(mtls: Mtls, principal: Principal, organization: str, domain: str) -> None:
    """Delete the CAs that were made for a trust domain of a drill, those below first."""
    mark = domain.partition(".")[0].removeprefix("drill-")
    made = {f"{organization}~d-{mark}-{side}{kind}" for side in "ab" for kind in ("", "-root")}
    there = {each.full_id for each in (await mtls.authority.current()).cas.values() if each.state != "deleted"}
    for full_id in sorted(made & there, key=lambda each: each.endswith("-root")):
        await delete_ca(mtls.authority, principal, full_id, revoke_all=True)


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
