"""The validity step: from when until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from intaglio.core.clock import rfc3339
from intaglio.core.errors import Refused
from intaglio.profiles.engine.refusals import invalid, refused
from intaglio.profiles.engine.values import Issuer, RequestedValidity
from intaglio.profiles.model import CertificateProfile

#: notBefore lies this far back unless asked for, for relying parties whose clocks are slow.
BACKDATING: Final = timedelta(minutes=5)
#: An explicit notBefore may lie this far back, never further: a certificate must not seem older than it is.
LONGEST_BACKDATING: Final = timedelta(hours=48)


def validity_period(
    profile: CertificateProfile,
    issuer: Issuer,
    requested: RequestedValidity | None,
    now: datetime,
    *,
    shorten_only: bool = False,
    clamp: bool = False,
    backdating: timedelta = BACKDATING,
) -> tuple[datetime, datetime]:
    """(not_before, not_after) in whole seconds, never before or beyond the issuer's own.

    The default is shortened to the issuer's end; an end that was asked for and lies later is refused
    (``validity-beyond-issuer``, ``validity-beyond-profile``) or, with ``clamp``, moved. An end equal to the issuer's is
    fine. Durations count from ``now``, or from the requested notBefore; a notBefore that lies a little before the
    issuer's becomes the issuer's.
    """
    now = now.replace(microsecond=0)
    if not issuer.not_before - backdating <= now <= issuer.not_after:
        raise refused(
            "validity",
            "validity-beyond-issuer",
            f'CA "{issuer.name}" is valid from {rfc3339(issuer.not_before)} to {rfc3339(issuer.not_after)}, not now.',
            "Renew the CA, or choose another one.",
        )
    if requested is None or requested == RequestedValidity():
        return _default_period(profile, issuer, now, backdating)
    if profile.validity.fixed:
        if not clamp:
            _check_fixed(profile, requested, now)
        return _default_period(profile, issuer, now, backdating)
    return _requested_period(profile, issuer, requested, now, shorten_only=shorten_only, clamp=clamp, skew=backdating)


def _default_period(
    profile: CertificateProfile, issuer: Issuer, now: datetime, backdating: timedelta
) -> tuple[datetime, datetime]:
    not_after = min(profile.validity.default.after(now), issuer.not_after)
    return _backdated(profile, issuer, now, not_after, backdating), not_after


def _requested_period(
    profile: CertificateProfile,
    issuer: Issuer,
    requested: RequestedValidity,
    now: datetime,
    *,
    shorten_only: bool,
    clamp: bool,
    skew: timedelta,
) -> tuple[datetime, datetime]:
    start = _requested_start(issuer, requested, now, skew if shorten_only else LONGEST_BACKDATING)
    latest, code, because = _latest_end(profile, issuer, start or now, now, shorten_only=shorten_only)
    not_after, explicit = _requested_end(profile, requested, start or now)
    if not_after > latest:
        if explicit and not clamp:
            raise _too_late(not_after, latest, code, because)
        not_after = latest
    not_before = _backdated(profile, issuer, now, not_after, skew) if start is None else start
    if not_after <= max(not_before, now):
        raise invalid(
            "validity",
            "validity-in-the-past",
            f"A validity until {rfc3339(not_after)} would be over before it began.",
            "Ask for an end in the future, after the beginning.",
            target="validityPeriod",
        )
    return not_before, not_after


def _requested_start(
    issuer: Issuer, requested: RequestedValidity, now: datetime, longest_backdating: timedelta
) -> datetime | None:
    if requested.not_before is None:
        return None
    start = requested.not_before.replace(microsecond=0)
    if start > issuer.not_after:
        raise refused(
            "validity",
            "validity-beyond-issuer",
            f'A beginning at {rfc3339(start)} lies after the end of CA "{issuer.name}", {rfc3339(issuer.not_after)}.',
            "Ask for an earlier beginning.",
            target="validityPeriod",
        )
    if start < now - longest_backdating:
        raise refused(
            "validity",
            "validity-backdated",
            f"A beginning at {rfc3339(start)} would backdate the certificate by more than {longest_backdating}.",
            "Leave the beginning out of the request.",
            target="validityPeriod",
        )
    return max(start, issuer.not_before)


def _requested_end(profile: CertificateProfile, requested: RequestedValidity, start: datetime) -> tuple[datetime, bool]:
    if requested.not_after is not None and requested.duration is not None:
        raise invalid(
            "validity",
            "validity-ambiguous",
            "The request names both an end and a duration.",
            "Send one of them.",
            target="validityPeriod",
        )
    if requested.not_after is not None:
        return requested.not_after.replace(microsecond=0), True
    if requested.duration is not None:
        return requested.duration.after(start), True
    return profile.validity.default.after(start), False


def _latest_end(
    profile: CertificateProfile, issuer: Issuer, start: datetime, now: datetime, *, shorten_only: bool
) -> tuple[datetime, str, str]:
    """The latest permitted end, the code of a refusal beyond it, and whose limit it is."""
    limit, since = (profile.validity.default, now) if shorten_only else (profile.validity.maximum, start)
    if limit is not None and (end := limit.after(since)) < issuer.not_after:
        return end, "validity-beyond-profile", f'profile "{profile.id}" permits {limit}'
    return issuer.not_after, "validity-beyond-issuer", f'CA "{issuer.name}" itself ends then'


def _check_fixed(profile: CertificateProfile, requested: RequestedValidity, now: datetime) -> None:
    """A request may repeat what a fixed profile gives anyway, within the tolerance of clocks."""
    start = requested.not_before or now
    end, _ = _requested_end(profile, requested, start)
    if abs(start - now) > BACKDATING or abs(end - profile.validity.default.after(now)) > BACKDATING:
        raise refused(
            "validity",
            "validity-fixed",
            f'Profile "{profile.id}" issues for {profile.validity.default}; a request cannot say otherwise.',
            "Leave the validity out of the request.",
            target="validityPeriod",
        )


def _too_late(not_after: datetime, latest: datetime, code: str, because: str) -> Refused:
    return refused(
        "validity",
        code,
        f"A validity until {rfc3339(not_after)} is too long: {because}.",
        f"Ask for an end not later than {rfc3339(latest)}.",
        target="validityPeriod",
    )


def _backdated(
    profile: CertificateProfile, issuer: Issuer, now: datetime, not_after: datetime, backdating: timedelta
) -> datetime:
    """A little before now, but not before the issuer began and not so far that the profile's maximum is exceeded."""
    not_before = max(now - backdating, issuer.not_before)
    maximum = profile.validity.maximum
    if maximum is not None and maximum.after(not_before) < not_after:
        return max(now, issuer.not_before)
    return not_before
