"""The last scenario: thousands of services get their certificates and rotate them, and nobody lifts a hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.registry import NewIdentity
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity
from intaglio.mtls.scenarios.credentials import Held, new_key, new_request
from intaglio.mtls.scenarios.stage import DOMAIN, Stage, held_of

log = get_logger(__name__)

_AT_ONCE = 16
_SAMPLE = 20

T = TypeVar("T")
R = TypeVar("R")


async def thousands(stage: Stage) -> None:
    """Register, issue, rotate, and let a sample of them call."""
    count = stage.count
    await stage.open("allow if kind == service", networks=None)
    stage.note("IP rules", "", "", "0", "0")
    identities = await _registered(stage, count)
    stage.note("services registered", "", "", str(count), str(len(identities)))

    async def first(identity: Identity) -> tuple[IssuedIdentity, Held]:
        return await _issue(stage, identity, None)

    async def next_(before: tuple[IssuedIdentity, Held]) -> tuple[IssuedIdentity, Held]:
        return await _issue(stage, before[0].identity, before[0])

    issued = await _measured(stage, "issued", first, identities)
    rotated = await _measured(stage, "rotated", next_, issued)
    stage.note("certificates issued", "", "", str(count), str(len(issued)))
    stage.note("certificates rotated", "", "", str(count), str(len(rotated)))
    step = max(1, len(rotated) // _SAMPLE)
    for number, (_, held) in enumerate(rotated[::step][:_SAMPLE]):
        await stage.expect("a sample calls", "200", source=f"127.0.8.{number + 1}", held=held)


async def _registered(stage: Stage, count: int) -> list[Identity]:
    names = [f"scale-{number:05}" for number in range(count)]
    found = []
    for start in range(0, count, 500):
        stage.say(f"Registering services: {start} of {count} ...")
        part = names[start : start + 500]
        wanted = [NewIdentity(DOMAIN, "service", name, team="scenario") for name in part]
        added = await registry.add_identities(stage.mtls, stage.principal, wanted, skip_existing=True)
        known = {identity.name: identity for identity in added}
        for name in part:
            found.append(known.get(name) or await stage.identity("service", name))
    return found


async def _issue(stage: Stage, identity: Identity, before: IssuedIdentity | None) -> tuple[IssuedIdentity, Held]:
    """A certificate over a new key, asked for by the service itself."""
    key = new_key()
    issued = await issue_identity(
        stage.mtls,
        identity.principal(),
        identity,
        new_request(key),
        channel=Channel.AGENT if before is None else Channel.RENEWAL,
        renews=None if before is None else before.binding_id,
    )
    return issued, held_of(issued, key)


async def _measured(
    stage: Stage, what: str, work: Callable[[T], Awaitable[R]], items: Sequence[T]
) -> list[R]:
    """Do the work for all, several at once. Adds the rate and the number of failures to the figures."""
    waiting, done, failed = list(reversed(items)), [], 0
    began = monotonic()

    async def worker() -> None:
        nonlocal failed
        while waiting:
            item = waiting.pop()
            try:
                done.append(await work(item))
            except IntaglioError as error:
                failed += 1
                log.warning("a service did not get its certificate", reason=str(error))
            if (len(done) + failed) % 250 == 0:
                stage.say(f"Certificates {what}: {len(done)} of {len(items)} ...")

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    seconds = monotonic() - began
    stage.figures[f"{what}_per_second"] = round(len(done) / max(seconds, 0.001), 1)
    stage.figures[f"{what}_failures"] = failed
    return done
