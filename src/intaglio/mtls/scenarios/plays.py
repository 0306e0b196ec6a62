"""The scenarios, each as the list of what is tried. Addresses 127.0.x.y stand for networks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from intaglio.authority.certificates import RevocationReason
from intaglio.core.clock import monotonic
from intaglio.core.identifiers import serial_octets
from intaglio.mtls.access.decision import Facts
from intaglio.mtls.identities.revoking import revoke_serial
from intaglio.mtls.proxy.sources.platform import ingress_view
from intaglio.mtls.scenarios.clients import OpenConnection, ask, replay
from intaglio.mtls.scenarios.credentials import Held, make_authority, make_leaf
from intaglio.mtls.scenarios.scale import thousands
from intaglio.mtls.scenarios.stage import DOMAIN, OTHER_DOMAIN, Stage

INSIDE, INSIDER, OUTSIDE = "127.0.1.10", "127.0.1.66", "127.0.9.9"
_INTERNAL = ["127.0.1.0/24"]
#: Seconds within which a revoked credential has to be of no use any more.
TARGET = 60.0
_CONTAINERS = 10

Play = Callable[[Stage], Awaitable[None]]


async def admin_api(stage: Stage) -> None:
    admin = await stage.certified("device", "admin-workstation", roles=["admin"])
    clerk = await stage.certified("device", "clerk-workstation", roles=["clerk"])
    await stage.open('allow if "admin" in roles', networks=_INTERNAL)
    await stage.expect("administrator, outside", "ip_denied", source=OUTSIDE, held=admin)
    await stage.expect("nobody, outside", "ip_denied", source=OUTSIDE)
    await stage.expect("nobody, inside", "no_certificate", source=INSIDE)
    await stage.expect("clerk, inside", "policy_denied", source=INSIDE, held=clerk)
    await stage.expect("administrator, inside", "200", source=INSIDE, held=admin)


async def service_to_service(stage: Stage) -> None:
    orders = await stage.certified("service", "orders")
    reports = await stage.certified("service", "reports")
    await stage.open('allow if kind == service and name == "orders"', networks=_INTERNAL)
    await stage.expect("orders calls payments", "200", source=INSIDE, held=orders)
    await stage.expect("reports calls payments", "policy_denied", source=INSIDE, held=reports)
    await stage.expect("no certificate", "no_certificate", source=INSIDE)
    await stage.expect("orders, but from outside", "ip_denied", source=OUTSIDE, held=orders)


async def pipeline(stage: Stage) -> None:
    deploy = await stage.certified("pipeline", "shop-deploy")
    other = await stage.certified("pipeline", "blog-deploy")
    nat = "127.0.3.1"
    await stage.open('allow if kind == pipeline and name == "shop-deploy"', networks=[f"{nat}/32"])
    await stage.expect("the pipeline", "200", source=nat, held=deploy)
    await stage.expect("same address, no certificate", "no_certificate", source=nat)
    await stage.expect("same address, another pipeline", "policy_denied", source=nat, held=other)
    await stage.expect("the pipeline, another address", "ip_denied", source=OUTSIDE, held=deploy)


async def remote_team(stage: Stage) -> None:
    laptop = await stage.certified("device", "laptop-7")
    await stage.open("allow if kind == device", networks=None)
    for network in range(1, 6):
        source = f"127.0.4.{network * 40}"
        await stage.expect(f"laptop in network {network}", "200", source=source, held=laptop)
    await stage.expect("somebody in network 1", "no_certificate", source="127.0.4.40")
    stranger = make_leaf(make_authority("home-made"), "laptop-7")
    await stage.expect("home-made certificate", "unknown_ca", source="127.0.4.80", held=stranger)


async def autoscaling(stage: Stage) -> None:
    await stage.open("allow if kind == workload", networks=None)
    addresses = random.Random(5).sample(range(2, 250), _CONTAINERS)  # noqa: S311 - addresses, not secrets
    slowest = 0.0
    workload: Held | None = None
    for number, address in enumerate(addresses):
        began = monotonic()
        workload = await stage.certified("workload", f"web-{number}", service="web", lifetime=timedelta(minutes=5))
        await stage.expect(f"container {number} starts", "200", source=f"127.0.5.{address}", held=workload)
        slowest = max(slowest, monotonic() - began)
    assert workload is not None
    stage.figures["slowest_start_seconds"] = round(slowest, 3)
    usable = "usable within 5 s" if slowest < 5 else f"{slowest:.1f} s"
    stage.note("slowest start", "", f"{_CONTAINERS} containers", "usable within 5 s", usable)
    await stage.expect("a process without certificate", "no_certificate", source=f"127.0.5.{addresses[0]}")
    later = await _after_its_end(stage, workload)
    stage.note("the certificate a second after its end", "", workload.name, "expired", later)


async def insider(stage: Stage) -> None:
    orders = await stage.certified("service", "orders")
    await stage.other_environment()
    foreign = await stage.certified("service", "orders", domain=OTHER_DOMAIN)
    await stage.open('allow if kind == service and name == "orders"', networks=_INTERNAL)
    uri = f"spiffe://{DOMAIN}/env/scenario/team/scenario/svc/orders"
    await stage.expect("no certificate", "no_certificate", source=INSIDER)
    await stage.expect("self-signed", "self_signed", source=INSIDER, held=make_leaf(None, "orders", uri=uri))
    forged = make_leaf(make_authority("another CA"), "orders", uri=uri)
    await stage.expect("another CA", "unknown_ca", source=INSIDER, held=forged)
    await stage.expect("another environment", "wrong_environment", source=INSIDER, held=foreign)
    observed = await replay(stage.port, stage.server_authority.pem, orders, source=INSIDER)
    stage.note("copied certificate, replayed handshake, no key", INSIDER, orders.name, "refused", observed)
    await stage.expect("the service itself", "200", source=INSIDE, held=orders)


async def stolen_credential(stage: Stage) -> None:
    identity = await stage.identity("service", "billing")
    stolen = await stage.credential(identity)
    await stage.open('allow if kind == service and name == "billing"', networks=_INTERNAL)
    await stage.expect("thief with the stolen key", "200", source=INSIDER, held=stolen)
    connection = await OpenConnection.open(stage.port, stage.server_authority.pem, stolen, source=INSIDER)
    try:
        alive = "alive" if await connection.echoes() else "dead"
        stage.note("thief's open connection", INSIDER, stolen.name, "alive", alive)
        began = monotonic()
        await _revoke(stage, stolen)
        cut = await connection.until_cut(TARGET)
    finally:
        connection.close()
    since = None if cut is None else monotonic() - began
    stage.figures["cut_seconds"] = -1.0 if since is None else round(since, 3)
    observed = "cut within 60 s" if since is not None and since < TARGET else "still open"
    stage.note("open connection after revocation", INSIDER, stolen.name, "cut within 60 s", observed)
    stage.figures["refused_seconds"] = round(await _until_refused(stage, stolen, began), 3)
    await stage.expect("thief tries again", "revoked", source=INSIDER, held=stolen)
    renewed = await stage.credential(identity)
    await stage.expect("the service with its new certificate", "200", source=INSIDE, held=renewed)


PLAYS: dict[int, Play] = {
    1: admin_api,
    2: service_to_service,
    3: pipeline,
    4: remote_team,
    5: autoscaling,
    6: insider,
    7: stolen_credential,
    8: thousands,
}


async def _revoke(stage: Stage, held: Held) -> None:
    serial = serial_octets(held.certificate.serial_number).hex()
    await revoke_serial(
        stage.mtls, stage.principal, serial, RevocationReason.KEY_COMPROMISE, comment="Stolen, in a scenario."
    )


async def _until_refused(stage: Stage, held: Held, began: float) -> float:
    """Seconds since ``began`` at the first refusal, at most the target."""
    while monotonic() - began < TARGET:
        if await ask(stage.port, stage.server_authority.pem, held, source=INSIDER) == "revoked":
            break
    return monotonic() - began


async def _after_its_end(stage: Stage, held: Held) -> str:
    """What the ingress decides about a certificate a second after its end."""
    view = await ingress_view(stage.mtls, stage.ingress)
    at = held.certificate.not_valid_after_utc + timedelta(seconds=1)
    facts = Facts(view.id.id, INSIDE, at, (held.der,), "localhost", "GET", "/")
    return str((await stage.mtls.decider.decide_at(view, facts)).reason or "200")
