"""How soon a revocation counts at an ingress, at the latest: computed from what refreshes what, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from intaglio.mtls.ingresses.kinds import OWN_GATEWAY, Kind
from intaglio.mtls.ingresses.plan import Plan

#: Seconds after which a revoked certificate must be refused.
TARGET_SECONDS: Final = 60.0
#: Seconds that fetching one CRL may take.
FETCH_SECONDS: Final = 3
#: A process that has not heard of changes for this long does not decide (one second), and asks within one more.
_LIVE_SECONDS = 2.0
_TIMER_SECONDS = 0.2
_LEAST_STALE, _MOST_STALE = 10, 45


@dataclass(frozen=True)
class Step:
    """Something that takes time between a revocation and the first refusal. ``seconds`` None: there is no bound."""

    name: str
    seconds: float | None
    why: str


@dataclass(frozen=True)
class Latency:
    """The worst case of an ingress. ``seconds`` is None when nothing bounds it. ``silent_seconds`` is how long revoked
    certificates get in while the status source cannot be reached: until everybody is refused, None for no bound."""

    steps: tuple[Step, ...]
    silent_seconds: float | None
    advice: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """The sum of all steps."""
        known = [step.seconds for step in self.steps]
        return None if None in known else round(sum(each for each in known if each is not None), 1)

    @property
    def in_time(self) -> bool:
        """Whether the bound is within the target, with and without a status source that answers."""
        bounds = (self.seconds, self.silent_seconds)
        return all(each is not None and each <= TARGET_SECONDS for each in bounds)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The bound in words, step by step."""
        told = [f"{step.name}: {_span(step.seconds)} ({step.why})" for step in self.steps]
        told.append(f"Altogether at the latest: {_span(self.seconds)}")
        told.append(f"While the status source is silent: {_span(self.silent_seconds)}")
        return tuple(told)


def latency_of(plan: Plan, kind: Kind) -> Latency:
    """The worst case for a plan."""
    asks = plan.source == "live" or kind is OWN_GATEWAY
    steps = _live(kind) if asks else _ocsp(kind) if plan.source == "ocsp" else _crl(plan, kind)
    silent = _silent(plan, kind, steps)
    return Latency(tuple(steps), silent, tuple(_advice(plan, kind, steps, silent)))


def stale_seconds(plan: Plan, kind: Kind) -> int:
    """How long a silent status source is borne before everybody is refused: what was asked for, or as long as revoked
    certificates still are refused in time, within reason."""
    if plan.layout.stale_seconds:
        return plan.layout.stale_seconds
    rest = _after_stale(_crl(plan, kind)) if plan.source == "crl" and kind.timer else None
    return max(_LEAST_STALE, min(_MOST_STALE, int(TARGET_SECONDS - (rest or 0.0))))


def _after_stale(steps: list[Step]) -> float | None:
    """What passes after the last fetch is too long ago: until the timer sees it, has tried again, and all is applied.
    The last fetch may have been right before the revocation, so that its age counts in full."""
    after = [step.seconds for step in steps if step.name != "publish"]
    return None if None in after else sum(each for each in after if each is not None)


def _live(kind: Kind) -> list[Step]:
    return [
        Step("decision", _LIVE_SECONDS, "every request is decided from live status"),
        Step("apply", 0.0, f"{kind.title} asks for every request and keeps no answer"),
    ]


def _ocsp(kind: Kind) -> list[Step]:
    # A certificate is looked at when its connection is made, not for every request on it.
    open_ends = 30.0 if kind.name == "nginx" else 5.0 if kind.name == "apache" else None
    why = "a connection is kept for so long at most" if open_ends else "one that is open is not looked at again"
    return [
        Step("status", _LIVE_SECONDS, "OCSP answers come from live status"),
        Step("apply", 0.0, f"{kind.title} asks for every new connection and keeps no answer"),
        Step("open connections", open_ends, why),
    ]


def _crl(plan: Plan, kind: Kind) -> list[Step]:
    if not kind.timer:
        return [Step("status", None, kind.drain_reason)]
    crls = plan.status.crls
    publish = max((crl.publish_seconds for crl in crls), default=0.0)
    drain = kind.drain_seconds
    return [
        Step("publish", publish, "a CRL is issued after a revocation and served by every process"),
        Step("timer", plan.ingress.refresh_seconds + _TIMER_SECONDS, "CRLs are fetched at this interval"),
        Step("fetch", float(FETCH_SECONDS * len(crls)), f"{len(crls)} CRLs, at most {FETCH_SECONDS} s each, no cache"),
        Step("apply", kind.apply_seconds, "from the new file to the first connection that sees it"),
        Step("open connections", drain, kind.drain_reason or "none outlives the reload"),
    ]


def _silent(plan: Plan, kind: Kind, steps: list[Step]) -> float | None:
    opened = plan.ingress.fail_mode == "open" and kind.opens and plan.source != "ocsp"
    asks = plan.source == "live" or kind is OWN_GATEWAY
    if opened or (plan.source == "crl" and not kind.timer and not asks):
        return None
    if asks:
        return _LIVE_SECONDS
    if plan.source == "ocsp":
        ends = steps[-1].seconds
        return None if ends is None else _LIVE_SECONDS + ends
    rest = _after_stale(steps)
    return None if rest is None else round(stale_seconds(plan, kind) + rest, 1)


def _advice(plan: Plan, kind: Kind, steps: list[Step], silent: float | None) -> list[str]:
    told = []
    by_name = {step.name: step.seconds for step in steps}
    if (by_name.get("publish") or 0) > 10:
        told.append("Set crl_on_revoke=true on the CAs of the trust domain: intaglio ca edit CA --option ...")
    if (by_name.get("timer") or 0) > 20:
        told.append("Set the refresh of the ingress to 10 seconds: intaglio mtls ingress edit NAME --refresh 10.")
    if any(step.seconds is None for step in steps):
        better = "Set the revocation source to live" if "live" in kind.sources else "Put certificates of hours in front"
        told.append(f"{better}, or another kind of ingress before it: {kind.title} gives no bound here.")
    if plan.ingress.fail_mode == "open":
        told.append("Set the fail mode to closed: intaglio mtls ingress edit NAME --fail-mode closed.")
    elif silent is not None and silent > TARGET_SECONDS:
        told.append("Render with a smaller --stale-seconds, or let the ingress refresh more often.")
    return told


def _span(seconds: float | None) -> str:
    return "no bound" if seconds is None else f"{seconds:g} s"
