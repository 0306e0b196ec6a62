"""How long certificates of each kind live: what a trust domain says, within what the profiles permit at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.identities.values import Kind, TrustDomain
from intaglio.profiles import registry
from intaglio.profiles.durations import Duration
from intaglio.profiles.model import CertificateProfile

SHORTEST = timedelta(minutes=5)
#: What a certificate may live unless the trust domain says otherwise. More, up to what the profile permits, has to be
#: said expressly.
USUAL_CEILINGS = {
    Kind.USER: timedelta(days=5),
    Kind.DEVICE: timedelta(days=90),
    Kind.WORKLOAD: timedelta(hours=72),
    Kind.SERVICE: timedelta(hours=72),
    Kind.PIPELINE: timedelta(hours=24),
}


def profile_of(kind: Kind) -> CertificateProfile:
    """The profile that certificates of this kind of identity are made with."""
    return registry.get(f"identity-{kind.value}")


@cache
def longest(kind: Kind) -> timedelta:
    """What no trust domain can exceed."""
    maximum = profile_of(kind).validity.maximum
    assert maximum is not None, "every profile of identities has one"
    return _span(maximum)


def lifetimes(given: Mapping[Kind, timedelta], ceilings: Mapping[Kind, timedelta]) -> dict[Kind, timedelta]:
    """What certificates of each kind get unless asked otherwise.

    Raises InvalidInput below five minutes, Refused (``lifetime-above-ceiling``) above the ceiling.
    """
    chosen = {kind: min(_span(profile_of(kind).validity.default), ceilings[kind]) for kind in Kind}
    for kind, span in given.items():
        chosen[kind] = _checked(kind, span, ceilings[kind], "lifetimes")
    return chosen


def ceilings(given: Mapping[Kind, timedelta]) -> dict[Kind, timedelta]:
    """The most certificates of each kind may get. Raises like :func:`lifetimes`."""
    return USUAL_CEILINGS | {kind: _checked(kind, span, longest(kind), "ceilings") for kind, span in given.items()}


def lifetime_for(domain: TrustDomain, kind: Kind, wanted: timedelta | None) -> timedelta:
    """What a certificate gets. Raises InvalidInput, Refused (``lifetime-above-ceiling``)."""
    if wanted is None:
        return domain.lifetimes[kind]
    return _checked(kind, wanted, domain.ceilings[kind], "lifetime")


def duration_of(text: str, *, target: str) -> timedelta:
    """A time span written as an ISO 8601 duration (``P5D``, ``PT24H``) of days and shorter. Raises InvalidInput."""
    try:
        duration = Duration.parse(text)
    except InvalidInput as error:
        raise InvalidInput(error.detail, code=error.code, remedy=error.remedy, target=target) from None
    if duration.months or duration.seconds > longest(Kind.USER).total_seconds() * 10:
        raise InvalidInput(
            f'"{text[:40]}" is no lifetime of an identity.',
            code="lifetime-invalid",
            remedy="Write days or hours: P5D, PT24H.",
            target=target,
        )
    return timedelta(seconds=duration.seconds)


def text_of(span: timedelta) -> str:
    """The ISO 8601 duration of a time span."""
    hours = span.total_seconds() / 3600
    return f"PT{hours:.0f}H" if hours % 1 == 0 and hours <= 72 else str(Duration(0, int(span.total_seconds())))


def _checked(kind: Kind, span: timedelta, most: timedelta, target: str) -> timedelta:
    if span < SHORTEST:
        raise InvalidInput(
            f"A certificate of {text_of(span)} would end before it is used.",
            code="lifetime-invalid",
            remedy=f"Use at least {text_of(SHORTEST)}.",
            target=target,
        )
    if span > most:
        raise Refused(
            f"A {kind} certificate may live for {text_of(most)}, not {text_of(span)}.",
            code="lifetime-above-ceiling",
            remedy=f"Use at most {text_of(most)}, and let it be renewed.",
            target=target,
        )
    return span


def _span(duration: Duration) -> timedelta:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return duration.after(start) - start
