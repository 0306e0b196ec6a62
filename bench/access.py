"""``access``: access decisions in process, with status, IP rule and policy, and each of them recorded."""

from __future__ import annotations

import asyncio
import time

from bench import access_house
from bench.figure import Figure
from bench.installation import Installation
from intaglio.core import clock
from intaglio.mtls.access.decision import Facts, event_of

CALLERS = 300
PATHS = tuple(f"/pay/{number}" for number in range(20))
DECISIONS = 30_000
BREATH = 50  # decisions after which the event loop gets its turn, as it would between requests
P50_MS, P99_MS = 1.0, 5.0


def measure() -> Figure:
    """300 callers and 20 paths in turn: the first decisions about each are made anew, later ones partly remembered."""
    figure = Figure("access")
    with access_house.house() as product:
        times, first, refused = asyncio.run(_decide(product))
    ordered = sorted(times)
    p50, p99 = ordered[len(ordered) // 2] * 1000, ordered[len(ordered) * 99 // 100] * 1000
    new = sorted(first)[len(first) // 2] * 1000
    about = f"{DECISIONS:,} decisions, {CALLERS} callers, {len(PATHS)} paths, {refused} refused"
    figure.add("p50", p50, "ms", "<", P50_MS, about)
    figure.add("p99", p99, "ms", "<", P99_MS)
    figure.add("p50 of callers never seen before", new, "ms", "<", P99_MS, "judged anew, status from the database")
    figure.measured = {"p50_ms": p50, "p99_ms": p99, "first_p50_ms": new, "refused": refused}
    return figure


async def _decide(product: Installation) -> tuple[list[float], list[float], int]:
    async with access_house.services(product) as made:
        certificates = await access_house.issued(made, product.work, CALLERS)
        mtls = made.mtls
        configuration = await mtls.decider.configuration()
        ingress = next(view for view in configuration.ingresses.values() if view.id.name == access_house.INGRESS)
        times: list[float] = []
        refused = 0
        for number in range(DECISIONS):
            facts = Facts(
                ingress=ingress.id.id,
                source_ip=f"127.0.{number % 4}.{number % 250 + 1}",
                at=clock.now(),
                presented=(certificates[number % CALLERS],),
                host="api.bench.test",
                method="GET",
                path=PATHS[number // CALLERS % len(PATHS)],
                tls_version="TLSv1.3",
                cipher="TLS_AES_256_GCM_SHA384",
            )
            begun = time.perf_counter()
            decision = await mtls.decider.decide(facts)
            mtls.events.record(event_of(facts, decision))
            times.append(time.perf_counter() - begun)
            refused += not decision.allowed
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return times, times[:CALLERS], refused
